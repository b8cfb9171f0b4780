#!/usr/bin/env bash
# Installs what the tests need, then runs linters, type checks and tests.
#
#   ./scripts/test.sh                       everything
#   ./scripts/test.sh --fast                without simulators, Ray, a browser, and what takes long
#   ./scripts/test.sh tests/flow -x         arguments go to pytest
#   PYTHON=python3.12 ./scripts/test.sh     with another Python, see setup_venv.sh
set -euo pipefail
cd "$(dirname "$0")/.."
which_tests=()
if [ "${1:-}" = --fast ]; then
  shift
  which_tests=(-m "not (simulator or ray or browser or slow)")
fi
# robosuite compiles a small package against Linux headers; where that cannot be, its tests skip.
if ! ./scripts/setup_venv.sh all; then
  echo "robosuite cannot be installed here: its tests will be skipped"
  ./scripts/setup_venv.sh sim,deploy,ray,pretrained,docs,dev
fi
bin="$(./scripts/setup_venv.sh --folder)/bin"
# The reference that datasets are compared with; what it asks for beside it (torchvision, a package
# that compiles) nobody needs for that.
if ! "$bin/python" -c "import robomimic" 2>/dev/null; then
  "$bin/python" -m pip install --quiet --no-deps "robomimic>=0.3,<0.4" \
    || echo "robomimic cannot be installed here: its tests will be skipped"
fi
# It asks for MuJoCo 3.3.0 and works with the one of ALOHA, which asks for a later 3.3.
if ! "$bin/python" -c "import metaworld" 2>/dev/null; then
  "$bin/python" -m pip install --quiet --no-deps "metaworld>=3.1,<4" \
    || echo "metaworld cannot be installed here: its tests will be skipped"
fi
# One torch thread per test process: more threads than cores make everything many times slower.
export OMP_NUM_THREADS=1 SDL_VIDEODRIVER=dummy
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
"$bin/python" -m pytest --numprocesses "${LFM_POLICY_TEST_PROCESSES:-2}" --dist loadfile \
  --durations 10 ${which_tests[@]+"${which_tests[@]}"} "$@"
