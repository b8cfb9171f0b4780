#!/usr/bin/env bash
# Installs what the tests need into .venv, then runs linters, type checks and tests.
# Arguments go to pytest: ./scripts/test.sh tests/flow -x
set -euo pipefail
cd "$(dirname "$0")/.."
./scripts/setup_venv.sh sim,dev
# One torch thread per test process: more threads than cores make everything many times slower.
export OMP_NUM_THREADS=1 SDL_VIDEODRIVER=dummy
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m pytest --numprocesses "${LFM_POLICY_TEST_PROCESSES:-2}" --dist loadfile --durations 10 "$@"
