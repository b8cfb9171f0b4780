"""Write robomimic's HDF5 files at once; `robomimic_demos` records them demo by demo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm.auto import tqdm

from lfm_policy.data.images.cache import release
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer, is_image
from lfm_policy.data.robomimic.env import check_env_args
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import atomic_file, exists

_PART_BYTES = 32 * 2**20
_CHUNK_BYTES = 2**20
_GYM = 2
"""robomimic's number for environments of gym, which it does not build before they are asked for."""


def unknown_env_args(fps: float | None = None) -> dict[str, Any]:
    """Return a description for demonstrations whose environment nobody knows.

    robomimic opens no file without one; with this one it trains as long as it need not roll out.

    Args:
        fps: steps per second, where they are known.
    """
    kwargs = {} if fps is None else {"control_freq": fps}
    return {"env_name": "unknown", "env_version": "", "type": _GYM, "env_kwargs": kwargs}


def write_robomimic(
    path: str | Path,
    buffer: ReplayBuffer,
    *,
    env_args: Mapping[str, Any] | None = None,
    states: np.ndarray | None = None,
    quiet: bool = True,
) -> None:
    """Write a buffer as robomimic's HDF5: ``data/demo_N/actions`` and ``data/demo_N/obs/<key>``.

    Values and dtypes stay as they are. Rewards are zeros and so are dones, except for the last of
    every demo, which is 1. The file appears under its name only when it is complete; images are
    copied part by part.

    Args:
        path: of the file.
        buffer: what to write, its action under ``"action"``; it is validated first.
        env_args: description of the environment, see `robomimic_file.read_env_args`; by default
            that of an unknown one.
        states: (T, n) states of the simulator; left out by default.
        quiet: no progress bar.

    Raises:
        InputError: the buffer or another argument is not valid, a key cannot be a name in HDF5,
            or ``path`` exists already.
    """
    buffer.validate()
    path = Path(path)
    if exists(path):
        raise InputError(f"{path} exists already: remove it or choose another name")
    if ACTION_KEY not in buffer.arrays:
        raise InputError(f"{buffer.source}: there is no array '{ACTION_KEY}' to write as actions")
    for key in buffer.arrays:
        if not key or "/" in key or "\0" in key or key == ".":
            raise InputError(f"{buffer.source}: '{key}' cannot be the name of an HDF5 array")
    if states is not None and (states.ndim != 2 or len(states) != buffer.n_steps):
        raise InputError(f"states have shape {states.shape}; expected ({buffer.n_steps}, n)")
    described = check_env_args(dict(env_args or unknown_env_args()), "env_args")
    text = json.dumps(described, indent=4)

    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = buffer.n_steps
        data.attrs["env_args"] = text
        episodes = zip(buffer.episode_starts, buffer.episode_ends, strict=True)
        for number, (begin, end) in enumerate(
            tqdm(episodes, total=buffer.n_episodes, desc=str(path), unit="demo", disable=quiet)
        ):
            _write_demo(data.create_group(f"demo_{number}"), buffer, states, int(begin), int(end))


def _write_demo(
    demo: h5py.Group, buffer: ReplayBuffer, states: np.ndarray | None, begin: int, end: int
) -> None:
    length = end - begin
    demo.attrs["num_samples"] = length
    demo["rewards"] = np.zeros(length)
    demo["dones"] = np.arange(1, length + 1) // length
    if states is not None:
        demo["states"] = states[begin:end]
    for key, array in buffer.arrays.items():
        name = "actions" if key == ACTION_KEY else f"obs/{key}"
        if is_image(array.shape[1:]):
            _write_images(demo, name, array, begin, end)
        else:
            demo[name] = array[begin:end]
    demo.require_group("obs")


def _write_images(demo: h5py.Group, name: str, images: np.ndarray, begin: int, end: int) -> None:
    frame_bytes = images[0].nbytes
    chunk = max(1, min(end - begin, _CHUNK_BYTES // frame_bytes))
    stored = demo.create_dataset(
        name,
        shape=(end - begin, *images.shape[1:]),
        dtype=np.uint8,
        chunks=(chunk, *images.shape[1:]),
        compression="gzip",
        compression_opts=1,
    )
    # Whole chunks, because a chunk that is written in two parts is encoded twice.
    rows = max(1, _PART_BYTES // (frame_bytes * chunk)) * chunk
    for first in range(0, end - begin, rows):
        last = min(first + rows, end - begin)
        stored[first:last] = images[begin + first : begin + last]
    release(images)
