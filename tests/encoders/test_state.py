"""The state encoder, and what every encoder promises."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lfm_policy.encoders import ENCODERS
from lfm_policy.encoders.base import ObsEncoder
from lfm_policy.encoders.options import EncoderConfig, StateEncoderConfig
from lfm_policy.errors import InputError
from lfm_policy.options import checked

SHAPES: dict[str, tuple[int, ...]] = {
    "agent_pos": (2,),
    "block_pose": (4,),
    "keypoints": (8, 2),
    "grip": (),
}
shapes_strategy = st.dictionaries(
    st.text("abcxyz._", min_size=1, max_size=6),
    st.lists(st.integers(1, 4), max_size=2).map(tuple),
    min_size=1,
    max_size=4,
)


def observations(
    shapes: dict[str, tuple[int, ...]], batch: int, n_obs_steps: int
) -> dict[str, Tensor]:
    return {key: torch.randn(batch, n_obs_steps, *shape) for key, shape in shapes.items()}


def encode(encoder: ObsEncoder, obs: dict[str, Tensor]) -> Tensor:
    condition = encoder(obs)
    assert isinstance(condition, Tensor)
    return condition


@pytest.mark.parametrize("name", ENCODERS.names())
def test_the_config_carries_the_name_it_is_found_by(name: str) -> None:
    config = ENCODERS.get(name)()
    assert config.name == name
    assert fields(config)[0].name == "name"
    assert all(option.metadata["description"] for option in fields(config))
    with pytest.raises(InputError, match="name is 'other'"):
        replace(config, name="other")


@settings(max_examples=40, deadline=None)
@given(
    shapes=shapes_strategy,
    batch=st.integers(1, 3),
    n_obs_steps=st.integers(1, 3),
    hidden=st.lists(st.integers(1, 6), max_size=2),
    output_dim=st.integers(0, 5),
)
def test_the_condition_has_the_promised_length(
    shapes: dict[str, tuple[int, ...]],
    batch: int,
    n_obs_steps: int,
    hidden: list[int],
    output_dim: int,
) -> None:
    config = StateEncoderConfig(hidden=hidden, output_dim=output_dim if hidden else 0)
    encoder = config.create(shapes, n_obs_steps)
    assert encode(encoder, observations(shapes, batch, n_obs_steps)).shape == (
        batch,
        encoder.cond_dim,
    )
    assert encoder.has_parameters is bool(hidden)
    assert encoder.obs_keys == tuple(sorted(shapes))


def test_by_default_it_is_the_history_frame_by_frame_in_order_of_names() -> None:
    encoder = StateEncoderConfig().create(SHAPES, 2)
    obs = observations(SHAPES, 3, 2)
    expected = torch.cat(
        [
            part
            for frame in range(2)
            for part in (
                obs["agent_pos"][:, frame],
                obs["block_pose"][:, frame],
                obs["grip"][:, frame, None],
                obs["keypoints"][:, frame].flatten(1),
            )
        ],
        dim=1,
    )
    assert encoder.cond_dim == 46
    assert not encoder.has_parameters
    assert torch.equal(encode(encoder, obs), expected)


def test_the_order_of_names_does_not_matter() -> None:
    backwards = dict(reversed(SHAPES.items()))
    obs = observations(SHAPES, 3, 2)
    forwards_encoder = StateEncoderConfig().create(SHAPES, 2)
    backwards_encoder = StateEncoderConfig().create(backwards, 2)
    assert torch.equal(
        encode(forwards_encoder, obs),
        encode(backwards_encoder, dict(reversed(obs.items()))),
    )


def test_observations_it_was_not_made_for_are_ignored() -> None:
    encoder = StateEncoderConfig().create({"agent_pos": (2,)}, 2)
    obs = observations(SHAPES, 3, 2)
    assert torch.equal(encode(encoder, obs), obs["agent_pos"].flatten(1))


@pytest.mark.parametrize("hidden", [[], [8]])
def test_without_observations_there_is_no_condition(hidden: list[int]) -> None:
    encoder = StateEncoderConfig(hidden=hidden).create({}, 2)
    assert (encoder.cond_dim, encoder.obs_keys, encoder.has_parameters) == (0, (), False)
    assert encoder({}) is None


@pytest.mark.parametrize("activation", ["silu", "mish", "gelu", "relu"])
def test_hidden_layers_learn(activation: str) -> None:
    torch.manual_seed(0)
    config = StateEncoderConfig(hidden=[16, 12], output_dim=5, activation=activation)
    encoder = config.create(SHAPES, 2)
    assert encoder.cond_dim == 5
    assert sum(p.numel() for p in encoder.parameters()) == 46 * 16 + 16 + 16 * 12 + 12 + 12 * 5 + 5
    encode(encoder, observations(SHAPES, 64, 2)).square().sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


def test_the_last_hidden_width_is_the_length_unless_one_is_given() -> None:
    encoder = StateEncoderConfig(hidden=[16, 12]).create(SHAPES, 1)
    assert encoder.cond_dim == 12


@pytest.mark.parametrize("hidden", [[], [16]])
def test_rows_of_a_batch_do_not_see_one_another(hidden: list[int]) -> None:
    encoder = StateEncoderConfig(hidden=hidden).create(SHAPES, 2)
    obs = observations(SHAPES, 4, 2)
    alone = [encode(encoder, {k: v[i : i + 1] for k, v in obs.items()}) for i in range(4)]
    torch.testing.assert_close(encode(encoder, obs), torch.cat(alone))


def test_the_same_seed_gives_the_same_encoder() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        states.append(StateEncoderConfig(hidden=[4]).create(SHAPES, 1).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("hidden", [[], [16]])
def test_it_exports_as_one_graph_with_a_free_batch(hidden: list[int]) -> None:
    encoder = StateEncoderConfig(hidden=hidden).create(SHAPES, 2)
    dynamic = {key: {0: torch.export.Dim("batch", min=1, max=4096)} for key in SHAPES}
    program = torch.export.export(
        encoder, (observations(SHAPES, 3, 2),), dynamic_shapes=(dynamic,), strict=False
    )
    for batch in (1, 5):
        obs = observations(SHAPES, batch, 2)
        torch.testing.assert_close(program.module()(obs), encode(encoder, obs))


def test_a_missing_observation_is_named() -> None:
    encoder = StateEncoderConfig().create(SHAPES, 2)
    obs = observations(SHAPES, 3, 2)
    del obs["block_pose"]
    with pytest.raises(InputError, match=r"'block_pose' is missing: expected .*found agent_pos"):
        encoder(obs)


@pytest.mark.parametrize("shape", [(3, 1, 2), (3, 2, 3), (3, 2), (2,)])
def test_an_observation_of_the_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    encoder = StateEncoderConfig().create({"agent_pos": (2,)}, 2)
    with pytest.raises(InputError, match=r"'agent_pos' has shape .* expected \(batch, 2, 2\)"):
        encoder({"agent_pos": torch.zeros(shape)})


def test_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"'camera' has shape \(96, 96, 3\)"):
        StateEncoderConfig().create({"agent_pos": (2,), "camera": (96, 96, 3)}, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": [0]}, r"StateEncoderConfig.hidden\[0\] is 0, expected an integer from 1"),
        ({"hidden": [10**9]}, r"hidden\[0\] is 1000000000"),
        ({"hidden": [8], "output_dim": -1}, r"output_dim is -1"),
        ({"output_dim": 4}, r"output_dim is 4, expected 0 when hidden is empty"),
        ({"activation": "slu"}, r"activation is 'slu', expected one of .*did you mean 'silu'"),
    ],
)
def test_bad_options_print_their_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StateEncoderConfig(**options)


@pytest.mark.parametrize(
    ("shapes", "n_obs_steps", "message"),
    [
        ({"a": (2,)}, 0, "n_obs_steps is 0"),
        ({"a": (2,)}, 10**9, "n_obs_steps is 1000000000"),
        ({"a": (0,)}, 1, r"'a' has shape \(0,\)"),
        ({"a": (10**12,)}, 1, r"'a' has shape \(1000000000000,\)"),
        ({"a": (40000,)}, 2, "80000 numbers in 2 frames"),
    ],
)
def test_shapes_that_no_robot_has_are_refused(
    shapes: dict[str, tuple[int, ...]], n_obs_steps: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        StateEncoderConfig().create(shapes, n_obs_steps)


def test_options_survive_a_round_trip_through_yaml() -> None:
    config: EncoderConfig = StateEncoderConfig(hidden=[8, 4], output_dim=3, activation="mish")
    text = yaml.safe_dump(asdict(config))
    assert checked(StateEncoderConfig, yaml.safe_load(text)) == config


# -- history as differences -----------------------------------------------------------------------


def test_differences_of_equal_frames_are_zero_and_the_newest_stands_itself() -> None:
    config = StateEncoderConfig(history="differences")
    encoder = config.create({"b": (2,), "a": ()}, 3)
    frame = {"b": torch.randn(4, 1, 2), "a": torch.randn(4, 1)}
    condition = encode(encoder, {"b": frame["b"].expand(-1, 3, -1), "a": frame["a"].expand(-1, 3)})
    assert not condition[:, :6].any()
    assert torch.equal(condition[:, 6:], torch.cat([frame["a"], frame["b"][:, 0]], 1))


@settings(max_examples=20, deadline=None)
@given(shapes=shapes_strategy, n_obs_steps=st.integers(1, 4))
def test_differences_say_what_frames_say(
    shapes: dict[str, tuple[int, ...]], n_obs_steps: int
) -> None:
    obs = observations(shapes, 3, n_obs_steps)
    plain, other = (
        encode(StateEncoderConfig(history=history).create(shapes, n_obs_steps), obs)
        for history in ("frames", "differences")
    )
    told = other.view(3, n_obs_steps, -1)
    # The newest frame, less the motions since another one, is that one.
    back = [told[:, -1]]
    for motion in told[:, :-1].flip(1).unbind(1):
        back.append(back[-1] - motion / 8)
    torch.testing.assert_close(torch.stack(back[::-1], 1).flatten(1), plain, atol=1e-5, rtol=1e-5)


def test_a_small_motion_survives_half_precision_as_a_difference_alone() -> None:
    obs = {"x": torch.tensor([[[0.898], [0.899]]])}
    frames, motion = (
        encode(StateEncoderConfig(history=history).create({"x": (1,)}, 2), obs).bfloat16().float()
        for history in ("frames", "differences")
    )
    assert frames[0, 0] == frames[0, 1]
    assert motion[0, 0] == pytest.approx(8 * 0.001, rel=0.01)
