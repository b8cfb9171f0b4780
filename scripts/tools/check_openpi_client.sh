#!/usr/bin/env bash
# Installs the published openpi-client package into an environment of its own (it wants an older
# numpy than ours) and drives our server with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=".venv/openpi-client"
if [ ! -x "$environment/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$environment"
fi
# Version 0.1.2 imports typing_extensions without asking for it.
"$environment/bin/python" -m pip install --quiet "openpi-client==0.1.2" typing_extensions
.venv/bin/python -m pytest -q tests/serving/test_openpi_client.py "$@"
