"""The demonstrations that a configuration names, as training and networks need them."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import DatasetBundle, build_datasets
from lfm_policy.data.images.cache import DEFAULT_CACHE, ImageCache
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.tools.detect import of_another_format, sought_at
from lfm_policy.errors import InputError, NoDatasetError
from lfm_policy.policy.model import tensor_shapes
from lfm_policy.training.auxiliary.targets import read_targets
from lfm_runtime.policy.spec import DataSpec

IMAGE_CACHE = "image-cache"
"""Name of the folder, beside a run's, that holds decoded camera images."""


def load_datasets(
    config: ExperimentConfig,
    image_cache: Path | None = None,
    *,
    kept: Normalizer | None = None,
    for_training: bool = False,
    quiet: bool = True,
) -> DatasetBundle:
    """Load the demonstrations of a configuration.

    Decoded images go into the folder ``image_cache``, at the size that the encoder looks at. To
    decode them may take hours, so everything else is tried before: a mistake is known in seconds,
    and leaves nothing behind.

    Args:
        config: says what to load.
        image_cache: folder for decoded images; `DEFAULT_CACHE` when None.
        kept: the normaliser of an earlier training, whose transforms stay.
        for_training: whether networks and targets have to fit, too, before images are decoded.
        quiet: no progress bars.

    Raises:
        InputError: as `build_datasets`; or the format reads no depth, and some is asked for; or
            networks or targets do not fit.
    """
    tried = False

    def try_without_frames(blank: ImageCache) -> None:
        nonlocal tried
        if tried:  # datasets of several files decode several times
            return
        with warnings.catch_warnings(), torch.random.fork_rng([]):
            warnings.simplefilter("ignore")  # what is read again says it then
            data = _build(config, blank, kept, quiet=True)
            if for_training:
                read_targets(config, data)
                spec = data_spec(data)
                encoder = config.encoder.with_sizes(spec.obs_shapes)
                any_size = {"max_tensors": sys.maxsize, "max_numbers": sys.maxsize}
                tensor_shapes(replace(config, encoder=encoder), spec, **any_size)
        tried = True

    cache = ImageCache(
        image_cache or DEFAULT_CACHE, config.encoder.frame_size, before_decoding=try_without_frames
    )
    try:
        return _build(config, cache, kept, quiet=quiet)
    except NoDatasetError as error:
        raise InputError(f"{error}; {sought_at(config.dataset)}") from None
    except InputError as error:
        if advice := of_another_format(config.dataset):
            raise InputError(f"{error}{advice}") from None
        raise


def _build(
    config: ExperimentConfig, cache: ImageCache, kept: Normalizer | None, *, quiet: bool
) -> DatasetBundle:
    policy, scaling = config.policy, config.normalization
    data = build_datasets(
        config.dataset,
        policy.n_obs_steps,
        policy.horizon,
        policy.n_action_steps,
        {"default": scaling.obs, "action": scaling.action, **scaling.keys},
        image_cache=cache,
        kept=kept,
        quiet=quiet,
    )
    if len(data.depth) < len(config.dataset.depth):
        raise InputError(
            f"dataset.depth names {', '.join(config.dataset.depth)}, but the format "
            f"{config.dataset.name} reads no depth: leave it out, or write the data as zarr"
        )
    if config.dataset.tasks and not data.tasks:
        raise InputError(
            f"dataset.tasks is {config.dataset.tasks}, but the format {config.dataset.name} names "
            "no tasks: leave it out"
        )
    return data


def data_spec(data: DatasetBundle) -> DataSpec:
    """Return what the networks have to know of the data."""
    return DataSpec(
        data.obs_shapes,
        data.action_dim,
        data.fingerprint,
        data.float64_keys,
        data.depth,
        data.tasks,
    )
