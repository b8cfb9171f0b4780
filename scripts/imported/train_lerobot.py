"""Train LeRobot's own diffusion policy, by LeRobot's own training command, on PushT.

The demonstrations of Diffusion Policy are written as a LeRobot dataset of the agent's position and
the eight corners of the block, once; then `lerobot-train` runs in an environment of its own. It
saves a checkpoint every --save-every steps, and the same command continues from the last one after
it was stopped. What comes of it is a folder that `lfm-policy import` reads, and the teacher of
`scripts/imported/students.py`.

    python3.12 -m venv lerobot-venv
    lerobot-venv/bin/pip install 'lerobot[training]==0.6.*'
    python scripts/imported/train_lerobot.py pusht_cchi_v7_replay.zarr runs/lerobot \\
        --lerobot lerobot-venv/bin/python
    lfm-policy import runs/lerobot/train/checkpoints/last/pretrained_model imported
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

from lfm_policy.data.derived import PUSHT
from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.zarr.store import load_zarr

NAMES = {"agent_pos": "state", "keypoints": "environment_state"}
"""What LeRobot's diffusion policy calls the features of PushT, without ``observation.``."""

FPS = 10
SCALING = {kind: "MIN_MAX" for kind in ("STATE", "ENV", "ACTION")}


def convert(demonstrations: Path, folder: Path) -> None:
    """Write the demonstrations as a LeRobot dataset, unless the folder is there."""
    if folder.exists():
        return
    stored = load_zarr(demonstrations, [ACTION_KEY, *PUSHT.inputs])
    features = PUSHT(stored.arrays)
    arrays = {there: features[here] for here, there in NAMES.items()}
    arrays[ACTION_KEY] = stored.arrays[ACTION_KEY]
    buffer = ReplayBuffer(arrays, stored.episode_ends, source=stored.source)
    write_lerobot(folder, buffer, fps=FPS, task="push the T onto the target")


def command(args: argparse.Namespace, dataset: Path, output: Path) -> list[str]:
    """Return the arguments of `lerobot-train`, of a new run or of one that goes on."""
    last = output / "checkpoints" / "last"
    config = last / "pretrained_model" / "train_config.json"
    if config.is_file():
        return [f"--config_path={config}", "--resume=true", f"--steps={args.steps}"]
    return [
        "--dataset.repo_id=local/pusht_keypoints",
        f"--dataset.root={dataset}",
        "--policy.type=diffusion",
        "--policy.device=" + args.device,
        "--policy.push_to_hub=false",
        "--policy.horizon=16",
        "--policy.n_obs_steps=2",
        "--policy.n_action_steps=8",
        "--policy.drop_n_last_frames=7",
        f"--policy.down_dims={json.dumps(args.channels)}",
        f"--policy.normalization_mapping={json.dumps(SCALING)}",
        f"--policy.optimizer_lr={args.learning_rate}",
        f"--output_dir={output}",
        f"--batch_size={args.batch_size}",
        f"--steps={args.steps}",
        f"--save_freq={args.save_every}",
        "--num_workers=0",
        "--log_freq=200",
        f"--seed={args.seed}",
        "--eval_freq=0",
        "--wandb.enable=false",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demonstrations", type=Path, help="pusht_cchi_v7_replay.zarr")
    parser.add_argument("output", type=Path, help="folder of the dataset and of the run")
    parser.add_argument(
        "--lerobot", type=Path, required=True, help="python of an environment with LeRobot"
    )
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--save-every", type=int, default=1_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args()

    output = args.output.resolve()
    dataset, run = output / "dataset", output / "train"
    output.mkdir(parents=True, exist_ok=True)
    convert(args.demonstrations, dataset)
    if done(run) >= args.steps:
        print(f"{run} has all of its {args.steps} steps")
        return
    # Nothing of this is on the hub, and LeRobot must not look for it there.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    train = Path(__file__).with_name("lerobot_train.py")
    subprocess.run([args.lerobot, train, *command(args, dataset, run)], env=environment, check=True)
    print(run / "checkpoints" / "last" / "pretrained_model")


def done(run: Path) -> int:
    """Return after how many steps the newest checkpoint was saved."""
    state = run / "checkpoints" / "last" / "training_state" / "training_step.json"
    return int(json.loads(state.read_text())["step"]) if state.is_file() else 0


if __name__ == "__main__":
    main()
