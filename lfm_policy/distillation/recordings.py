"""Observations without demonstrations: the teacher can be asked about them all the same."""

from __future__ import annotations

from pathlib import Path

from lfm_policy.data.dataset import DatasetBundle, WindowDataset
from lfm_policy.data.images.cache import ImageCache
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.windows import WindowIndex, warn_of_short_episodes
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.policy.checkpoint import CheckpointHeader


def read_observations(
    path: str, teacher: CheckpointHeader, image_cache: Path, *, quiet: bool
) -> ReplayBuffer:
    """Read what a robot saw, as ``lfm-policy control --record`` writes it.

    Args:
        path: zarr store whose ``data/<key>`` are the teacher's observations, in its units.
        teacher: whose observations these must be.
        image_cache: folder for decoded images.
        quiet: no progress bars.

    Raises:
        InputError: it is no such recording; the message says what is missing or differs.
    """
    spec = teacher.spec
    cache = ImageCache(image_cache, teacher.config.encoder.frame_size)
    buffer = ZarrConfig(path=path, obs_keys=list(spec.obs_shapes)).load(cache, quiet=quiet)
    shapes = {ACTION_KEY: (spec.action_dim,), **spec.obs_shapes}
    buffer.check_shapes(shapes, f"the teacher {teacher.folder}")
    return buffer


def windows_of_recording(
    buffer: ReplayBuffer, data: DatasetBundle, teacher: CheckpointHeader
) -> WindowDataset:
    """Return the windows of all episodes of a recording, normalised as the teacher's ``data``.

    Raises:
        InputError: every episode is too short for a window.
    """
    policy = teacher.config.policy
    horizons = (policy.n_obs_steps, policy.horizon, policy.n_action_steps)
    index = WindowIndex(buffer.episode_ends, *horizons, source=buffer.source)
    warn_of_short_episodes(buffer.episode_lengths, *horizons, source=buffer.source)
    return WindowDataset(buffer, data.normalizer, index, data.train.obs_keys)
