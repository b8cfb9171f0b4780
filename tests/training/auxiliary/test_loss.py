"""The error with which an encoding tells targets: closed forms, and what the log says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lfm_policy.config.auxiliary import AuxiliaryConfig
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.encoders.base import ObsEncoder
from lfm_policy.training.auxiliary.loss import AuxiliaryLoss, EncodingLoss
from lfm_policy.training.auxiliary.targets import Targets

STEPS, SEEN, WIDTH = 2, 3, 4
"""Frames of history, numbers of an observation, length of an encoding."""


class LinearEncoder(ObsEncoder):
    """c = W x, with the history x as one vector."""

    def __init__(self) -> None:
        super().__init__({"x": (SEEN,)}, STEPS, cond_dim=WIDTH)
        self.layer = nn.Linear(STEPS * SEEN, WIDTH, bias=False)

    def fuse(self, obs: Mapping[str, Tensor]) -> Tensor:
        encoded: Tensor = self.layer(obs["x"].flatten(1))
        return encoded


class ActionsLoss(EncodingLoss):
    """The mean of the encoding, in place of a loss of actions."""

    same_work = True

    def __init__(self) -> None:
        super().__init__()
        self.encoder = self._encode = LinearEncoder()

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return {f"encoder.{k}": p for k, p in self.encoder.trained_parameters().items()}

    def forward(self, x: Tensor, condition: object, x_other: None, prefix: None) -> Tensor:
        assert isinstance(condition, Tensor)  # it is encoded once, for both losses
        return condition.mean()


def make_targets(mode: str = "standard", steps: int = 50, **shapes: tuple[int, ...]) -> Targets:
    generator = np.random.default_rng(1)
    arrays = {"action": np.zeros((steps, 1), np.float32)}
    for number, (key, shape) in enumerate(shapes.items(), 1):
        values = generator.normal(size=(steps, *shape)) * 10.0**number + 7
        arrays[key] = values.astype(np.float32)
    buffer = ReplayBuffer(arrays, np.array([steps]))
    told = {key: array for key, array in arrays.items() if key != "action"}
    return Targets(buffer, Normalizer.fit(told, mode))


def make_loss(targets: Targets, **options: object) -> AuxiliaryLoss:
    """Return a loss whose head is not the zero that it begins with."""
    torch.manual_seed(0)
    loss = AuxiliaryLoss(ActionsLoss(), targets, AuxiliaryConfig(**options), seed=3)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in loss.head.parameters():
            parameter.normal_()
    return loss


def batch(targets: Targets, size: int = 6) -> tuple[Tensor, dict[str, Tensor], None, None, Tensor]:
    generator = torch.Generator().manual_seed(2)
    seen = torch.randn(size, STEPS, SEEN, generator=generator)
    steps = torch.randint(len(targets.values), (size, STEPS), generator=generator)
    return torch.zeros(size, 1, 1), {"x": seen}, None, None, targets.values[steps]


def test_a_linear_encoder_with_a_linear_head_has_this_gradient() -> None:
    targets = make_targets(pose=(3,))
    loss = make_loss(targets, weight=0.3, hidden=[])
    x, obs, _, _, told = batch(targets)
    loss(x, obs, None, None, told).backward()
    seen, expected = obs["x"].flatten(1), told.flatten(1)
    encode, (head,) = loss.actions.encoder.layer.weight.detach(), loss.head
    encoded = seen @ encode.T
    wrong = encoded @ head.weight.detach().T + head.bias.detach() - expected
    # d mean((H W x + b - y)^2) / dW = 2 / (numbers) H^T (H W x + b - y) x^T, and so on.
    share = 2 * 0.3 / wrong.numel()
    found = loss.actions.encoder.layer.weight.grad
    of_actions = torch.ones_like(encoded).T @ seen / encoded.numel()
    torch.testing.assert_close(found, of_actions + share * (wrong @ head.weight.detach()).T @ seen)
    torch.testing.assert_close(head.weight.grad, share * wrong.T @ encoded)
    torch.testing.assert_close(head.bias.grad, share * wrong.sum(0))


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    weight=st.floats(0.01, 10),
    scale=st.sampled_from([0.0, 0.5]),
)
def test_targets_count_alike_whatever_their_size(
    sizes: list[int], weight: float, scale: float
) -> None:
    targets = make_targets(**{f"t{n}": (size,) for n, size in enumerate(sizes)})
    loss = make_loss(targets, weight=weight, error_scale=scale, hidden=[5])
    given_batch = batch(targets)
    _, obs, _, _, told = given_batch
    with torch.no_grad():
        found = loss(*given_batch)
        cond = loss.actions.encoder(obs)
        squares = (loss.head(cond).view_as(told) - told).square()
        of_targets = [part.flatten(1).mean(1) for part in squares.split(sizes, dim=2)]
        window = torch.stack(of_targets).mean(0)
        if scale:
            window = 2 * scale**2 * (torch.sqrt(1 + window / scale**2) - 1)
    torch.testing.assert_close(found, cond.mean() + weight * window.mean())


def test_a_head_that_knows_nothing_has_the_error_of_the_spread() -> None:
    targets = make_targets(pose=(3,), corners=(4, 2))
    loss = AuxiliaryLoss(ActionsLoss(), targets, AuxiliaryConfig(), seed=3)
    history = targets.values[:, None].expand(-1, STEPS, -1)
    obs = {"x": torch.randn(50, STEPS, SEEN)}
    loss.eval()
    for rows in (slice(0, 10), slice(10, 50)):  # batches of different size
        loss(torch.zeros(50, 1)[rows], {"x": obs["x"][rows]}, None, None, history[rows])
    report = loss.report(training=False)
    assert report["auxiliary_loss"] == pytest.approx(1.0, rel=1e-4)
    for key, spread in targets.spreads.items():
        assert report[f"auxiliary_rmse_{key}"] == pytest.approx(spread, rel=1e-4)
        assert report[f"auxiliary_unexplained_{key}"] == pytest.approx(1.0, rel=1e-4)
    assert 5 < targets.spreads["pose"] < 20 < 50 < targets.spreads["corners"] < 200


@pytest.mark.parametrize("mode", ["limits", "quantiles", "standard", "identity"])
def test_errors_are_told_in_the_unit_of_the_data(mode: str) -> None:
    targets = make_targets(mode, pose=(3,))
    loss = make_loss(targets, hidden=[])
    given_batch = batch(targets)
    _, obs, _, _, told = given_batch
    loss(*given_batch)
    report = loss.report(training=True)
    with torch.no_grad():
        wrong = (loss.head(loss.actions.encoder(obs)).view_as(told) - told) / targets.scale
    assert report["auxiliary_rmse_pose"] == pytest.approx(float(wrong.square().mean().sqrt()))
    # The share of the variance does not depend on the mode where numbers have one scale each.
    assert report["auxiliary_unexplained_pose"] > 0


def test_a_target_that_never_changes_has_no_share_of_its_variance() -> None:
    arrays = {"action": np.zeros((9, 1)), "still": np.full((9, 2), 4.0)}
    targets = Targets(
        ReplayBuffer(arrays, np.array([9])), Normalizer.fit({"still": arrays["still"]})
    )
    loss = make_loss(targets)
    loss(*batch(targets))
    report = loss.report(training=True)
    assert math.isfinite(report["auxiliary_rmse_still"])
    assert "auxiliary_unexplained_still" not in report


def test_validation_is_of_the_actions_alone_and_counted_apart() -> None:
    targets = make_targets(pose=(3,))
    loss = make_loss(targets, weight=2.0)
    given_batch = batch(targets)
    training = loss(*given_batch)
    loss.eval()
    validation = loss(*given_batch)
    found = loss.report(training=True)
    assert found["loss"] == pytest.approx(float(validation.detach()))
    assert float(training.detach()) == pytest.approx(found["loss"] + 2.0 * found["auxiliary_loss"])
    assert loss.report(training=True) == {}
    assert loss.report(training=False) == found


def test_the_head_depends_on_the_seed_alone_and_begins_with_nothing() -> None:
    targets, actions = make_targets(pose=(3,)), ActionsLoss()

    def head(seed: int) -> dict[str, Tensor]:
        loss = AuxiliaryLoss(actions, targets, AuxiliaryConfig(hidden=[5, 6]), seed=seed)
        assert set(loss.trained_parameters()) == {
            "encoder.layer.weight",
            *(f"auxiliary.{n}.{part}" for n in (0, 2, 4) for part in ("weight", "bias")),
        }
        return dict(loss.head.named_parameters())

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = head(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = head(3), head(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert not first["4.weight"].any() and not first["4.bias"].any()
    assert first["4.weight"].shape == (STEPS * 3, 6)


def test_it_is_the_same_work_for_every_batch_and_looks_at_no_value(
    operations_of: Callable[[Callable[[], object]], list[str]],
    looks: Callable[[list[str]], list[str]],
) -> None:
    targets = make_targets(pose=(3,), corners=(4, 2))
    loss = make_loss(targets, error_scale=0.2)
    assert loss.same_work
    found = []
    for _ in range(2):
        given = batch(targets)
        found.append(operations_of(lambda given=given: loss(*given).backward()))
        loss.zero_grad(set_to_none=True)
    assert found[0] == found[1] and len(found[0]) > 20
    assert not looks(found[0])


def test_half_precision_leaves_the_error_in_float32() -> None:
    targets = make_targets(pose=(3,))
    loss = make_loss(targets)
    given_batch = batch(targets, 64)
    loss(*given_batch)
    exact = loss.report(training=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(*given_batch).dtype == torch.float32
    half = loss.report(training=True)
    assert half["auxiliary_loss"] == pytest.approx(exact["auxiliary_loss"], rel=0.02)
