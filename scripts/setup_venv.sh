#!/usr/bin/env bash
# Creates .venv if it is missing and installs the runtime and the package with the extras given
# ("sim,dev"). Installs again only when a pyproject.toml, the extras or the Python version changed.
set -euo pipefail
cd "$(dirname "$0")/.."
extras="${1:-sim}"
python="${PYTHON:-python3}"

if [ ! -x .venv/bin/python ]; then
  echo "creating .venv with $("$python" --version)"
  "$python" -m venv .venv
fi

stamp=".venv/.lfm-policy-installed"
wanted="$(cat pyproject.toml runtime/pyproject.toml | sha256sum | cut -c1-16) $extras $(.venv/bin/python --version)"
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
  exit 0
fi
echo "installing lfm-policy[$extras] into .venv"
.venv/bin/python -m pip install --quiet --upgrade pip
# torch goes first and by version: another package must not choose a build of it.
if ! .venv/bin/python -c "import torch" 2>/dev/null; then
  .venv/bin/python -m pip install --quiet "torch==${LFM_POLICY_TORCH_VERSION:-2.13.0}"
fi
.venv/bin/python -m pip install --quiet --editable ./runtime --editable ".[$extras]"
echo "$wanted" > "$stamp"
