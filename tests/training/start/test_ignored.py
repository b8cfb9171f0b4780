"""Options that are set and mean nothing beside others, which a training says."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfm_policy.config import ExperimentConfig
from lfm_policy.training import train
from lfm_policy.training.start.ignored import warn_of_ignored

MakeConfig = Callable[..., ExperimentConfig]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training.block_training": "parallel"}, r"training\.warm_start is True"),
        ({"training.parallel_processes": 2}, r"training\.parallel_processes is 2"),
        ({"flow.time": {"alpha": 2.0}}, r"flow\.time\.alpha is 2"),
        ({"flow.time": {"beta": 0.5, "noise_share": 0.5}}, r"flow\.time\.beta is 0\.5"),
        ({"flow.coupling_weight": 0.0}, r"flow\.coupling_weight is 0"),
        ({"sampler.times": [0.6, 0.3]}, r"sampler\.times is \[0\.6, 0\.3\]"),
        ({"sampler.times": [0.5], "sampler.solver": "dopri5"}, r"sampler\.times is \[0\.5\]"),
        ({"sampler.block_nfe": [1, 2], "sampler.solver": "dopri5"}, r"sampler\.block_nfe is"),
        (
            {"sampler.block_times": [[0.5], []], "sampler.solver": "dopri5"},
            r"sampler\.block_times is",
        ),
    ],
)
def test_an_option_without_effect_is_said(
    make_config: MakeConfig, changes: dict[str, Any], said: str
) -> None:
    with pytest.warns(UserWarning, match=said):
        warn_of_ignored(make_config(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.block_training": "parallel", "training.warm_start": False},
        {
            "training.block_training": "parallel",
            "training.warm_start": False,
            "training.parallel_processes": 2,
        },
        {"flow.n_blocks": 1, "training.block_training": "parallel"},
        {"flow.time": {"name": "beta", "alpha": 2.0}},
        {"flow.coupling": "optimal", "flow.coupling_weight": 0.0},
        {"sampler.times": [0.3]},
        {"sampler.times": [0.6, 0.3], "sampler.block_nfe": [1, 3]},
        {"sampler.block_times": [[0.5], []]},
    ],
)
def test_nothing_is_said_of_what_has_one(make_config: MakeConfig, changes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_ignored(make_config(changes))


def test_a_training_says_it(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config({"training.block_training": "parallel", "training.total_steps": 4})
    with pytest.warns(UserWarning, match=r"training\.warm_start is True"):
        train(config, tmp_path, quiet=True)
