"""A method with two times and steps of its own: trained, pushed, sampled, distilled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lfm_policy.config import ExperimentConfig
from lfm_policy.distillation import distill
from lfm_policy.flow import METHODS, BlockPath, Method, MethodConfig, Network, PathSample, Velocity
from lfm_policy.options import option, options
from lfm_policy.policy import load_policy
from lfm_policy.training import train

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]


class TwoTimes(Method):
    """Asks with the time of the chunk and the one that its answer leads to."""

    n_times = 2

    def loss(
        self,
        network: Network,
        sample: PathSample,
        cond: Tensor | None,
        path: BlockPath,
        *,
        average: Network | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        ends = sample.t * torch.rand_like(sample.t)
        output = network(sample.x_t, torch.stack([sample.t, ends], dim=1), cond)
        return functional.mse_loss(output, sample.dx_t)

    def step(
        self,
        network: Network,
        x: Tensor,
        cond: Tensor | None,
        t: float,
        t_next: float,
        path: BlockPath,
    ) -> Tensor:
        times = x.new_tensor([t, t_next]).expand(len(x), 2)
        return x + (t_next - t) * network(x, times, cond)

    def velocity(self, network: Network, path: BlockPath) -> Velocity:
        return lambda x, t, cond: network(x, torch.stack([t, t], dim=1), cond)


@options
class TwoTimesConfig(MethodConfig):
    name: str = option("two times", "what networks learn")

    def _build(self) -> Method:
        return TwoTimes(self)


def test_from_training_to_a_student(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS._entries, "two times", TwoTimesConfig)
    changes: dict[str, Any] = {"flow.method": "two times", "training.total_steps": 12}
    train(make_config(changes), tmp_path / "run", device="cpu", quiet=True)
    policy = load_policy(tmp_path / "run")
    policy.set_sampler(solver="euler", nfe=4)
    assert policy.nfe == 4
    batch = {"position": torch.randn(3, 2, 3)}
    noise = torch.randn(3, 4, 2)
    result = policy.sample(batch, noise=noise)
    assert result.nfe == 4
    # By hand: two steps of either block, each asked where it leads to.
    x, cond = noise, policy.encode(batch)
    with torch.no_grad():
        for n in (2, 1):
            for t, t_next in ((1.0, 0.5), (0.5, 0.0)):
                times = torch.tensor([t, t_next]).expand(3, 2)
                x = x + (t_next - t) * policy.model.blocks[n - 1](x, times, cond)
    action = policy.normalizer["action"]
    expected = policy.normalizer.unnormalize("action", x).clamp(action.min, action.max)
    torch.testing.assert_close(result.chunk, expected)
    quick = ["training.total_steps=4", "distill.samples=1", "distill.teacher_steps=2"]
    student = distill(tmp_path / "run", nfe=1, overrides=quick, device="cpu", quiet=True)
    assert load_policy(student).sample(batch).nfe == 1
