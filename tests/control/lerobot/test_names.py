"""Names and shapes of a policy's observations against those of a robot."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.control.lerobot.names import observation_sources
from lfm_policy.errors import OptionError
from lfm_runtime.policy.spec import DataSpec

JOINTS = ("pan.pos", "gripper.pos")
FEATURES: dict[str, Any] = {
    "pan.pos": float,
    "gripper.pos": float,
    "pan.vel": float,
    "front": (6, 8, 3),
    "depth": (6, 8, 1),
}


def sources(shapes: dict[str, tuple[int, ...]], said: dict[str, Any] | None = None) -> Any:
    return observation_sources(DataSpec(shapes, 2), FEATURES, JOINTS, said or {})


@given(st.sampled_from(["", "observation."]), st.sampled_from(["", "observation.images."]))
def test_names_of_lerobot_are_found_with_and_without_what_it_puts_before(a: str, b: str) -> None:
    found = sources({f"{a}state": (2,), f"{b}front": (6, 8, 3), f"{b}depth": (6, 8, 1)})
    assert list(found.values()) == [JOINTS, "front", "depth"]


@given(st.lists(st.sampled_from([*JOINTS, "pan.vel"]), min_size=1, max_size=5))
def test_a_vector_is_any_list_of_numbers(names: list[str]) -> None:
    assert sources({"v": (len(names),)}, {"v": names}) == {"v": tuple(names)}
    with pytest.raises(OptionError, match=f"observations.v: has {len(names)} numbers"):
        sources({"v": (len(names) + 1,)}, {"v": names})


@pytest.mark.parametrize(
    ("shapes", "said", "message"),
    [
        ({"top": (6, 8, 3)}, {}, r"no camera 'top': it has front .*line `top: NAME`"),
        ({"top": (6, 8, 3)}, {"top": "frnt"}, "no camera 'frnt'"),
        ({"top": (6, 8, 3)}, {"top": ["front"]}, "no camera"),
        ({"front": (12, 16, 3)}, {}, r"gives \(6, 8, 3\).*`height: 12` and `width: 16`"),
        ({"joints": (2,)}, {}, "line `joints: joints`, or .*pan.pos, gripper.pos, pan.vel"),
        ({"state": (3,)}, {}, "has 2 numbers .*line `state: "),
        ({"state": (2,)}, {"state": ["pan.pos", "pan"]}, "observes no pan; its numbers are"),
        ({"state": (2,)}, {"state": ["pan.pos", "front"]}, "observes no front"),
        ({"state": (2,)}, {"stat": "joints"}, r"sees nothing of this name: did you mean 'state'"),
    ],
)
def test_what_does_not_match_is_named(
    shapes: dict[str, tuple[int, ...]], said: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        sources(shapes, said)


def test_actions_have_as_many_numbers_as_there_are_joints() -> None:
    with pytest.raises(OptionError, match=r"2 entries \(pan.pos, gripper.pos\).*have 7 numbers"):
        observation_sources(DataSpec({"state": (2,)}, 7), FEATURES, JOINTS, {})
