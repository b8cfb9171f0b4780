"""A graph knows the times of all evaluations, one or two of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lfm_policy.flow import (
    BlockPath,
    FlowBlock,
    MeanVelocityConfig,
    Method,
    Network,
    PathSample,
    Velocity,
)
from lfm_policy.flow.solvers.velocity import time_like
from lfm_policy.policy import Policy, PolicyModel
from lfm_runtime import OnnxPolicy

from .conftest import build_policy, random_batch

pytestmark = pytest.mark.slow

pytest.importorskip("onnxscript")
OTHERS = {"name": "conditional_unet1d", "channels": [8], "n_groups": 4, "step_embed_dim": 8}
UNET = {"name": "unet1d", "channels": [8], "n_groups": 4, "embed_dim": 8, "time_embed_dim": 8}


class MeanVelocity(Method):
    """The network is asked with both ends of a step, and answers with the mean velocity."""

    n_times = 2

    def loss(
        self, network: Network, sample: PathSample, cond: Tensor | None, path: BlockPath
    ) -> Tensor:
        raise NotImplementedError

    def velocity(self, network: Network, path: BlockPath) -> Velocity:
        raise NotImplementedError

    def step(
        self,
        network: Network,
        x: Tensor,
        cond: Tensor | None,
        t: float,
        t_next: float,
        path: BlockPath,
    ) -> Tensor:
        times = torch.stack([time_like(x, t), time_like(x, t_next)], dim=1)
        return x + (t_next - t) * network(x, times, cond)


class TwoTimeModel(PolicyModel):
    """A model whose blocks follow `MeanVelocity`."""

    def __init__(self, config: Any, spec: Any) -> None:
        super().__init__(config, spec)
        self.blocks = torch.nn.ModuleList(
            config.network.create(self.chunk_shape, self.encoder.cond_dim, MeanVelocity.n_times)
            for _ in self.blocks
        )
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.blocks.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))

    def flow_block(self, n: int, velocity: Any = None) -> FlowBlock:
        return FlowBlock(
            self.blocks[n - 1], self.schedule.step(n), method=MeanVelocity(MeanVelocityConfig())
        )


@pytest.mark.parametrize("network", [None, UNET, OTHERS])
def test_networks_that_are_asked_with_two_times(tmp_path: Path, network: dict | None) -> None:
    from lfm_policy.exporting import export_policy

    n_blocks = 2 if network is None else 1
    nfe = n_blocks + 1
    one = build_policy(
        n_blocks,
        sampler={"solver": "euler", "nfe": nfe},
        **({} if network is None else {"network": network}),
    )
    policy = Policy(one.config, one.spec, TwoTimeModel(one.config, one.spec), one.normalizer)
    exported = OnnxPolicy(export_policy(policy, tmp_path / "out"))
    assert exported.nfe == policy.nfe == nfe
    batch = random_batch(policy, 4)
    noise = np.random.default_rng(0).standard_normal((4, *policy.chunk_shape), dtype=np.float32)
    expected = policy.sample(batch, noise=torch.from_numpy(noise)).chunk.numpy()
    found = exported.sample(batch, noise=noise).chunk
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    # Both times count: the same steps in other places give something else.
    with torch.no_grad():
        for block in policy.model.blocks:
            (size,) = {m.time.dim for m in block.modules() if hasattr(m, "time")}
            for name, weight in block.named_parameters():
                if name.endswith("hidden.weight"):
                    weight[:, size : 2 * size] *= -1
    changed = policy.sample(batch, noise=torch.from_numpy(noise)).chunk.numpy()
    assert np.abs(changed - expected).max() > 1e-3 * np.abs(expected).max()
