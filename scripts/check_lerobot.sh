#!/usr/bin/env bash
# Makes an environment with the real LeRobot 0.6 (Python 3.12, some gigabytes) and our plugin for it,
# and does there what its users do: train, resume, evaluate on PushT, roll out, save, load, convert.
#
#   ./scripts/check_lerobot.sh
#   LFM_POLICY_LEROBOT_VENV=~/lerobot ./scripts/check_lerobot.sh    in an environment that is there
set -euo pipefail
cd "$(dirname "$0")/.."
environment="${LFM_POLICY_LEROBOT_VENV:-.venv-lerobot}"
if [ ! -x "$environment/bin/python" ]; then
  "${PYTHON:-python3.12}" -m venv "$environment"
fi
bin="$(cd "$environment/bin" && pwd)"
plugin="integrations/lerobot_policy_lfm"
"$bin/python" -m pip install --quiet "lerobot[training,pusht]>=0.6,<0.7" pytest
"$bin/python" -m pip install --quiet --editable ./runtime --editable ".[sim]"
"$bin/python" -m pip install --quiet --editable "./$plugin"
"$bin/python" -m pip check
"$bin/python" -c 'import sys, importlib.metadata as m
print(f"Python {sys.version.split()[0]}", *(f"{n} {m.version(n)}" for n in
      ("lerobot", "torch", "lfm-policy", "lerobot_policy_lfm")), sep=", ")'

# Nothing is looked for on the hub, nothing opens a window, and a step waits for no other thread.
export HF_HUB_OFFLINE=1 SDL_VIDEODRIVER=dummy OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
say() { printf '\n== %s\n' "$*"; }
# Runs a command of LeRobot's and prints the lines of its log that have to do with it.
run() {
  local lines="$1"
  shift
  if ! "$bin/$1" "${@:2}" > "$folder/log" 2>&1; then
    tail -n 60 "$folder/log"
    echo "failed: $*"
    exit 1
  fi
  tr '\r' '\n' < "$folder/log" | grep -oE "($lines).*" || true
}
steps="step:[0-9]+ smpl.*|Resuming data|Checkpoint policy|End of training"
same() { "$bin/python" scripts/tools/lerobot_chunks.py "$@"; }

say "demonstrations of PushT as a LeRobot dataset"
"$bin/python" scripts/tools/lerobot_pusht.py "$folder/pusht" --episodes 20

say "lerobot-train, 30 steps"
run "$steps" lerobot-train --policy.type=lfm --policy.device=cpu --policy.push_to_hub=false \
  --dataset.repo_id=local/pusht --dataset.root="$folder/pusht" --num_workers=0 --batch_size=32 \
  --steps=30 --save_freq=20 --log_freq=5 --output_dir="$folder/train" \
  --policy.options='{"network": {"channels": [32, 64]}, "flow": {"step_sizes": [0.01, 0.1]}}'
trained="$folder/train/checkpoints/000030/pretrained_model"

say "lerobot-train --resume, from step 20"
cp -r "$folder/train" "$folder/resumed"
rm -r "$folder/resumed/checkpoints/000030"
ln -sfn 000020 "$folder/resumed/checkpoints/last"
run "$steps" lerobot-train --resume=true --output_dir="$folder/resumed" \
  --config_path="$folder/resumed/checkpoints/000020/pretrained_model/train_config.json"

say "lerobot-train from these weights, on with another learning rate"
run "$steps" lerobot-train --policy.path="$trained" --policy.push_to_hub=false --policy.device=cpu \
  --policy.optimizer_lr=0.0003 --dataset.repo_id=local/pusht --dataset.root="$folder/pusht" \
  --num_workers=0 --batch_size=32 --steps=6 --log_freq=2 --output_dir="$folder/finetuned"

say "lerobot-eval of what was trained, on PushT"
run "'avg_sum_reward'" lerobot-eval --policy.path="$trained" --policy.device=cpu \
  --env.type=pusht --env.obs_type=environment_state_agent_pos --env.episode_length=100 --eval.n_episodes=2 \
  --eval.batch_size=2 --eval.use_async_envs=false --output_dir="$folder/eval" | tail -n 1

say "a policy that lerobot-train has trained, here"
"$bin/lfm-policy" import "$trained" "$folder/imported"
same "$trained" "$folder/imported"
"$bin/lfm-policy" inspect "$folder/imported" | sed -n 1,12p

say "its student of one evaluation, and that in LeRobot"
"$bin/lfm-policy" distill "$folder/imported" --nfe 1 dataset.name=lerobot dataset.path="$folder/pusht" \
  training.total_steps=20 distill.samples=1 distill.teacher_steps=2 --output "$folder/student" --quiet | tail -n 3
"$bin/lfm-policy" export "$folder/student" "$folder/student-lerobot" --format lerobot
same "$folder/student-lerobot" "$folder/student"

say "policies of ours in LeRobot: a student of two evaluations and its teacher"
for name in pusht-state pusht-state-teacher pusht-image; do
  "$bin/lfm-policy" export "$name" "$folder/$name" --format lerobot
  same "$folder/$name" "$name"
done

say "lerobot-eval of the image student on PushT, 4 episodes"
run "'avg_sum_reward'" lerobot-eval --policy.path="$folder/pusht-image" --policy.device=cpu \
  --env.type=pusht --eval.n_episodes=4 --eval.batch_size=4 --eval.use_async_envs=false --output_dir="$folder/eval2" | tail -n 1

say "tests of the plugin: what it learns, acts, saves, loads, converts, and lerobot-rollout"
"$bin/python" -m pytest -q "$plugin/tests"
say "done"
