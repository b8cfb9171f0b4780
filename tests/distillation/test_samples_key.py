"""The name under which a teacher's samples are kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from lfm_policy.config import load_config
from lfm_policy.config.training import TrainingConfig
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.windows import WindowIndex
from lfm_policy.distillation.samples import samples_key
from lfm_policy.flow import SolverSpec
from lfm_policy.training.rows.obs_noise import ObsNoise

EULER = SolverSpec("euler", 4)


def windows_of_images() -> WindowDataset:
    rng = np.random.default_rng(0)
    numbers = {"action": rng.normal(size=(20, 2))}
    frames = {"camera": rng.integers(0, 255, size=(20, 4, 4, 3), dtype=np.uint8)}
    ends = np.array([20])
    return WindowDataset(
        ReplayBuffer(numbers | frames, ends),
        Normalizer.fit(numbers, "identity"),
        WindowIndex(ends, 2, 4, 2),
        ("camera",),
    )


def test_samples_have_the_same_name_before_and_after_features_are_known() -> None:
    config = load_config({}, ["flow.n_blocks=1", "flow.step_sizes=[]"])
    images = windows_of_images()
    features = images.with_features({"camera": torch.zeros(3, 20, 2)})
    blocks = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(2))
    encoder = torch.nn.Module()
    encoder.register_parameter("temperature", torch.nn.Parameter(torch.tensor(0.1)))
    model: Any = SimpleNamespace(encoder=encoder, blocks=blocks)

    def name(
        windows: WindowDataset,
        n_views: int = 3,
        *,
        n_rows: int = 40,
        inputs: str = "teacher",
        solver: SolverSpec = EULER,
        **noise: float,
    ) -> str:
        options = TrainingConfig(
            **{"obs_noise": 0.0, "obs_noise_covariance": "data", **noise}  # type: ignore[arg-type]
        )
        return samples_key(
            config,
            [SimpleNamespace(start=0.0, solver=solver)],  # type: ignore[list-item]
            1,
            points=1,
            samples=2,
            n_rows=n_rows,
            obs_noise=ObsNoise(options, windows),
            n_views=n_views,
            model=model,
            inputs=inputs,
        )

    noisy = name(images, feature_noise=0.1)
    assert noisy == name(features, feature_noise=0.1)
    assert len({noisy, name(images, feature_noise=0.2), name(images)}) == 3
    assert name(images, n_rows=42) != name(images)
    # Tolerances matter to a solver that chooses its steps by them.
    for solver, n_names in (("dopri5", 3), ("heun", 1)):
        tolerances = ({}, {"rtol": 1e-6}, {"atol": 1e-6})
        specs = [SolverSpec(solver, 4, **given) for given in tolerances]
        assert len({name(images, solver=spec) for spec in specs}) == n_names
    # What a student makes of the noise is that of its weights, whatever its folder is called.
    taught = name(images, inputs="student")
    assert taught == name(images, inputs="student") != name(images)
    with torch.no_grad():
        next(model.blocks[1].parameters()).add_(1)
    assert taught != name(images, inputs="student")
    taught = name(images, inputs="student")
    with torch.no_grad():
        next(model.blocks[0].parameters()).add_(1)
    assert taught == name(images, inputs="student")
    # Without cameras there is nothing that it could be noise on.
    assert name(images, n_views=0, feature_noise=0.1) == name(images, n_views=0)
