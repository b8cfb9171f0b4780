"""The demonstrations that a configuration names, as training and networks need them."""

from __future__ import annotations

from pathlib import Path

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import DatasetBundle, build_datasets
from lfm_policy.data.images.cache import DEFAULT_CACHE, ImageCache
from lfm_policy.data.normalizer import Normalizer
from lfm_runtime.policy.spec import DataSpec

IMAGE_CACHE = "image-cache"
"""Name of the folder, beside a run's, that holds decoded camera images."""


def load_datasets(
    config: ExperimentConfig,
    image_cache: Path | None = None,
    *,
    kept: Normalizer | None = None,
    quiet: bool = True,
) -> DatasetBundle:
    """Load the demonstrations of a configuration.

    Decoded images go into the folder ``image_cache``, at the size that the encoder looks at.
    ``kept`` is the normaliser of an earlier training, whose transforms stay.
    """
    policy, scaling = config.policy, config.normalization
    return build_datasets(
        config.dataset,
        policy.n_obs_steps,
        policy.horizon,
        policy.n_action_steps,
        {"default": scaling.obs, "action": scaling.action, **scaling.keys},
        image_cache=ImageCache(image_cache or DEFAULT_CACHE, config.encoder.frame_size),
        kept=kept,
        quiet=quiet,
    )


def data_spec(data: DatasetBundle) -> DataSpec:
    """Return what the networks have to know of the data."""
    return DataSpec(data.obs_shapes, data.action_dim, data.fingerprint, data.float64_keys)
