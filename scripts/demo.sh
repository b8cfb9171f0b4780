#!/usr/bin/env bash
# The main job on 2 cores, in minutes and without a network once it is installed: trains a small
# Local Flow Matching policy on PushT demonstrations, distils it to 2 and 1 network evaluations,
# rolls all three out in the simulator, and writes one HTML page about them.
#
#   ./scripts/demo.sh                                               # bundled demonstrations
#   ./scripts/demo.sh PATH/TO/pusht_cchi_v7_replay.zarr [OUTPUT FOLDER]
#
# Started again, it goes on where it was stopped.
set -euo pipefail
dataset="${1:-}"
output="${2:-runs/demo}"
arguments=(--output "$output" --resume)
if [ -n "$dataset" ]; then
  if [ ! -e "$dataset" ]; then
    echo "error: $dataset: no such file or folder" >&2
    exit 2
  fi
  arguments+=(--dataset "$(cd "$(dirname "$dataset")" && pwd)/$(basename "$dataset")")
fi
cd "$(dirname "$0")/.."
# What is installed is not installed again: that would need a network.
if ! .venv/bin/python -c "import gym_pusht, lfm_policy.demo" 2>/dev/null; then
  ./scripts/setup_venv.sh sim
fi
export SDL_VIDEODRIVER=dummy
exec .venv/bin/lfm-policy demo "${arguments[@]}"
