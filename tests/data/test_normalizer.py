"""The normaliser: what each mode gives, round trips, and damaged files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lfm_policy.data.normalizer import CONSTANT_RANGE, MODES, Normalizer
from lfm_policy.errors import InputError

ARRAYS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=8),
    elements=st.floats(-1000, 1000, width=32),
)


@settings(deadline=None)
@given(array=ARRAYS, mode=st.sampled_from(MODES))
def test_round_trip_and_range(array: np.ndarray, mode: str) -> None:
    normalizer = Normalizer.fit({"x": array}, mode)
    x = torch.from_numpy(array)
    y = normalizer.normalize("x", x)
    assert y.dtype == torch.float32
    assert torch.isfinite(y).all()
    # float32 of values up to 1000 around a centre that may be far away compared with the range
    torch.testing.assert_close(normalizer.unnormalize("x", y), x, rtol=1e-5, atol=1e-3)

    span = torch.from_numpy(array.max(0) - array.min(0))
    well_spread = span > 1
    if mode == "limits":
        assert (y.amin(0)[well_spread] + 1).abs().le(2e-3).all()
        assert (y.amax(0)[well_spread] - 1).abs().le(2e-3).all()
    elif mode == "standard":
        assert y.mean(0)[well_spread].abs().le(5e-3).all()
        assert (y.std(0, correction=0)[well_spread] - 1).abs().le(5e-3).all()
    else:
        assert torch.equal(y, x)


@pytest.mark.parametrize("mode", ["limits", "standard"])
def test_constant_dimensions_are_centred_and_not_scaled(mode: str) -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(50, 3)).astype(np.float32)
    array[:, 1] = 7.5
    array[:, 2] = 3 + rng.uniform(0, 0.9 * CONSTANT_RANGE, 50)
    normalizer = Normalizer.fit({"x": array}, mode)
    assert normalizer["x"].scale[1:].tolist() == [1, 1]
    y = normalizer.normalize("x", torch.from_numpy(array))
    assert (y[:, 1] == 0).all()
    assert y[:, 2].abs().max() < CONSTANT_RANGE
    # a value that deviates in use is not blown up
    assert normalizer.normalize("x", torch.tensor([0.0, 8.5, 3.0]))[1] == 1


def test_modes_by_key() -> None:
    arrays = {key: np.array([[0.0], [10.0], [20.0]], np.float32) for key in ("a", "b", "c")}
    normalizer = Normalizer.fit(arrays, {"b": "identity", "default": "standard"})
    top = {key: normalizer.normalize(key, torch.tensor([20.0])).item() for key in arrays}
    assert top["b"] == 20
    assert top["a"] == top["c"] == pytest.approx(np.sqrt(1.5))
    assert Normalizer.fit(arrays, {}).normalize("a", torch.tensor([20.0])).item() == 1


def test_statistics_are_raw() -> None:
    array = np.array([[0.0, -4.0], [10.0, 4.0]], np.float32)
    stats = Normalizer.fit({"x": array})["x"]
    assert stats.min.tolist() == [0, -4] and stats.max.tolist() == [10, 4]
    assert stats.mean.tolist() == [5, 0] and stats.std.tolist() == [5, 4]


def test_integers_are_taken() -> None:
    array = np.array([[0], [255]], np.uint8)
    normalizer = Normalizer.fit({"x": array})
    assert normalizer.normalize("x", torch.from_numpy(array)).tolist() == [[-1], [1]]


def test_state_tensors_round_trip() -> None:
    arrays = {"action": np.eye(3, dtype=np.float32), "obs/pos": np.ones((4, 2, 2), np.float32)}
    normalizer = Normalizer.fit(arrays)
    tensors = normalizer.state_tensors()
    assert {"action/scale", "obs/pos/offset", "action/std"} < set(tensors)
    again = Normalizer.from_tensors(tensors)
    assert again.keys() == ("action", "obs/pos")
    for name, tensor in again.state_tensors().items():
        assert torch.equal(tensor, tensors[name])


def test_to_moves_a_copy() -> None:
    normalizer = Normalizer.fit({"x": np.eye(3)})
    assert normalizer.to("meta")["x"].scale.device.type == "meta"
    assert normalizer["x"].scale.device.type == "cpu"


def test_missing_key_is_named() -> None:
    normalizer = Normalizer.fit({"action": np.eye(2), "agent_pos": np.eye(2)})
    for call in (normalizer.normalize, normalizer.unnormalize):
        with pytest.raises(InputError, match=r"no statistics for 'agent'; .*action, agent_pos"):
            call("agent", torch.zeros(2))


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 1), ()])
def test_other_shape_is_refused(shape: tuple[int, ...]) -> None:
    normalizer = Normalizer.fit({"x": np.eye(2)})
    with pytest.raises(InputError, match=r"'x' has shape .*; expected \(2,\)"):
        normalizer.normalize("x", torch.zeros(shape))


def test_bad_modes() -> None:
    arrays = {"action": np.eye(2)}
    with pytest.raises(InputError, match="is 'limit': did you mean 'limits'"):
        Normalizer.fit(arrays, "limit")
    with pytest.raises(InputError, match=r"names the key 'actions', .*did you mean 'action'"):
        Normalizer.fit(arrays, {"actions": "limits"})
    with pytest.raises(InputError, match="'action': it has no steps"):
        Normalizer.fit({"action": np.zeros((0, 2))})


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("x/scale", None, "'x' lacks scale"),
        ("x/std", None, "'x' lacks std"),
        ("x/scale", torch.zeros(2), "'x/scale' must be positive"),
        ("x/scale", torch.tensor([1, -1.0]), "'x/scale' must be positive"),
        ("x/offset", torch.tensor([0, float("nan")]), "'x/offset' holds NaN or infinity"),
        ("x/offset", torch.zeros(3), r"'x/offset' is .* \(3,\); expected .* \(2,\)"),
        ("x/mean", torch.zeros(2, dtype=torch.float64), "'x/mean' is torch.float64"),
        ("x/min", torch.full((2,), 9.0), "'x/min' exceeds 'x/max'"),
        ("x/other", torch.zeros(2), "unexpected tensor 'x/other'"),
        ("scale", torch.zeros(2), "unexpected tensor 'scale'"),
    ],
)
def test_damaged_tensors(name: str, tensor: torch.Tensor | None, message: str) -> None:
    tensors = Normalizer.fit({"x": np.eye(2)}).state_tensors()
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    with pytest.raises(InputError, match=f"n.safetensors: .*{message}"):
        Normalizer.from_tensors(tensors, source="n.safetensors")
