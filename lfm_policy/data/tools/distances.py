"""Depth images as they are stored, for who carries them on and does not look at them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from lfm_policy.data.images.depth import depth_layout, looks_like_depth
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.zarr.format import ZarrConfig

Distant: TypeAlias = ZarrConfig | RobomimicConfig
"""Formats of which distances are read as they are, and which can be written so."""


def depth_in(config: Distant) -> list[str]:
    """Return which of the observations that are wanted can be nothing else than depth.

    Raises:
        InputError: the metadata are damaged.
    """
    contents = type(config).contents(Path(config.path).expanduser())
    return [
        key
        for key, array in contents.stored.items()
        if array.dtype == "uint16" and looks_like_depth(array.shape[1:], np.dtype(array.dtype))
        if not config.obs_keys or key in config.obs_keys
    ]


def without(config: Distant, depth: Collection[str]) -> Distant:
    """Return a configuration that reads all other observations; they may be none.

    Warns:
        UserWarning: nobody named any, and some can be none.
    """
    keys = list(config.obs_keys)
    if not keys and isinstance(config, RobomimicConfig):
        from lfm_policy.data.robomimic.choice import observed_keys
        from lfm_policy.data.robomimic.file import RobomimicFile

        with RobomimicFile(config.path) as file:
            demos = file.select(config.filter_key)[: config.max_episodes]
            keys = observed_keys(file, demos, file.lengths(demos, config.action_key), depth)
    rename = {key: name for key, name in config.rename.items() if key not in depth}
    return replace(config, obs_keys=[key for key in keys if key not in depth], rename=rename)


def distances(config: Distant, key: str) -> np.ndarray:
    """Return an array of depth of the episodes that a configuration reads, (T, height, width).

    Raises:
        InputError: it cannot be read, or does not fit into memory.
    """
    if isinstance(config, ZarrConfig):
        from lfm_policy.data.zarr.store import load_arrays, stored_ends

        values = load_arrays(config.path, [f"data/{key}"])[f"data/{key}"]
        values = values[: stored_ends(config.path)[: config.max_episodes][-1]]
    else:
        from lfm_policy.data.robomimic.file import RobomimicFile

        with RobomimicFile(config.path) as file:
            demos = file.select(config.filter_key)[: config.max_episodes]
            lengths = file.lengths(demos, config.action_key)
            info = file.info(demos, file.observation(key), lengths, ranks=(3, 4))
            values = file.read(demos, file.observation(key), lengths, info)
    layout = depth_layout(values.shape[1:], values.dtype, f"{config.path}: {key}")
    return layout.to_frames(values)[..., 0]
