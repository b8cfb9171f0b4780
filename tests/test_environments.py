"""Whether an environment fits a policy, and what is said where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from lfm_policy.config import EnvConfig
from lfm_policy.environments import (
    ActionRangeWarning,
    check_env_spaces,
    chosen_environment,
    make_env,
    reading_of,
)
from lfm_policy.errors import InputError, OptionError
from lfm_policy.policy import DataSpec

SPEC = DataSpec({"hand": (3,), "goal": (2,), "top": (48, 64, 3)}, 2)


def box(*shape: int, low: float = 0, high: float = 1, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


PARTS = {"hand": box(3), "goal": box(2), "top": box(48, 64, 3, high=255, dtype=np.uint8)}
ACTIONS = box(2)


def message_of(observations: Any = None, actions: Any = ACTIONS, spec: DataSpec = SPEC) -> str:
    with pytest.raises(InputError) as caught:
        given = spaces.Dict(PARTS) if observations is None else observations
        check_env_spaces(spec, given, actions, env_id="my_env:Reach-v0")
    return str(caught.value)


def test_what_fits() -> None:
    check_env_spaces(SPEC, spaces.Dict({**PARTS, "more": box(9)}), ACTIONS, env_id="fits")


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (1, 48, 64)])
def test_depth_fits_with_and_without_an_axis_of_one_channel(shape: tuple[int, ...]) -> None:
    spec = DataSpec({"depth": (48, 64, 1)}, 2, depth={"depth": (200, 1500)})
    given = spaces.Dict({"depth": box(*shape, high=9000, dtype=np.uint16)})
    check_env_spaces(spec, given, ACTIONS, env_id="fits")
    assert "another shape" in message_of(spaces.Dict({"depth": box(64, 48)}), spec=spec)


def test_a_table_of_all_that_does_not_fit() -> None:
    given = spaces.Dict(
        {
            "hand": box(4),
            "pixels": spaces.Dict({"top": PARTS["top"]}),
            "goal": spaces.Discrete(3),
        }
    )
    assert message_of(given, box(7)).splitlines() == [
        "environment 'my_env:Reach-v0' does not fit the policy:",
        "                      policy       environment",
        "  observation 'hand'  (3,)         (4,)         <- another shape",
        "  observation 'goal'  (2,)         Discrete(3)  <- not an array: expected a "
        "gymnasium.spaces.Box",
        "  observation 'top'   (48, 64, 3)  -            <- not given",
        "  action              (2,)         (7,)         <- another size",
        "it gives: goal Discrete(3); hand (4,); pixels/top (48, 64, 3)",
        "name its parts as the demonstrations do, such as env.observations={top: pixels/top, "
        "hand: hand} in the configuration, or --observation 'top=pixels/top' --observation "
        "'hand=hand'",
    ]


@pytest.mark.parametrize(
    ("shapes", "space", "example"),
    [
        ({"hand": (3,), "goal": (2,)}, box(5), "{hand: [0, 3], goal: [3, 5]}"),
        ({"hand": (3,), "goal": (2,)}, box(9), "{hand: [0, 3]}"),
        ({"state": (5,)}, box(5), "{state: all}"),
        ({"state": (5,)}, spaces.Tuple([box(5)]), "{state: [0, 5]}"),
        ({"state": (5,)}, spaces.Dict({"agent_pos": box(5)}), "{state: NAME}"),
        ({"state": (5,)}, spaces.Dict({}), "{state: NAME}"),
    ],
)
def test_how_parts_could_be_named(
    shapes: dict[str, tuple[int, ...]], space: Any, example: str
) -> None:
    assert f"env.observations={example} in" in message_of(space, spec=DataSpec(shapes, 2))


def test_images_of_another_layout_come_with_advice() -> None:
    given = spaces.Dict({**PARTS, "top": box(3, 48, 64, high=255, dtype=np.uint8)})
    assert "(3, 48, 64)  <- another shape: its channels come first: give numpy.moveaxis" in (
        message_of(given)
    )


@pytest.mark.parametrize("actions", [spaces.Discrete(2), spaces.Dict({"a": box(2)})])
def test_actions_that_are_no_numbers(actions: Any) -> None:
    text = message_of(actions=actions)
    assert f"{actions}  <- not numbers: expected a gymnasium.spaces.Box" in text
    assert "name its parts" not in text


def with_range(low: list[float], high: list[float], actions: spaces.Box) -> None:
    check_env_spaces(
        SPEC,
        spaces.Dict(PARTS),
        actions,
        env_id="my_env:Reach-v0",
        action_range=(np.float32(low), np.float32(high)),
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("low", "high"), [([0, 0.2], [1, 1.05]), ([0.5, 0.5], [0.5, 0.5]), ([0, 0], [0.01, 0.01])]
)
def test_actions_within_the_bounds(low: list[float], high: list[float]) -> None:
    with_range(low, high, ACTIONS)
    with_range([-500, -500], [500, 500], box(2, low=-np.inf, high=np.inf))


def test_actions_that_would_be_cut_off_are_a_warning() -> None:
    with pytest.warns(ActionRangeWarning, match=r"elements 1 from 0 to 1\.5, it takes 0 to 1: an"):
        with_range([0, 0], [1, 1.5], ACTIONS)


@pytest.mark.parametrize(
    ("low", "high"), [([0, 0], [1, 512]), ([0, 2], [1, 3]), ([0, -90], [1, 90])]
)
def test_actions_in_other_units_are_an_error(low: list[float], high: list[float]) -> None:
    where = rf"elements 1 from {low[1]} to {high[1]}, it takes 0 to 1: these are other units"
    with pytest.raises(InputError, match=where):
        with_range(low, high, ACTIONS)


CONFIGURED = EnvConfig(
    id="lfm/PushT-v0", max_episode_steps=77, options={"a": 1}, observations={"x": "all"}
)


def test_what_is_configured_belongs_to_the_environment_of_the_policy() -> None:
    assert chosen_environment(CONFIGURED) == CONFIGURED
    assert chosen_environment(CONFIGURED, "lfm/PushT-v0") == CONFIGURED
    other = chosen_environment(CONFIGURED, "lfm/ToolHang-v0")
    assert (other.max_episode_steps, other.options, other.observations) == (700, {}, {})
    more = chosen_environment(
        CONFIGURED,
        max_episode_steps=5,
        success="terminated",
        options={"b": 2},
        observations={"y": [0, 1]},
    )
    assert (more.max_episode_steps, more.success) == (5, "terminated")
    assert (more.options, more.observations) == ({"a": 1, "b": 2}, {"x": "all", "y": [0, 1]})
    with pytest.raises(InputError, match=r"no environment 'lfm/Pusht-v0' .*: did you mean 'lfm/Pu"):
        chosen_environment(CONFIGURED, "lfm/Pusht-v0")


def test_a_task_of_robosuite_stays_as_it_is_described_with_other_observations() -> None:
    described = {"env_args": {"env_name": "Lift"}, "absolute_actions": True}
    state = EnvConfig(id="lfm/Lift-v0", options=described | {"cameras": []})
    image = EnvConfig(id="lfm/LiftImage-v0", options=described | {"cameras": ["agentview"]})
    assert chosen_environment(state, "lfm/LiftImage-v0").options == described
    assert chosen_environment(image, "lfm/Lift-v0").options == state.options
    assert chosen_environment(state, "lfm/CanImage-v0").options == {}


def test_an_environment_with_an_array_is_read_by_its_parts() -> None:
    env = EnvConfig(id="Pendulum-v1", observations={"angle": [0, 2], "speed": [2, 3]})
    with make_env(env.id, reading=reading_of(env)) as pendulum:
        obs, _ = pendulum.reset(seed=1)
        assert {key: value.shape for key, value in obs.items()} == {"angle": (2,), "speed": (1,)}
        check_env_spaces(
            DataSpec({"angle": (2,), "speed": (1,)}, 1),
            pendulum.observation_space,
            pendulum.action_space,
            env_id=env.id,
        )
    missing = EnvConfig(id=env.id, observations={"speed": [2, 4]})
    with pytest.raises(InputError, match=r"created: env.observations: .* 2 to 3 of .* which has 3"):
        make_env(missing.id, reading=reading_of(missing))


@pytest.mark.parametrize("part", [[3, 3], [1], 4, "", [0, 1, 2], [-1, 3], ["a", 0.5, 2], [True, 2]])
def test_parts_that_are_none_are_an_error_of_the_configuration(part: Any) -> None:
    with pytest.raises(OptionError, match=r"observation 'hand' is .*, expected \[start, stop\]"):
        EnvConfig(observations={"hand": part})


def test_success_is_said_by_one_of_two() -> None:
    with pytest.raises(OptionError, match="is 'reward', expected one of info, terminated"):
        EnvConfig(success="reward")
