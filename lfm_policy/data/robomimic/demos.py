"""Write robomimic's HDF5 files: a buffer at once, or demo by demo, so that nothing is lost.

While a file is recorded, each demo is a small file of its own in a folder beside it; several
processes may add demos at the same time and in any order. In the end they are joined.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm.auto import tqdm

from lfm_policy.data.hdf5.array import reading
from lfm_policy.data.hdf5.file import Hdf5File
from lfm_policy.data.images.cache import release
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer, is_image
from lfm_policy.data.robomimic.env import check_env_args
from lfm_policy.data.robomimic.names import TASK_ATTRIBUTE
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import atomic_file, exists, require_absent, write_json, write_text
from lfm_runtime.disk.input_files import require_file
from lfm_runtime.disk.leftovers import only_writer

_FACTS = "recording.json"
_SUFFIX, _SKIPPED = ".hdf5", ".skipped"
_PART_BYTES, _CHUNK_BYTES, _ATTRIBUTE_BYTES = 32 * 2**20, 2**20, 2**20

_GYM = 2
"""robomimic's number for environments of gym, which it does not build before they are asked for."""


@dataclass(frozen=True)
class Demo:
    """One demonstration of T steps.

    Attributes:
        actions: (T, action_dim).
        obs: by key, (T, ...); observation t is what action t answers. Images are uint8
            (T, height, width, channels).
        rewards: (T,), for the state after each action.
        dones: (T,), 1 where the task is solved after the action or the demo ends, else 0.
        states: (T, n) float64, flattened states of the simulator before each action.
        model_file: XML of the simulated scene.
        ep_meta: JSON about the episode.
        attributes: further attributes of the demo, such as its seed.
        arrays: further arrays (T, ...), such as ``actions_abs``.
    """

    actions: np.ndarray
    obs: Mapping[str, np.ndarray]
    rewards: np.ndarray
    dones: np.ndarray
    states: np.ndarray | None = None
    model_file: str | None = None
    ep_meta: str | None = None
    attributes: Mapping[str, int | float | str] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check lengths and values.

        Raises:
            InputError: an array has another length than the actions, or is not finite.
        """
        arrays = {"actions": self.actions, "rewards": self.rewards, "dones": self.dones}
        arrays |= {f"obs/{key}": value for key, value in self.obs.items()} | dict(self.arrays)
        if self.states is not None:
            arrays["states"] = self.states
        length = len(self.actions)
        if not length:
            raise InputError("a demo has no steps")
        for name, array in arrays.items():
            if len(array) != length:
                raise InputError(f"a demo has {len(array)} {name}; expected {length}, as actions")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"{name} of a demo are not finite")


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
    tasks: Sequence[str] = (),
    quiet: bool = True,
) -> None:
    """Write a buffer as robomimic's HDF5: ``data/demo_N/actions`` and ``data/demo_N/obs/<key>``.

    Values and dtypes stay as they are. Rewards are zeros and so are dones, except for the last of
    every demo, which is 1. The file appears under its name only when it is complete; images are
    copied part by part.

    Args:
        path: of the file.
        buffer: what to write, its action under ``"action"``; it is validated first.
        env_args: description of the environment, see `RobomimicFile.env_args`; by default
            that of an unknown one.
        states: (T, n) states of the simulator; left out by default.
        tasks: what each demo shows, kept as its attribute ``task``; empty: not known.
        quiet: no progress bar.

    Raises:
        InputError: the buffer or another argument is not valid, a key cannot be a name in HDF5,
            or ``path`` exists already.
    """
    buffer.validate()
    path = Path(path)
    require_absent(path)
    if ACTION_KEY not in buffer.arrays:
        raise InputError(f"{buffer.source}: there is no array '{ACTION_KEY}' to write as actions")
    for key in buffer.arrays:
        if not key or "/" in key or "\0" in key or key == ".":
            raise InputError(f"{buffer.source}: '{key}' cannot be the name of an HDF5 array")
    if states is not None and (states.ndim != 2 or len(states) != buffer.n_steps):
        raise InputError(f"states have shape {states.shape}; expected ({buffer.n_steps}, n)")
    described = check_env_args(dict(env_args or unknown_env_args()), "env_args")

    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = buffer.n_steps
        data.attrs["env_args"] = json.dumps(described, indent=4)
        episodes = zip(buffer.episode_starts, buffer.episode_ends, strict=True)
        for number, (begin, end) in enumerate(
            tqdm(episodes, total=buffer.n_episodes, desc=str(path), unit="demo", disable=quiet)
        ):
            length = end - begin
            arrays = {key: array[begin:end] for key, array in buffer.arrays.items()}
            demo = Demo(
                actions=arrays.pop(ACTION_KEY),
                obs=arrays,
                rewards=np.zeros(length),
                dones=np.arange(1, length + 1) // length,
                states=None if states is None else states[begin:end],
                attributes={TASK_ATTRIBUTE: tasks[number]} if tasks else {},
            )
            _write(data.create_group(f"demo_{number}"), demo)


class DemoRecording:
    """A robomimic file in the making: ``<path>.parts``, a folder with a file for every demo.

    Demos have numbers, which order them in the end. A number that is to have no demo, because what
    was tried failed, can be marked as skipped, so that nobody tries again.

    Attributes:
        path: of the file to be.
    """

    def __init__(self, path: str | Path, facts: Mapping[str, Any]) -> None:
        """Start a recording, or go on with one.

        Args:
            path: of the file to be.
            facts: plain JSON values on which demos depend; a recording can only be continued with
                the same.

        Raises:
            InputError: the file exists, or a recording of something else.
        """
        self.path = Path(path).expanduser()
        self._folder = self.path.with_name(f"{self.path.name}.parts")
        require_absent(self.path)
        if self._folder.is_symlink() or (exists(self._folder) and not self._folder.is_dir()):
            raise InputError(f"{self._folder}: expected a folder or nothing: remove it")
        self._facts = json.loads(json.dumps(facts))
        self._check_same()

    def _check_same(self) -> None:
        """Check that what is recorded already is of the same."""
        recorded, wanted = self._folder / _FACTS, self._facts
        if not exists(recorded):
            return
        require_file(recorded)
        with reading(str(recorded)):
            found = json.loads(recorded.read_text(encoding="utf-8"))
        for key in sorted({*wanted, *found}):
            if wanted.get(key) != found.get(key):
                raise InputError(
                    f"{self._folder} was recorded with {key} {found.get(key)!r:.200}, now it is "
                    f"{wanted.get(key)!r:.200}: continue with the same options or remove it"
                )

    @contextlib.contextmanager
    def only_recorder(self) -> Iterator[None]:
        """Keep others from recording the same file meanwhile, but for processes started for that.

        Raises:
            InputError: somebody does already.
        """
        with only_writer(self.path, "record"):
            self._check_same()  # somebody may have recorded something else until now
            yield

    def demos(self) -> list[int]:
        """Return the numbers of all demos that are there, in order."""
        return self._numbers(_SUFFIX)

    def skipped(self) -> list[int]:
        """Return the numbers that are to have no demo, in order."""
        return self._numbers(_SKIPPED)

    def add(self, number: int, demo: Demo) -> None:
        """Write a demo; it is there completely or not at all."""
        self._begin()
        part = self._part(number, _SUFFIX)
        with atomic_file(part) as temporary, h5py.File(temporary, "w") as file:
            _write(file, demo)

    def skip(self, number: int, reason: str = "") -> None:
        """Mark a number as one that is to have no demo."""
        self._begin()
        write_text(self._part(number, _SKIPPED), reason)

    def attributes(self, number: int) -> dict[str, Any]:
        """Return the attributes of a demo, but for ``model_file``.

        Raises:
            InputError: it cannot be read.
        """
        with Hdf5File(self._part(number, _SUFFIX)) as file:
            keys = [key for key in file.root.attributes() if key != "model_file"]
            return {key: file.root.attribute(key, _ATTRIBUTE_BYTES) for key in keys}

    def finish(
        self,
        env_args: Mapping[str, Any],
        *,
        numbers: Sequence[int] | None = None,
        masks: Mapping[str, Iterable[int]] | None = None,
        names: Mapping[int, str] | None = None,
        attributes: Mapping[str, Any] | None = None,
        quiet: bool = True,
    ) -> None:
        """Join the demos into the file and remove the folder.

        Args:
            env_args: description of the environment, see `RobomimicFile.env_args`.
            numbers: the demos of the file, in this order; by default all.
            masks: numbers of demos by filter key.
            names: of demos by number; by default ``demo_0``, ``demo_1`` and so on.
            attributes: further attributes of ``data``.
            quiet: no progress bar.

        Raises:
            InputError: there is no demo, a part cannot be read, or the file exists by now.
        """
        numbers = self.demos() if numbers is None else list(numbers)
        if not numbers:
            raise InputError(f"{self._folder} holds no demo: there is nothing to write")
        require_absent(self.path)
        names = names or {number: f"demo_{i}" for i, number in enumerate(numbers)}
        described = json.dumps(check_env_args(dict(env_args), "env_args"), indent=4)
        total = 0
        with atomic_file(self.path) as temporary, h5py.File(temporary, "w") as file:
            data = file.create_group("data")
            for number in tqdm(numbers, desc=str(self.path), unit="demo", disable=quiet):
                with Hdf5File(self._part(number, _SUFFIX)) as source:
                    source.root.copy_to(data, names[number])
                total += int(data[names[number]].attrs["num_samples"])
            data.attrs["total"] = total
            data.attrs["env_args"] = described
            for key, value in (attributes or {}).items():
                data.attrs[key] = value
            for key, listed in (masks or {}).items():
                file[f"mask/{key}"] = np.array([names[number] for number in listed], dtype="S")
        shutil.rmtree(self._folder)

    def _begin(self) -> None:
        """Say what is recorded, as soon as anything is."""
        if not exists(self._folder / _FACTS):
            write_json(self._folder / _FACTS, self._facts)

    def _part(self, number: int, suffix: str) -> Path:
        return self._folder / f"{number:09d}{suffix}"

    def _numbers(self, suffix: str) -> list[int]:
        found = self._folder.glob(f"*{suffix}")
        return sorted(int(entry.stem) for entry in found if entry.stem.isdigit())


def train_valid_masks(
    numbers: Sequence[int], ratio: float = 0.1, seed: int = 0
) -> dict[str, list[int]]:
    """Return the filter keys ``train`` and ``valid``, as robomimic's files have them.

    Args:
        numbers: of all demos, at least two for both keys.
        ratio: part of the demos that are for validation; at least one and never all.
        seed: of the choice.
    """
    n_valid = min(max(1, round(ratio * len(numbers))), len(numbers) - 1)
    chosen = np.random.default_rng(seed).permutation(len(numbers))[:n_valid]
    valid = {numbers[position] for position in chosen}
    masks = {"train": [n for n in numbers if n not in valid], "valid": sorted(valid)}
    return {key: listed for key, listed in masks.items() if listed}


def _write(file: h5py.File, demo: Demo) -> None:
    texts = {"model_file": demo.model_file, "ep_meta": demo.ep_meta}
    attributes = {"num_samples": len(demo.actions), **texts, **demo.attributes}
    for key, value in attributes.items():
        if value is not None:
            file.attrs[key] = value
    rewards, dones = np.asarray(demo.rewards, np.float64), np.asarray(demo.dones, np.int64)
    arrays = {"actions": demo.actions, "rewards": rewards, "dones": dones, **demo.arrays}
    if demo.states is not None:
        arrays["states"] = demo.states
    for name, array in arrays.items():
        file[name] = array
    obs = file.create_group("obs")
    for key, values in demo.obs.items():
        if is_image(values.shape[1:]):
            _write_images(obs, key, values)
        else:
            obs[key] = values


def _write_images(obs: h5py.Group, key: str, images: np.ndarray) -> None:
    frame_bytes = max(1, images[0].nbytes)
    chunk = max(1, min(len(images), _CHUNK_BYTES // frame_bytes))
    stored = obs.create_dataset(
        key,
        shape=images.shape,
        dtype=images.dtype,
        chunks=(chunk, *images.shape[1:]),
        compression="gzip",
        compression_opts=1,
    )
    # Whole chunks, because a chunk that is written in two parts is encoded twice.
    rows = max(1, _PART_BYTES // (frame_bytes * chunk)) * chunk
    for first in range(0, len(images), rows):
        stored[first : first + rows] = images[first : first + rows]
    release(images)
