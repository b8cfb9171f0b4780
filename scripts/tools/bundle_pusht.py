"""Make what the package carries for PushT: demonstrations, the NFE-2 student and its teacher.

The demonstrations are successful rollouts of the teacher from seeds of their own (300000 on), the
checkpoints are copies in half precision. A README in the folder says how they were made.

    python scripts/tools/bundle_pusht.py --teacher runs/study/seed0/lfm3-unet \\
        --student runs/study/seed0/lfm3-unet-2

Without --image-student the package keeps the image policy that it has.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from lfm_policy import load_policy
from lfm_policy.assets import DEMONSTRATIONS
from lfm_policy.config import config_from_dict, config_to_dict
from lfm_policy.control.recording import load_recording
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.evaluation import RolloutConfig
from lfm_policy.evaluation.recording import record_successes
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

README = """\
# What the package carries for PushT

Everything here was made by this project, with `scripts/tools/bundle_pusht.py`.

- `{demonstrations}`: {n} successful rollouts, {steps:,} steps, of the policy below called
  `pusht-state-teacher`, sampled with {sampler},
  from environment seeds {first} to {last} (only the successes: {tried} were tried). `data/state` is
  agent x, agent y, block x, block y in pixels and the block's angle in radians before each step,
  `data/action` the target position of the agent in pixels. An episode ends with the success. Test
  seeds (from 100000) and selection seeds (from 200000) are not among them.
- `pusht-state-teacher`: {teacher_blocks} blocks, {teacher_parameters:,} parameters, trained with
  {teacher_steps:,} gradient steps on the 206 human PushT demonstrations of Diffusion Policy
  (`lfm-policy train {config} seed={seed}`), weights in half precision.
- `pusht-state`: its student of {student_nfe} network evaluations
  ({student_parameters:,} parameters, {student_steps:,} gradient steps), weights in half precision.
  {recorded}Load it with `load_policy("pusht-state")`.
{image}
What they reach is in docs/results.md.
"""

RECORDED = """\
It was asked also about a recording of its teacher, {episodes} episodes of `lfm-policy control`
  from environment seed {seed} on. """

IMAGE = """\
- `pusht-image`: what sees 96 x 96 camera images, {parameters:,} parameters, a student of
  {nfe} network evaluations of a teacher trained with `lfm-policy train pusht/image_lfm` (30,000
  gradient steps of the encoder with both blocks, 24,000 of the blocks; {steps:,} of the student),
  weights in half precision.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="run folder of the teacher")
    parser.add_argument("--student", type=Path, required=True, help="run folder of the student")
    parser.add_argument("--image-student", type=Path, help="run folder of the image student")
    parser.add_argument(
        "--config", default="pusht/lfm3_unet", help="what the teacher was trained with"
    )
    parser.add_argument("--episodes", type=int, default=600, help="successes to keep")
    parser.add_argument("--max-episodes", type=int, default=2000)
    arguments = parser.parse_args()
    teacher, student = load_policy(arguments.teacher), read_header(arguments.student)
    recorded = _recorded(student.config.distill.recording)
    config = RolloutConfig(teacher.config.env.id, seed_start=DEMONSTRATION_SEEDS, noise_seed=1)
    buffer, seeds = record_successes(
        teacher, config, n_successes=arguments.episodes, max_episodes=arguments.max_episodes
    )
    ASSETS.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(ASSETS / DEMONSTRATIONS, ignore_errors=True)
    write_zarr(ASSETS / DEMONSTRATIONS, buffer)
    for name, source in (
        ("pusht-state-teacher", arguments.teacher),
        ("pusht-state", arguments.student),
        ("pusht-image", arguments.image_student),
    ):
        if source is not None:
            shutil.rmtree(ASSETS / name, ignore_errors=True)
            half_precision_copy(source, ASSETS / name, dataset_path=HUMAN_DATA)
    sampler = teacher.config.sampler
    image = read_header(ASSETS / "pusht-image")
    (ASSETS / "README.md").write_text(
        README.format(
            demonstrations=DEMONSTRATIONS,
            n=len(seeds),
            steps=buffer.n_steps,
            sampler=f"{teacher.solver}, {sampler.nfe} evaluations and noise scale "
            f"{sampler.noise_scale:g}",
            first=seeds[0],
            last=seeds[-1],
            tried=seeds[-1] - DEMONSTRATION_SEEDS + 1,
            teacher_blocks=teacher.model.n_blocks,
            teacher_parameters=teacher.model.parameter_counts()["total"],
            teacher_steps=teacher.info["steps"],
            config=arguments.config,
            seed=teacher.config.seed,
            student_nfe=student.config.sampler.nfe,
            student_parameters=student.training["parameters"]["total"],
            student_steps=student.training["steps"],
            recorded=recorded,
            image=IMAGE.format(
                parameters=image.training["parameters"]["total"],
                nfe=image.config.sampler.nfe,
                steps=image.training["steps"],
            ),
        )
    )


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


def _recorded(path: str) -> str:
    """Say how many episodes a recording has, and from which seed on; nothing of none."""
    if not path:
        return ""
    recording = load_recording(path)
    return RECORDED.format(
        episodes=len(recording.episodes), seed=recording.attributes["seed_start"]
    )


if __name__ == "__main__":
    main()
