#!/usr/bin/env bash
# Installs what the tests need into .venv, then runs linters, type checks and tests.
# Arguments go to pytest: ./scripts/test.sh tests/flow -x
set -euo pipefail
cd "$(dirname "$0")/.."
# robosuite compiles a small package against Linux headers; where that cannot be, its tests skip.
if ! ./scripts/setup_venv.sh all; then
  echo "robosuite cannot be installed here: its tests will be skipped"
  ./scripts/setup_venv.sh sim,deploy,ray,pretrained,dev
fi
# The reference that datasets are compared with; what it asks for beside it (torchvision, a package
# that compiles) nobody needs for that.
if ! .venv/bin/python -c "import robomimic" 2>/dev/null; then
  .venv/bin/python -m pip install --quiet --no-deps "robomimic>=0.3,<0.4" \
    || echo "robomimic cannot be installed here: its tests will be skipped"
fi
# One torch thread per test process: more threads than cores make everything many times slower.
export OMP_NUM_THREADS=1 SDL_VIDEODRIVER=dummy
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m pytest --numprocesses "${LFM_POLICY_TEST_PROCESSES:-2}" --dist loadfile --durations 10 "$@"
