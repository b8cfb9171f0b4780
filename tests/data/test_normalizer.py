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
    elif mode == "quantiles":
        # Between the quantiles everything is, and linearly beyond, as far as float32 goes.
        assert ((y.amax(0) - y.amin(0))[well_spread] >= 2 - 4e-3).all()
    elif mode == "standard":
        assert y.mean(0)[well_spread].abs().le(5e-3).all()
        assert (y.std(0, correction=0)[well_spread] - 1).abs().le(5e-3).all()
    else:
        assert torch.equal(y, x)


def test_quantiles_go_to_1_and_the_rest_beyond() -> None:
    # 0 to 200 in order: the quantiles are 2 and 198; then one value far away.
    array = np.arange(201.0)[:, None]
    stats = Normalizer.fit({"x": array}, "quantiles")["x"]
    assert stats.scale.item() == pytest.approx(1 / 98)
    assert stats.offset.item() == pytest.approx(-100 / 98)
    normalizer = Normalizer.fit({"x": array}, "quantiles")
    y = normalizer.normalize("x", torch.tensor([[2.0], [100.0], [198.0], [200.0], [1e4]]))
    torch.testing.assert_close(y[:, 0], torch.tensor([-1, 0, 1, 100 / 98, 9900 / 98]))
    # Limits stay those of the demonstrations: actions are clipped to them.
    assert (stats.min.item(), stats.max.item()) == (0, 200)


def test_an_outlier_squeezes_limits_and_not_quantiles() -> None:
    array = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    array[17, 1] = 500.0
    limits, quantiles = (Normalizer.fit({"x": array}, mode) for mode in ("limits", "quantiles"))
    rest = torch.from_numpy(np.delete(array, 17, axis=0))
    assert limits.normalize("x", rest)[:, 1].std() < 0.01
    assert quantiles.normalize("x", rest).std(0).min() > 0.5


@pytest.mark.parametrize("rare", [0.08, -3.0])
def test_where_quantiles_coincide_limits_count(rare: float) -> None:
    """As with a gripper that is closed 99% of the time, or a contact that is rare."""
    rng = np.random.default_rng(0)
    array = rng.uniform(-1, 1, (1000, 3))
    array[:, 1] = 0
    array[:, 2] = rng.uniform(0, 1e-5 * abs(rare), 1000)
    array[500:503, 1:] = rare
    limits, quantiles = (
        Normalizer.fit({"x": array}, mode)["x"] for mode in ("limits", "quantiles")
    )
    assert torch.equal(quantiles.scale[1:], limits.scale[1:])
    assert torch.equal(quantiles.offset[1:], limits.offset[1:])
    assert quantiles.scale[0] > limits.scale[0]


@settings(deadline=None)
@given(
    array=hnp.arrays(np.float64, (60, 2), elements=st.floats(-100, 100)),
    offset=st.sampled_from([0.0, -3.0, 1.7e9]),
    mode=st.sampled_from(["limits", "quantiles"]),
)
def test_quantiles_are_kept_in_order_whatever_the_offset(
    array: np.ndarray, offset: float, mode: str
) -> None:
    """Far from zero too, where float32 alone would not tell the values apart."""
    array = np.round(array, 3) + offset
    normalizer = Normalizer.fit({"x": array}, mode)
    y = normalizer.normalize("x", torch.from_numpy(array)).double().numpy()
    q01, q99 = np.quantile(array, [0.01, 0.99], axis=0)
    low, high = array.min(0), array.max(0)
    for d in range(2):
        order = np.argsort(array[:, d])
        assert (np.diff(y[order, d]) >= 0).all()
        if high[d] - low[d] < CONSTANT_RANGE:
            continue
        by_limits = mode == "limits" or q99[d] - q01[d] < 1e-3 * max(high[d] - low[d], 0.1)
        first, last = (low[d], high[d]) if by_limits else (q01[d], q99[d])
        expected = (2 * array[:, d] - first - last) / (last - first)
        np.testing.assert_allclose(y[:, d], expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("mode", ["limits", "quantiles", "standard"])
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
    with pytest.raises(InputError, match=r"keys names 'actions', .*did you mean 'action'"):
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
