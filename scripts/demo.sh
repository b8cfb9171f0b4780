#!/usr/bin/env bash
# The main job on 2 cores, in minutes: trains a small Local Flow Matching policy on PushT
# demonstrations, rolls it out in the simulator, and leaves videos and a picture.
#
#   ./scripts/demo.sh PATH/TO/pusht_cchi_v7_replay.zarr [OUTPUT FOLDER]
set -euo pipefail
dataset="${1:-}"
output="${2:-runs/demo}"
if [ -z "$dataset" ]; then
  cat >&2 <<'TEXT'
error: the demonstrations are missing. Give the path of Diffusion Policy's PushT data:

    ./scripts/demo.sh PATH/TO/pusht_cchi_v7_replay.zarr

The Diffusion Policy project publishes it as pusht.zip; the store is in there.
TEXT
  exit 2
fi
if [ ! -e "$dataset" ]; then
  echo "error: $dataset: no such file or folder" >&2
  exit 2
fi
dataset="$(cd "$(dirname "$dataset")" && pwd)/$(basename "$dataset")"
cd "$(dirname "$0")/.."
./scripts/setup_venv.sh sim
export SDL_VIDEODRIVER=dummy
policy=.venv/bin/lfm-policy

rm -rf "$output"
mkdir -p "$output"
"$policy" inspect "$dataset" --plot "$output/demonstrations.png" > "$output/demonstrations.txt"
"$policy" train pusht/demo "dataset.path=$dataset" --output "$output/run"
"$policy" inspect "$output/run" --plot "$output/training.png" > "$output/training.txt"
"$policy" distill "$output/run" --nfe 2 --output "$output/student" \
  training.total_steps=4000 distill.samples=1 distill.teacher_steps=8
"$policy" eval "$output/run" --episodes 50 --nfe 4 8 16 --video 8 --output "$output/eval"
"$policy" eval "$output/student" --episodes 50 --video 8 --output "$output/eval-student"
echo
echo "look at: $output/eval/eval.png, $output/eval/videos, $output/training.png,"
echo "         $output/eval-student/eval.png (the student: 2 network evaluations per chunk)"
