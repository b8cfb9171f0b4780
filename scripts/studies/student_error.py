"""How far students' chunks are from their teacher's, where the teacher leads.

The teacher is rolled out on selection seeds; in the observations before its chunks, teacher and
students get the same noise, and the actions to execute are compared, in the robot's units. It tells
students apart that 200 episodes cannot, and says nothing about success.

    python scripts/studies/student_error.py runs/pusht-lfm runs/pusht-lfm/student-nfe*-regression \\
        --solver midpoint --nfe 64
"""

from __future__ import annotations

import argparse
from collections import deque
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from lfm_policy import Policy, load_policy
from lfm_policy.cli.common import evaluations
from lfm_policy.environments import make_env
from lfm_policy.text.tables import TextTable
from lfm_runtime.policy.observations import remember, stacked

SELECTION_SEEDS = 200_300
"""Beside the seeds of the sweeps, which start at 200000."""


def visited(teacher: Policy, *, episodes: int, seed_start: int) -> dict[str, np.ndarray]:
    """Return the observation windows (B, n_obs_steps, ...) that the teacher's chunks answer."""
    config = teacher.config.env
    history: deque[dict[str, np.ndarray]] = deque(maxlen=teacher.n_obs_steps)
    windows = []
    options = {**config.options, "max_episode_steps": config.max_episode_steps}
    with make_env(config.id, **options) as env:
        for episode in tqdm(range(episodes), desc="teacher", unit="episode"):
            obs, _ = env.reset(seed=seed_start + episode)
            history.clear()
            teacher.reset()
            teacher.sample_seed(0, episode=episode)
            step, ended = 0, False
            while not ended:
                remember(history, obs)
                if step % teacher.n_action_steps == 0:
                    windows.append(stacked(history))
                obs, _, terminated, truncated, _ = env.step(teacher.select_action(obs))
                step, ended = step + 1, terminated or truncated
    return stacked(windows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("teacher", type=Path)
    parser.add_argument("students", nargs="+", type=Path)
    parser.add_argument("--solver", help="of the teacher")
    parser.add_argument("--nfe", type=evaluations, help="of the teacher, or of its blocks: 1,1,2")
    parser.add_argument("--noise-scale", type=float, help="of the teacher; default the student's")
    parser.add_argument("--episodes", type=int, default=25)
    parser.add_argument("--seed-start", type=int, default=SELECTION_SEEDS)
    parser.add_argument("--samples", type=int, default=8, help="chunks per observation")
    arguments = parser.parse_args()
    teacher = load_policy(arguments.teacher)
    students = {folder: load_policy(folder) for folder in arguments.students}
    scale = arguments.noise_scale
    if scale is None:
        scale = next(iter(students.values())).noise_scale
    teacher.set_sampler(solver=arguments.solver, nfe=arguments.nfe, noise_scale=scale)
    windows = visited(teacher, episodes=arguments.episodes, seed_start=arguments.seed_start)
    obs = {key: np.repeat(value, arguments.samples, axis=0) for key, value in windows.items()}
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(next(iter(obs.values()))), *teacher.chunk_shape, generator=generator)
    target = teacher.predict_action_chunk(obs, noise=noise)
    print(f"{len(target):,} chunks; distance of executed actions from the teacher's:")
    table = TextTable("student", "evaluations", "median", "95%", "root mean square")
    for folder, student in students.items():
        student.set_sampler(noise_scale=scale)
        square = (student.predict_action_chunk(obs, noise=noise) - target).square()
        error = square.sum(-1).mean(-1).sqrt()
        parts = (error.quantile(0.5), error.quantile(0.95), error.square().mean().sqrt())
        table.add_row(str(folder), str(student.nfe), *(f"{float(part):.3g}" for part in parts))
    table.print()


if __name__ == "__main__":
    main()
