#!/usr/bin/env bash
# Creates an environment if it is missing and installs the runtime and the package with the extras
# given. Installs again only when a pyproject.toml, the extras or the Python version changed.
#
#   ./scripts/setup_venv.sh sim,dev                      in .venv
#   PYTHON=python3.12 ./scripts/setup_venv.sh sim,dev    in .venv-3.12, unless .venv is of 3.12
#   ./scripts/setup_venv.sh --folder                     only prints which folder that would be
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"

version_of() { "$1" -c 'import sys; print("{}.{}".format(*sys.version_info))'; }
folder=".venv"
if [ -n "${PYTHON:-}" ]; then
  if ! wanted="$(version_of "$python")"; then
    echo "error: PYTHON=$python cannot be run" >&2
    exit 2
  fi
  # An environment is never turned into one of another version.
  if [ -x .venv/bin/python ] && [ "$(version_of .venv/bin/python)" != "$wanted" ]; then
    folder=".venv-$wanted"
  fi
fi
if [ "${1:-}" = --folder ]; then
  echo "$folder"
  exit 0
fi
extras="${1:-sim}"

if [ ! -x "$folder/bin/python" ]; then
  echo "creating $folder with $("$python" --version)"
  "$python" -m venv "$folder"
fi

stamp="$folder/.lfm-policy-installed"
wanted="$(cat pyproject.toml runtime/pyproject.toml | sha256sum | cut -c1-16) $extras $("$folder/bin/python" --version)"
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
  exit 0
fi
echo "installing lfm-policy[$extras] into $folder"
pip=("$folder/bin/python" -m pip install --quiet)
"${pip[@]}" --upgrade pip
# torch goes first and by version: another package must not choose a build of it.
if ! "$folder/bin/python" -c "import torch" 2>/dev/null; then
  "${pip[@]}" "torch==${LFM_POLICY_TORCH_VERSION:-2.13.0}"
fi
"${pip[@]}" --editable ./runtime --editable ".[$extras]"
echo "$wanted" > "$stamp"
