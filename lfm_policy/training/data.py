"""The demonstrations that a configuration names, as training and networks need them."""

from __future__ import annotations

from lfm_policy.config import ExperimentConfig
from lfm_policy.data import DatasetBundle, build_datasets
from lfm_policy.policy.spec import DataSpec


def load_datasets(config: ExperimentConfig) -> DatasetBundle:
    """Load the demonstrations of a configuration."""
    policy = config.policy
    return build_datasets(
        config.dataset,
        policy.n_obs_steps,
        policy.horizon,
        policy.n_action_steps,
        {"default": config.normalization.obs, "action": config.normalization.action},
    )


def data_spec(data: DatasetBundle) -> DataSpec:
    """Return what the networks have to know of the data."""
    return DataSpec(data.obs_shapes, data.action_dim, data.fingerprint)
