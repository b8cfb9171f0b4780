"""Make what the package carries for PushT: demonstrations, the NFE-2 student and its teacher.

The demonstrations are successful rollouts of the teacher from seeds of their own (300000 on), the
checkpoints are copies in half precision. The numbers that the README in the folder has are printed;
its text is kept by hand, and a test compares it with what lies beside it.

    python scripts/tools/bundle_pusht.py --teacher runs/study/seed0/lfm3-unet \\
        --student runs/study/seed0/lfm3-unet-2

    python scripts/tools/bundle_pusht.py --image-student runs/pusht-images/seed0/image-lfm3-2-seen

What is not named stays as it is.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import lfm_envs
import numpy as np
import torch
from gymnasium.vector import VectorWrapper
from tqdm.auto import tqdm

from lfm_policy import Policy, load_policy
from lfm_policy.assets import DEMONSTRATIONS
from lfm_policy.config import config_from_dict, config_to_dict
from lfm_policy.control.recording import load_recording
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.evaluation import RolloutConfig
from lfm_policy.evaluation.rollouts import rollout
from lfm_policy.policy import read_header, write_checkpoint
from lfm_policy.policy.checkpoint import (
    MODEL_FILE,
    read_model_state,
    read_normalizer,
    require_sampleable,
)
from lfm_runtime.disk.files import atomic_folder

DEMONSTRATION_SEEDS = 300_000
HUMAN_DATA = "data/pusht_cchi_v7_replay.zarr"  # as in the configurations, not where it lay here
ASSETS = Path("lfm_policy/assets")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, help="run folder of the teacher")
    parser.add_argument("--student", type=Path, help="run folder of the student")
    parser.add_argument("--image-student", type=Path, help="run folder of the image student")
    parser.add_argument("--episodes", type=int, default=600, help="successes to keep")
    parser.add_argument("--max-episodes", type=int, default=2000)
    arguments = parser.parse_args()
    if arguments.teacher is not None:
        write_demonstrations(arguments.teacher, arguments.episodes, arguments.max_episodes)
    for name, source in (
        ("pusht-state-teacher", arguments.teacher),
        ("pusht-state", arguments.student),
        ("pusht-image", arguments.image_student),
    ):
        if source is not None:
            shutil.rmtree(ASSETS / name, ignore_errors=True)
            half_precision_copy(source, ASSETS / name, dataset_path=HUMAN_DATA)
        header = read_header(ASSETS / name)
        config_of, training = header.config, header.training
        print(
            f"{name}: {config_of.flow.n_blocks} blocks, {config_of.sampler.nfe} evaluations, "
            f"{training['parameters']['total']:,} parameters, {training['steps']:,} gradient "
            f"steps, configuration {config_of.name}, seed {config_of.seed}"
        )
    for student in filter(None, (arguments.student, arguments.image_student)):
        for path in read_header(student).config.distill.recording:
            recording = load_recording(path)
            print(
                f"{student} was asked about {len(recording.episodes)} episodes from seed "
                f"{recording.attributes['seed_start']} on"
            )
    print("their model cards are gone: evaluate them, and run scripts/tools/bundled_cards.py")


def write_demonstrations(run: Path, episodes: int, max_episodes: int) -> None:
    """Write successful rollouts of the teacher."""
    teacher = load_policy(run)
    config = RolloutConfig(
        teacher.config.env.id, seed_start=DEMONSTRATION_SEEDS, noise_seed=1, num_envs=1
    )
    buffer, seeds = successes(teacher, config, episodes, max_episodes)
    ASSETS.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(ASSETS / DEMONSTRATIONS, ignore_errors=True)
    write_zarr(ASSETS / DEMONSTRATIONS, buffer)
    tried = seeds[-1] - DEMONSTRATION_SEEDS + 1
    print(
        f"{DEMONSTRATIONS}: {len(seeds)} rollouts, {buffer.n_steps:,} steps, {teacher.solver}, "
        f"{teacher.nfe} evaluations, noise scale {teacher.noise_scale:g}, seeds {seeds[0]} to "
        f"{seeds[-1]}, {tried} tried"
    )


class Watched(VectorWrapper):
    """One environment that keeps the state before each step, and the action."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.rows: dict[str, list[np.ndarray]] = {"state": [], "action": []}

    def step(self, actions: Any) -> Any:
        env: Any = self.env  # which gymnasium's type does not say of it
        (state,) = env.get_attr("state")
        self.rows["state"].append(np.array(state, np.float32))
        self.rows["action"].append(np.array(actions[0]))
        return super().step(actions)


def successes(
    policy: Policy, config: RolloutConfig, wanted: int, most: int
) -> tuple[ReplayBuffer, list[int]]:
    """Return the first episodes that succeed, and their seeds.

    Raises:
        SystemExit: too few of the ``most`` first episodes do.
    """
    kept: list[dict[str, list[np.ndarray]]] = []
    seeds: list[int] = []
    for episode in tqdm(range(most), desc="rollouts", unit="episode"):
        made: list[Watched] = []

        def make(number: int, made: list[Watched] = made) -> Watched:
            steps = config.max_episode_steps
            envs = lfm_envs.make_vector_env(config.env_id, number, max_episode_steps=steps)
            made.append(Watched(envs))
            return made[-1]

        (result,) = rollout(policy, config, [episode], make=make)
        if result.success:
            kept.append(made[-1].rows)
            seeds.append(config.seed_start + episode)
        if len(kept) == wanted:
            break
    else:
        raise SystemExit(f"{len(kept)} of {most} episodes succeeded, expected {wanted}")
    arrays = {name: np.concatenate([rows[name] for rows in kept]) for name in ("state", "action")}
    return ReplayBuffer(arrays, np.cumsum([len(rows["action"]) for rows in kept])), seeds


def half_precision_copy(source: str | Path, folder: Path, *, dataset_path: str) -> Path:
    """Write a copy of a checkpoint whose weights are float16 and whose data is said to lie there.

    Loading widens them to float32 again, so the copy computes as the original does, with weights
    rounded to 11 bits.

    Raises:
        InputError: no checkpoint, a damaged one, or a weight beyond float16's range.
        FileExistsError: ``folder`` exists.
    """
    header = read_header(source)
    require_sampleable(header)
    state = {name: tensor.to(torch.float16) for name, tensor in read_model_state(header).items()}
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{header.folder / MODEL_FILE}: tensor '{name}' has numbers beyond 65504, which "
                "half precision cannot hold"
            )
    options = config_to_dict(header.config)
    options["dataset"]["path"] = dataset_path
    with atomic_folder(folder) as temporary:
        write_checkpoint(
            temporary,
            config=config_from_dict(options, str(folder)),
            spec=header.spec,
            model_state=state,
            normalizer=read_normalizer(header),
            training=header.training,
        )
    return folder


if __name__ == "__main__":
    main()
