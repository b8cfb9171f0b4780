"""Convert demonstrations from one format to another: zarr, robomimic's HDF5, LeRobot."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.data.dataset_config import DatasetConfig, WriteOptions
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.images.depth import looks_like_depth
from lfm_policy.data.images.video_writer import DEFAULT_CRF, ImageLoss
from lfm_policy.data.lerobot.info import default_name
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.robomimic.format import ActionRangeWarning
from lfm_policy.data.tools.detect import detect_format
from lfm_policy.data.tools.distances import Distant, depth_in, distances, without
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import exists, temporary_folder
from lfm_runtime.disk.leftovers import only_writer


@dataclass(frozen=True)
class ConvertOptions:
    """What is converted and how.

    Attributes:
        source_format: name of a dataset format; by default what the source looks like.
        target_format: the same of the target; by default what its name ends in.
        action_key: the array to imitate, as the source calls it; by default that of the format.
        obs_keys: the observations, as the source calls them; by default all that can be one.
        rename: new names of observations.
        filter_key: of a robomimic file: only the demos that it lists.
        max_episodes: only the first so many.
        fps: steps per second; by default what the source says.
        task: what the demonstrations show, in words, for LeRobot; by default what the source says
            of each of them.
        crf: quality of videos, 0 (best) to 51.
    """

    source_format: str | None = None
    target_format: str | None = None
    action_key: str | None = None
    obs_keys: Sequence[str] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    filter_key: str | None = None
    max_episodes: int | None = None
    fps: float | None = None
    task: str | None = None
    crf: int = DEFAULT_CRF

    def __post_init__(self) -> None:
        """Check the rate; readers and writers check the rest.

        Raises:
            InputError: it is no rate.
        """
        if self.fps is not None and not 1e-3 <= self.fps <= 1e5:
            raise InputError(f"fps is {self.fps}; expected steps per second such as 30")


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        source: what was read.
        target: what was written.
        source_format: name of its format.
        target_format: name of its format.
        n_episodes: number of episodes.
        n_steps: number of steps of all episodes together.
        fps: steps per second; None where nobody knows.
        shapes: of one step, by key.
        dtypes: by key.
        losses: by key of images that were encoded as videos: how far they are from the source's.
    """

    source: Path
    target: Path
    source_format: str
    target_format: str
    n_episodes: int
    n_steps: int
    fps: float | None
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    losses: dict[str, ImageLoss]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite PSNR (nothing was lost) becomes None."""
        return {
            "source": str(self.source),
            "source_format": self.source_format,
            "target": str(self.target),
            "target_format": self.target_format,
            "episodes": self.n_episodes,
            "steps": self.n_steps,
            "fps": self.fps,
            "arrays": {
                key: {"shape": list(shape), "dtype": self.dtypes[key]}
                for key, shape in self.shapes.items()
            },
            "image_loss": {
                key: dataclasses.asdict(loss)
                | {"psnr": loss.psnr if math.isfinite(loss.psnr) else None}
                for key, loss in self.losses.items()
            },
        }


def target_format(path: Path) -> str:
    """Return the format that a name stands for: its suffix says, and a folder is LeRobot's."""
    suffix = path.suffix.lower()
    named = [name for name, entry in DATASET_FORMATS.items() if suffix in entry.suffixes]
    return named[-1] if named else "lerobot"


