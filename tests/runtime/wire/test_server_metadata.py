"""What counts as another policy, by what servers say of theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lfm_runtime.wire.server_metadata import policy_changes

OURS: dict[str, Any] = {
    "observations": {
        "state": {"shape": [2], "dtype": "float32", "low": [0.0, 0.0], "high": [1.0, 1.0]}
    },
    "action_dim": 1,
    "n_obs_steps": 1,
    "horizon": 4,
    "n_action_steps": 3,
    "max_prefix": 0,
    "policy_sha256": "abc",
    "nfe": 2,
    "solver": "euler",
    "noise_scale": 1.0,
    "name": "a",
    "server": "lfm-policy",
    "server_version": "1",
}
OTHERS = {
    "observations": OURS["observations"],
    "action_dim": 1,
    "weights": "run 7",
    "mean": np.array([0.0, np.nan]),
    "server_version": "1",
}


def changed(metadata: dict[str, Any], **values: Any) -> list[str]:
    return policy_changes(metadata, {**metadata, **values})


@pytest.mark.parametrize("metadata", [OURS, OTHERS])
def test_the_same_is_the_same(metadata: dict[str, Any]) -> None:
    again = dict(metadata)
    if "mean" in again:
        again["mean"] = again["mean"].copy()
    assert policy_changes(metadata, again) == []
    assert changed(metadata, server_version="2", instructions=["more"]) == []


def test_a_digest_makes_names_and_further_facts_unimportant() -> None:
    assert changed(OURS, name="b", anything=5) == []
    more = {"state": {**OURS["observations"]["state"], "low": [-1.0, 0.0], "encoding": "raw"}}
    assert changed(OURS, observations=more) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy_sha256": "xyz"}, "policy_sha256: xyz, before abc"),
        ({"nfe": None}, "nfe: None, before 2"),
        ({"max_prefix": 3}, "max_prefix: 3, before 0"),
        ({"precision": "int8"}, "precision: int8, before None"),
        ({"observations": None}, "observations: None, before None"),
    ],
)
def test_what_the_actions_depend_on(values: dict[str, Any], message: str) -> None:
    changes = changed(OURS, **values)
    assert changes and (message in changes or "observations" in values)


def test_shapes_and_types_of_observations() -> None:
    state = {**OURS["observations"]["state"], "shape": [3]}
    assert changed(OURS, observations={"state": state}) == [
        "observations.state.shape: [3], before [2]"
    ]
    both = {**OURS["observations"], "camera": {"shape": [8, 8, 3], "dtype": "uint8"}}
    assert changed(OURS, observations=both) == [
        "observations.camera.dtype: uint8, before None",
        "observations.camera.shape: [8, 8, 3], before None",
    ]


def test_without_a_digest_everything_that_is_said_counts() -> None:
    assert changed(OTHERS, weights="run 8") == ["weights: run 8, before run 7"]
    assert changed(OTHERS, mean=np.array([0.0, 1.0])) == ["mean: [0. 1.], before [ 0. nan]"]
    assert changed(OTHERS, policy_sha256="abc") == ["policy_sha256: abc, before None"]
    assert changed({**OURS, "policy_sha256": ""}, name="b") == ["name: b, before a"]


def test_what_an_older_server_does_not_say_is_no_change() -> None:
    newer = {**OURS, "nfe_per_block": [1, 1], "block_times": [[], []]}
    newer |= {"guidance": 1.0, "renoise": 0.0}
    assert policy_changes(OURS, newer) == policy_changes(newer, OURS) == []
    assert changed(newer, nfe_per_block=[2, 0]) == ["nfe_per_block: [2, 0], before [1, 1]"]
    assert changed(newer, block_times=[[0.5], []]) == ["block_times: [[0.5], []], before [[], []]"]
    assert changed(OURS, guidance=2.0) == ["guidance: 2.0, before 1.0"]


def test_long_values_are_cut_short() -> None:
    (change,) = changed(OTHERS, weights="x" * 10_000)
    assert len(change) < 200
