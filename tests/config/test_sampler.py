"""Evaluations of blocks in configurations: what takes the place of what, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lfm_policy.config import (
    SamplerConfig,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    load_config,
)
from lfm_policy.config.load import changed_config, stored_config
from lfm_policy.errors import InputError

UNEVEN = {"block_nfe": [1, 1, 2], "block_times": [[], [], [0.3]]}


def uneven(**sampler: Any) -> dict[str, Any]:
    return {"flow": {"n_blocks": 3}, "sampler": {**UNEVEN, **sampler}}


def said(sampler: Any) -> tuple[int, list[int], list[list[float]]]:
    return sampler.nfe, sampler.block_nfe, sampler.block_times


def test_the_total_is_the_sum_of_the_blocks() -> None:
    assert said(config_from_dict(uneven(), "it").sampler) == (4, [1, 1, 2], [[], [], [0.3]])
    assert config_from_dict(uneven(nfe=12), "it").sampler.nfe == 4


def test_they_survive_files_and_checkpoints() -> None:
    config = config_from_dict(uneven(), "it")
    stored = config_to_dict(config)
    assert stored_config(stored, "it") == load_config(stored) == config
    assert "block_nfe:\n  - 1\n  - 1\n  - 2\n" in config_to_yaml(config)
    # A checkpoint of before says nothing of them.
    del stored["sampler"]["block_nfe"], stored["sampler"]["block_times"]
    assert said(stored_config(stored, "it").sampler) == (4, [], [])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sampler.nfe=6"], (6, [], [])),
        (["sampler.block_nfe=[2, 2, 2]"], (6, [2, 2, 2], [])),
        (["sampler.block_times=[]"], (4, [1, 1, 2], [])),
        (["sampler.times=[0.5]"], (4, [1, 1, 2], [])),
        (["sampler.block_nfe=[1, 1, 3]", "sampler.nfe=8"], (5, [1, 1, 3], [])),
        (["sampler.block_times=[[], [], [0.5]]", "sampler.nfe=4"], (4, [], [[], [], [0.5]])),
        (["sampler.noise_scale=0.5"], (4, [1, 1, 2], [[], [], [0.3]])),
        (["sampler={nfe: 3}"], (3, [], [])),
    ],
    ids=str,
)
def test_what_is_given_later_takes_the_place_of_others(
    overrides: list[str], expected: object
) -> None:
    assert said(load_config(uneven(), overrides).sampler) == expected
    kept = load_config(uneven())
    assert said(changed_config(kept, overrides).sampler) == expected


def test_a_block_may_have_as_many_as_all_of_them() -> None:
    """Wherever evaluations are sent on as those of each block, as to other computers."""
    for asked in ({"nfe": 100_000}, {"block_nfe": [100_000]}):
        assert SamplerConfig(**asked).nfe == 100_000


@pytest.mark.parametrize(
    ("options", "overrides", "message"),
    [
        (
            uneven(),
            ["flow.n_blocks=2"],
            "sampler.block_nfe has 3 elements, expected one for each of 2 block(s)",
        ),
        (
            uneven(),
            ["sampler.solver=midpoint"],
            "sampler.block_nfe[0] is 1, expected a multiple of 2: one step of 'midpoint' takes 2",
        ),
        (
            uneven(block_times=[[], [0.5], []]),
            [],
            "sampler.block_times[1] has 1 elements, expected 0, one fewer than block 2 has steps",
        ),
        (
            {"sampler": {"nfe": 6, "block_times": [[], [], []]}, "flow": {"n_blocks": 2}},
            [],
            "sampler.block_times has 3 elements, expected one for each of 2 block(s)",
        ),
        (uneven(), ["sampler.nfe=2"], "sampler.nfe is 2, expected a multiple of 1 of at least 3"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(
    options: Mapping[str, Any], overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_config(options, overrides)
    assert message in str(caught.value)