def convert(
    source: str | Path,
    target: str | Path,
    options: ConvertOptions | None = None,
    *,
    quiet: bool = True,
) -> Conversion:
    """Read a dataset of one format and write it in another.

    Low-dimensional values and dtypes stay as they are, and depth as uint16 between zarr and HDF5,
    (T, height, width), as long as it fits into memory. Other images become uint8 and stay exact,
    except in LeRobot's videos, where what was lost is measured. Only the action, observations and
    names of tasks are carried over: no rewards, simulator states or other language. The target
    appears under its name only when it is complete; images go through a temporary folder beside it,
    which takes their uncompressed size.

    Args:
        source: file or folder of the dataset.
        target: what to write; must not exist.
        options: see :class:`ConvertOptions`.
        quiet: no progress bars.

    Raises:
        InputError: the source is not what it has to be, the target exists, an option does not fit
            the formats, or the target's format cannot hold the data.
    """
    options = options or ConvertOptions()
    source, target = Path(source).expanduser(), Path(target).expanduser()
    if exists(target) or target.is_symlink():
        raise InputError(f"{target} exists already: remove it or choose another name")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{target} is inside {source}: choose another place for what is written")
    from_format = options.source_format or detect_format(source)
    to_format = options.target_format or target_format(target)
    writer = DATASET_FORMATS.get(to_format)
    config = dataset_config(source, from_format, options)
    how = told_besides(config, options, quiet=quiet)
    if how.fps is None and writer.needs_fps:
        raise InputError(
            f"{source} does not say how many steps per second it holds, and the format "
            f"{to_format} needs that: give --fps"
        )
    with (
        only_writer(target, "convert"),
        temporary_folder(target.with_name(f"images-{target.name}")) as cache,
    ):
        with warnings.catch_warnings():
            # Only who executes actions is concerned.
            warnings.simplefilter("ignore", ActionRangeWarning)
            buffer = _load(config, options, to_format, cache, quiet=quiet)
        losses = writer.write(target, buffer, how)
    return Conversion(
        source=source,
        target=target,
        source_format=from_format,
        target_format=to_format,
        n_episodes=buffer.n_episodes,
        n_steps=buffer.n_steps,
        fps=how.fps,
        shapes={key: array.shape[1:] for key, array in buffer.arrays.items()},
        dtypes={key: str(array.dtype) for key, array in buffer.arrays.items()},
        losses=losses,
    )


def _load(
    config: DatasetConfig, options: ConvertOptions, to_format: str, cache: Path, *, quiet: bool
) -> ReplayBuffer:
    """Read what a configuration names, depth as it is stored where the target can hold it."""
    depth = depth_in(config) if isinstance(config, Distant) else []
    holds_it = issubclass(DATASET_FORMATS.get(to_format), Distant)
    if isinstance(config, Distant) and depth and holds_it:
        others = without(config, depth)
        if not others.obs_keys:
            raise InputError(
                f"{config.path}: {', '.join(depth)} is depth, and nothing else is observed: "
                "expected another observation beside it; dataset.depth reads the data as they are"
            )
        buffer = load_usable_images(others, options, cache, quiet=quiet)
        read = {options.rename.get(key, key): distances(config, key) for key in depth}
        return dataclasses.replace(buffer, arrays=buffer.arrays | read)
    if depth:
        path = getattr(config, "path", "")
        problem = f"{path}: {', '.join(depth)} is depth and left out: zarr and HDF5 can hold it"
        if {*depth} & {*options.obs_keys, *options.rename}:
            raise InputError(problem)
        warnings.warn(problem, stacklevel=3)
    buffer = load_usable_images(config, options, cache, quiet=quiet)
    if buffer.depth and to_format != "zarr":
        warnings.warn(
            f"{buffer.source}: {', '.join(buffer.depth)} holds levels of depth, whose range zarr "
            "alone keeps: in the target it is a grey camera",
            stacklevel=3,
        )
    return buffer


def told_besides(config: DatasetConfig, options: ConvertOptions, *, quiet: bool) -> WriteOptions:
    """Return what a dataset tells besides its arrays, and the options: how it is written.

    Raises:
        InputError: what tells it is damaged.
    """
    source = Path(getattr(config, "path", ""))
    facts = type(config).facts(source)
    if None not in (options.fps, facts.fps) and options.fps != facts.fps:
        warnings.warn(
            f"{source} says {facts.fps:g} steps per second, and --fps {options.fps:g} is written: "
            "no step is added or left out",
            stacklevel=3,
        )
    meanings = {_renamed(key, config, options): said for key, said in facts.meanings.items()}
    how = WriteOptions(
        fps=facts.fps if options.fps is None else options.fps,
        env_args=facts.env_args,
        robot_type=facts.robot_type,
        meanings=meanings,
        crf=options.crf,
        quiet=quiet,
    )
    if options.task is not None:
        return dataclasses.replace(how, task=options.task)
    tasks = [task or how.task for task in config.episode_tasks()[: options.max_episodes]]
    if set(tasks) <= {how.task}:  # which is what is written where nothing is known
        return how
    return dataclasses.replace(how, tasks=tuple(tasks))


