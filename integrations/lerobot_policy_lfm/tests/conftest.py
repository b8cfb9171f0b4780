"""A small policy, and batches as LeRobot makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip(
    "lerobot", reason='LeRobot 0.6 is absent: pip install "lerobot[training]>=0.6,<0.7"'
)

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot_policy_lfm import LFMConfig, LFMPolicy
from torch import Tensor

torch.set_num_threads(1)

STATE, ENVIRONMENT, IMAGE = (
    "observation.state",
    "observation.environment_state",
    "observation.images.top",
)
SHAPES = {STATE: (4,), ENVIRONMENT: (3,), IMAGE: (3, 20, 18), "action": (2,)}
KINDS = {STATE: "STATE", ENVIRONMENT: "ENV", IMAGE: "VISUAL", "action": "ACTION"}
NETWORK = {"width": 16, "n_layers": 1, "time_embed_dim": 8}

MakeConfig = Callable[..., LFMConfig]


def small_config(*keys: str, **values: Any) -> LFMConfig:
    """Return options of a small policy that observes ``keys`` (the two vectors if none)."""
    features = {
        key: PolicyFeature(FeatureType[KINDS[key]], SHAPES[key])
        for key in (keys or (STATE, ENVIRONMENT))
    }
    options = {"network": NETWORK, "flow": {"c": 0.2}, "push_forward": {"n_steps": 2}}
    if IMAGE in features:
        image = {"name": "compact", "crop": [16, 16], "width": 8}
        options["encoder"] = {"image": image}
    given: dict[str, Any] = {
        "network": "mlp",
        "n_blocks": 2,
        "horizon": 6,
        "n_action_steps": 3,
        "nfe": 4,
        "options": options,
        "device": "cpu",
        "input_features": features,
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, SHAPES["action"])},
    }
    return LFMConfig(**(given | values))


def statistics(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Return statistics of a dataset, as LeRobot has them."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key, shape in SHAPES.items():
        size = (shape[0], 1, 1) if key == IMAGE else shape
        low, width = (100 * torch.rand(size, generator=generator) + 1 for _ in range(2))
        found[key] = {"min": low, "max": low + width, "mean": low + width / 2, "std": width / 4}
    return found


def shaken(policy: LFMPolicy, seed: int = 0) -> LFMPolicy:
    """Give a policy weights that all matter, the same to both of its models."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            policy.ema.get_parameter(name).copy_(parameter)
    return policy.eval()


def small_policy(*keys: str, **values: Any) -> LFMPolicy:
    """Return a small policy with random weights."""
    return shaken(LFMPolicy(small_config(*keys, **values), dataset_stats=statistics()))


def batch(config: LFMConfig, rows: int = 5, *, history: bool = True, seed: int = 1) -> dict:
    """Return a batch as the policy gets it, normalised; without ``history`` of single frames."""
    generator = torch.Generator().manual_seed(seed)
    steps = (config.n_obs_steps,) if history else ()
    assert config.input_features is not None
    found = {
        key: torch.rand(rows, *steps, *f.shape, generator=generator) * (1 if key == IMAGE else 2)
        - (0 if key == IMAGE else 1)
        for key, f in config.input_features.items()
    }
    if history:
        found["action"] = 2 * torch.rand(rows, config.horizon, 2, generator=generator) - 1
    return found
