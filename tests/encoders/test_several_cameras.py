"""The encoder of several cameras: their weights, features and conditions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lfm_policy.encoders.cameras import CamerasEncoder
from lfm_policy.encoders.compact import CompactEncoder
from lfm_policy.encoders.options import CamerasConfig
from lfm_policy.encoders.resnet18 import ResNet18Encoder
from lfm_policy.errors import InputError

SHAPES: dict[str, tuple[int, ...]] = {
    "agent_pos": (2,),
    "front.rgb": (24, 24, 3),
    "keypoints": (3, 2),
    "wrist": (36, 40, 1),
}
SAME: dict[str, tuple[int, ...]] = {"left": (20, 20, 3), "right": (20, 20, 3), "z": ()}
COMPACT = {"name": "compact", "width": 8, "keypoints": 3}


def observations(shapes: dict[str, tuple[int, ...]], batch: int, steps: int) -> dict[str, Tensor]:
    def one(shape: tuple[int, ...]) -> Tensor:
        if len(shape) == 3:
            return torch.randint(0, 256, (batch, steps, *shape), dtype=torch.uint8)
        return torch.randn(batch, steps, *shape)

    return {key: one(shape) for key, shape in shapes.items()}


def created(
    shapes: dict[str, tuple[int, ...]] = SHAPES, n_obs_steps: int = 2, **options: Any
) -> CamerasEncoder:
    encoder = CamerasConfig(**{"image": COMPACT, **options}).create(shapes, n_obs_steps)
    assert isinstance(encoder, CamerasEncoder)
    return encoder.eval()


def test_every_camera_has_an_encoder_of_its_own() -> None:
    encoder = created()
    assert encoder.image_keys == ("front.rgb", "wrist")
    assert encoder.obs_keys == tuple(sorted(SHAPES))
    assert encoder.cond_dim == 2 * (2 + 6 + 6 + 6)
    front, wrist = (encoder.image_encoder(key) for key in encoder.image_keys)
    assert front.frame_shape == (24, 24, 3) and wrist.frame_shape == (36, 40, 1)
    assert {name.split(".")[1] for name in encoder.state_dict()} == {"camera0", "camera1"}
    obs = observations(SHAPES, 3, 2)
    cond = encoder(obs)
    assert cond is not None and cond.shape == (3, encoder.cond_dim)
    torch.testing.assert_close(encoder.encode_images(obs)["wrist"], wrist(obs["wrist"]))


def test_the_order_of_names_does_not_matter() -> None:
    encoder = created()
    obs = observations(SHAPES, 3, 2)
    encoded = encoder.encode_images(obs)
    expected = torch.cat(
        [
            part
            for frame in range(2)
            for part in (
                obs["agent_pos"][:, frame],
                encoded["front.rgb"][:, frame],
                obs["keypoints"][:, frame].flatten(1),
                encoded["wrist"][:, frame],
            )
        ],
        dim=1,
    )
    assert torch.equal(encoder(obs), expected)
    backwards = created(dict(reversed(SHAPES.items())))
    backwards.load_state_dict(encoder.state_dict())
    assert torch.equal(backwards(dict(reversed(obs.items()))), expected)


def test_gradients_reach_images_and_hidden_layers() -> None:
    encoder = created(hidden=[16], output_dim=5)
    cond = encoder(observations(SHAPES, 3, 2))
    assert cond is not None and cond.shape == (3, 5)
    cond.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_shared_weights_are_there_once_and_see_all_cameras_alike() -> None:
    encoder = created(SAME, shared=True)
    assert encoder.image_encoder("left") is encoder.image_encoder("right")
    assert {name.split(".")[1] for name in encoder.state_dict()} == {"shared"}
    obs = observations(SAME, 2, 2)
    obs["right"] = obs["left"]
    encoded = encoder.encode_images(obs)
    assert torch.equal(encoded["left"], encoded["right"])
    own = created(SAME).encode_images(obs)
    assert not torch.equal(own["left"], own["right"])
    assert len(encoder.trained_parameters()) == len(list(encoder.parameters()))


def test_cameras_can_differ_in_options_and_in_kind() -> None:
    encoder = created(
        cameras={
            "wrist": {"name": "resnet18", "width": 16, "output_dim": 9},
            "front.rgb": {"keypoints": 5},
        },
        image={**COMPACT, "crop": [33, 32], "resize": [34, 34]},
    )
    front, wrist = (encoder.image_encoder(key) for key in encoder.image_keys)
    assert isinstance(front, CompactEncoder) and front.feature_dim == 10
    assert isinstance(wrist, ResNet18Encoder) and wrist.feature_dim == 9
    encoded = encoder.encode_images(observations(SHAPES, 2, 1))
    assert encoded["front.rgb"].shape == (2, 1, 10) and encoded["wrist"].shape == (2, 1, 9)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_images_are_encoded_for_any_number_of_steps_and_features_passed_on(steps: int) -> None:
    encoder = created()
    obs = observations(SHAPES, 3, steps)
    encoded = encoder.encode_images(obs)
    for key in encoder.image_keys:
        assert encoded[key].shape == (3, steps, encoder.feature_dim(key))
    assert encoded["agent_pos"] is obs["agent_pos"]
    again = encoder.encode_images(encoded)
    assert all(again[key] is encoded[key] for key in encoded)
    mixed = encoder.encode_images({**obs, "wrist": encoded["wrist"]})
    assert mixed["wrist"] is encoded["wrist"]
    torch.testing.assert_close(mixed["front.rgb"], encoded["front.rgb"])


def test_a_frame_may_be_encoded_once_for_all_its_histories() -> None:
    encoder = created()
    obs = observations(SHAPES, 1, 4)
    encoded = encoder.encode_images(obs)
    for end in (2, 3, 4):
        window = {key: value[:, end - 2 : end] for key, value in obs.items()}
        known = {key: value[:, end - 2 : end] for key, value in encoded.items()}
        torch.testing.assert_close(encoder.fuse(known), encoder(window))


def test_single_frames_have_features_in_fixed_views() -> None:
    encoder = created(image={**COMPACT, "crop": [18, 18], "contrast": 0.5}).train()
    frames = observations(SHAPES, 5, 1)["front.rgb"][:, 0]
    views = [encoder.frame_features("front.rgb", frames, view) for view in range(3)]
    assert all(view.shape == (5, 6) for view in views)
    again = encoder.frame_features("front.rgb", frames[2:4], 2)
    torch.testing.assert_close(again, views[2][2:4])
    obs = {**observations(SHAPES, 5, 1), "front.rgb": frames[:, None]}
    centre = encoder.eval().encode_images(obs)["front.rgb"][:, 0]
    torch.testing.assert_close(views[0], centre)
    assert not torch.equal(views[0], views[1])


def test_observations_it_was_not_made_for_are_passed_on_and_ignored() -> None:
    encoder = created()
    obs = observations(SHAPES, 2, 2)
    other = torch.zeros(2, 2, 7)
    assert encoder.encode_images({**obs, "other": other})["other"] is other
    assert torch.equal(encoder({**obs, "other": other}), encoder(obs))


def test_all_weights_are_trained_under_the_names_of_the_state_dict() -> None:
    encoder = created(hidden=[4])
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    trained = encoder.trained_parameters()
    assert list(trained) == [name for name, _ in encoder.named_parameters()]
    assert all(trained[name] is p for name, p in encoder.named_parameters())
    encoder.load_pretrained()  # there is nothing to load
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_it_exports_as_one_graph_with_a_free_batch() -> None:
    encoder = created(hidden=[8])
    obs = observations(SHAPES, 3, 2)
    dynamic = {key: {0: torch.export.Dim("batch", min=1, max=64)} for key in obs}
    program = torch.export.export(encoder, (obs,), dynamic_shapes=(dynamic,), strict=False)
    for batch in (1, 5):
        obs = observations(SHAPES, batch, 2)
        torch.testing.assert_close(program.module()(obs), encoder(obs))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ({"agent_pos": (2,)}, {}, "no observation is an image .*choose encoder.name=state"),
        ({"a": (20, 20, 5)}, {}, "no observation is an image"),
        (
            {**SHAPES, "depth": (20, 20, 2)},
            {},
            r"'depth' has shape \(20, 20, 2\), expected an image",
        ),
        (
            SHAPES,
            {"cameras": {"wrst": {"width": 8}}},
            "cameras names 'wrst', which is no camera of the data: did you mean 'wrist'",
        ),
        (
            SHAPES,
            {"shared": True},
            r"images 'front.rgb' have shape \(24, 24, 3\) and images 'wrist' \(36, 40, 1\)",
        ),
        (SHAPES, {"image": {**COMPACT, "crop": [25, 24]}}, "images 'front.rgb' are 24 x 24 pixels"),
        (SHAPES, {"image": {"name": "resnet18"}}, "'resnet18' encoder sees 24 x 24 pixels"),
        (
            SHAPES,
            {"image": {"name": "compact", "keypoints": 4096}},
            "numbers in 9 frames, the 'cameras' encoder takes at most",
        ),
        ({"a": (5000, 5000, 4)}, {}, "'a' has shape"),
    ],
)
def test_cameras_it_cannot_be_made_for_are_refused(
    shapes: dict[str, tuple[int, ...]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        created(shapes, 9, **options)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("wrist", None, "observation 'wrist' is missing: expected agent_pos, front.rgb"),
        ("agent_pos", None, "observation 'agent_pos' is missing"),
        ("wrist", torch.zeros(2, 2, 36, 40, 1), r"images 'wrist' are float32 \(2, 2, 36, 40, 1\)"),
        (
            "wrist",
            torch.zeros(2, 2, 40, 36, 1, dtype=torch.uint8),
            r"expected uint8 \(batch, steps, 36, 40, 1\)",
        ),
        ("wrist", torch.zeros(2, 2, 7), r"images 'wrist' are float32 \(2, 2, 7\)"),
        ("wrist", torch.zeros(2, 3, 6), r"'wrist' has shape \(2, 3, 6\).*2 frames of history"),
        ("agent_pos", torch.zeros(2, 2, 3), r"'agent_pos' has shape \(2, 2, 3\)"),
    ],
)
def test_wrong_observations_are_named(key: str, value: Tensor | None, message: str) -> None:
    encoder = created()
    obs = observations(SHAPES, 2, 2)
    if value is None:
        del obs[key]
    else:
        obs[key] = value
    with pytest.raises(InputError, match=message):
        encoder(obs)