def _renamed(key: str, config: DatasetConfig, options: ConvertOptions) -> str:
    """Return what an array is called that a dataset calls ``key``."""
    if key == getattr(config, "action_key", ACTION_KEY):
        return ACTION_KEY
    return options.rename.get(key) or default_name(key)


def dataset_config(source: Path, name: str, options: ConvertOptions) -> DatasetConfig:
    """Return the configuration that reads what is asked for."""
    config_class = DATASET_FORMATS.get(name)
    asked = {
        "obs_keys": list(options.obs_keys),
        "rename": dict(options.rename),
        "max_episodes": options.max_episodes,
        "action_key": options.action_key,
        "filter_key": options.filter_key,
    }
    chosen: dict[str, Any] = {"path": str(source)}
    chosen |= {key: value for key, value in asked.items() if value not in (None, [], {})}
    known = {item.name for item in dataclasses.fields(config_class)}
    for key in chosen:
        if key not in known:
            raise InputError(
                f"--{key.replace('_', '-')} does not fit: {source} is read as {name}, which has "
                "nothing of the kind"
            )
    if name == "zarr" and not options.obs_keys:
        # The format itself wants them named: most stores hold more than a policy should see.
        from lfm_policy.data.tasks.zarr import named_by
        from lfm_policy.data.zarr.contents import ZarrContents

        arrays = ZarrContents(source).stored
        stored = [key for key, array in arrays.items() if not array.unusable]
        left_out = {key: array.not_read for key, array in arrays.items() if array.unusable}
        action_key = options.action_key or ACTION_KEY
        # The name is taken in the result, and the format refuses it as an observation.
        taken = {action_key, ACTION_KEY}
        if (tasks_in := named_by(source)) in options.rename:  # kept as numbers, too
            stored.append(tasks_in)
        chosen["obs_keys"] = [key for key in stored if key not in taken]
        for key, problem in left_out.items():
            if key not in taken:  # reading the action says the same
                warnings.warn(f"data/{key} is left out: {problem}", stacklevel=3)
        if action_key in stored and action_key != ACTION_KEY and ACTION_KEY in stored:
            warnings.warn(
                f"{source}: data/{ACTION_KEY} is left out, because data/{action_key} becomes the "
                "action",
                stacklevel=3,
            )
    return config_class(**chosen)


def load_usable_images(
    config: DatasetConfig, options: ConvertOptions, cache: Path | None, *, quiet: bool
) -> ReplayBuffer:
    """Read what a configuration names, without cameras that nobody asked for and that are none.

    Depth, shares and the like are stored as images are, and only their values tell. A camera of
    uint8 is one: if it cannot be read, it is damaged, and that is an error.
    """
    if not isinstance(config, ZarrConfig) or options.obs_keys:
        return config.load(cache, quiet=quiet)
    from lfm_policy.data.zarr.store import list_zarr

    stored = list_zarr(config.path).readable
    left_out: dict[str, str] = {}
    for key in config.obs_keys:
        info = stored[key]
        is_depth = looks_like_depth(info.shape[1:], info.dtype)
        is_image = info.layout is not None and info.dtype != np.uint8
        if not (is_image or is_depth) or key in options.rename:
            continue
        alone = dataclasses.replace(config, obs_keys=[key], rename={})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is kept is read once more, and says it then
                alone.load(cache, quiet=quiet)
        except InputError as error:
            left_out[key] = str(error)
    kept = [key for key in config.obs_keys if key not in left_out]
    if kept:
        config = dataclasses.replace(config, obs_keys=kept)
    buffer = config.load(cache, quiet=quiet)
    for problem in left_out.values():
        warnings.warn(f"{problem}; left out", stacklevel=3)
    return buffer
