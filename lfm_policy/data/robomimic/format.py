"""Dataset format ``robomimic``: HDF5 files of robomimic, MimicGen and tools like them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lfm_policy.data.assumption import AssumptionWarning
from lfm_policy.data.dataset_config import (
    DatasetConfig,
    DatasetFacts,
    RecordedIn,
    WriteOptions,
    check_depth,
    check_observed,
    depth_ranges,
)
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.errors import InputError
from lfm_policy.options import option, options
from lfm_runtime.disk.files import is_file, starts_with

if TYPE_CHECKING:
    from lfm_policy.data.images.cache import CachedImages, ImageCache
    from lfm_policy.data.images.layout import ImageLayout
    from lfm_policy.data.images.video_writer import ImageLoss
    from lfm_policy.data.robomimic.file import RobomimicFile
    from lfm_policy.data.tools.contents import Contents

_IMAGE = "_image"


class ActionRangeWarning(UserWarning):
    """Actions are outside what robosuite's controllers take."""


@options
class RobomimicConfig(DatasetConfig):
    """A robomimic HDF5 file: which demos and arrays are read and what they are called."""

    recognised_as = "a robomimic file (.hdf5 or .h5)"
    suffixes = (".hdf5", ".h5")

    name: str = option("robomimic", "dataset format", choices=["robomimic"])
    path: str = option("", "HDF5 file with data/demo_N/actions and obs/", common=True)
    action_key: str = option("actions", "array of a demo to imitate, e.g. actions_abs")
    action_space: str = option(
        "stored",
        "stored: actions as they are in the file; absolute: goals in the world instead of deltas, "
        "per arm position 3, rotation 6 (never scaled) and gripper 1, converted once when the file "
        "is loaded (from actions_abs where it is there)",
        common=True,
        choices=["stored", "absolute"],
    )
    obs_keys: list[str] = option(
        [],
        "arrays under obs/ that the policy observes; none means all low-dimensional arrays and "
        "images of 0 to 255 of the first demo, but for those of groups in it (group/key)",
        common=True,
    )
    rename: dict[str, str] = option(
        {},
        "what the policy calls an array, such as {agentview_image: image}; by default what the "
        "file calls it",
    )
    filter_key: str | None = option(
        None, "read only the demos of mask/<filter_key>; all by default", common=True
    )

    def __post_init__(self) -> None:
        if self.obs_keys:  # otherwise they are known when the file is open
            check_observed(self.obs_keys, self.rename)
        check_depth(self.depth, self.obs_keys)

    def load(
        self, image_cache: ImageCache | Path | None = None, *, quiet: bool = True
    ) -> ReplayBuffer:
        """Read action and observations; see :meth:`DatasetConfig.load`.

        Warns:
            ActionRangeWarning: stored actions outside -1 to 1, as absolute ones are, of robosuite
                (a robot of one's own takes what it takes).
            UserWarning: arrays under obs/ that nobody named are left out, because they cannot be
                read or are neither low-dimensional nor images of 0 to 255.
            AssumptionWarning: images are stored with channels first, without channels or with
                alpha.
        """
        # here and not above: a policy that only acts has no use for HDF5
        from lfm_policy.data.images.cache import open_images
        from lfm_policy.data.images.depth import depth_layout, refuse_unnamed_depth
        from lfm_policy.data.robomimic.choice import RANKS, observed_keys
        from lfm_policy.data.robomimic.file import RobomimicFile
        from lfm_policy.data.robomimic.names import demo_tasks
        from lfm_policy.data.tasks.choice import choose_tasks

        if not self.path:
            raise InputError("the dataset has no path: set dataset.path to a robomimic HDF5 file")
        with RobomimicFile(self.path) as file:
            demos = file.select(self.filter_key)
            choice = None
            if self.tasks:
                choice = choose_tasks(self.tasks, demo_tasks(file, demos), self.path)
                choice = choice.first(self.max_episodes)
                demos = tuple(demos[i] for i in choice.episodes)
            demos = demos[: self.max_episodes]
            absolute = self.action_space == "absolute"
            action_key = self._stored_actions(file, demos[0])
            lengths = file.lengths(demos, action_key)
            obs_keys = list(self.obs_keys) or observed_keys(file, demos, lengths, self.depth)
            check_observed(obs_keys, self.rename)
            depth = depth_ranges(self.depth, {key: key for key in obs_keys}, self.path)
            actions = file.info(demos, action_key, lengths, ranks=(1, 2))
            names = {key: file.observation(key) for key in obs_keys}
            observed = {
                key: file.info(demos, name, lengths, ranks=(*RANKS, 4))
                for key, name in names.items()
            }
            layouts = {key: info.layout for key, info in observed.items()}
            for key, info in observed.items():
                held = f"{self.path}: {names[key]}"
                if key in depth:
                    layouts[key] = depth_layout(info.shape, info.dtype, held)
                    continue
                refuse_unnamed_depth(key, info.shape, info.dtype, held)
                if info.layout is None and len(info.shape) == 3:
                    raise InputError(
                        f"{held} has shape {info.shape} per step; expected at most 2 dimensions, "
                        "or an image (height, width, 1, 3 or 4), also with its channels first"
                    )
            action = file.read(demos, action_key, lengths, actions)
            unscaled = {}
            if absolute:
                from lfm_policy.data.robomimic.absolute_actions import read_absolute_actions

                action, rotations = read_absolute_actions(file, demos, lengths, action, action_key)
                unscaled = {ACTION_KEY: rotations}
            low, high = action.min(), action.max()
            beyond = not absolute and (low < -1 or high > 1) and _of_robosuite(file)
            observations = {
                key: file.read(demos, names[key], lengths, info)
                for key, info in observed.items()
                if layouts[key] is None
            }

        renamed = {key: self.rename.get(key, key) for key in obs_keys}
        cameras = {
            renamed[key]: _images(
                self.path, names[key], demos, sum(lengths), layout, depth.get(key)
            )
            for key, layout in layouts.items()
            if layout is not None
        }
        for camera in cameras.values():
            if camera.remark:
                warnings.warn(f"{self.path}: {camera.remark}", AssumptionWarning, stacklevel=2)
        frames = open_images(cameras, image_cache, quiet=quiet)
        arrays = {
            name: frames[name] if name in frames else observations[key]
            for key, name in renamed.items()
        }
        buffer = ReplayBuffer(
            arrays={ACTION_KEY: action, **arrays},
            episode_ends=np.cumsum(lengths, dtype=np.int64),
            source=self.path,
            unscaled=unscaled,
            recorded={name: camera.frame_shape for name, camera in cameras.items()},
            depth={renamed[key]: ends for key, ends in depth.items()},
        )
        buffer.validate()
        if choice is not None:
            buffer = choice.told(buffer)
        if beyond:
            warnings.warn(
                f"{self.path}: {self.action_key} range from {low:g} to {high:g}; robosuite's "
                "controllers take -1 to 1: of goals in the world, position and axis-angle, "
                "dataset.action_space=absolute makes absolute actions; stored ones are taken, "
                "and evaluated, as env_args describe",
                ActionRangeWarning,
                stacklevel=2,
            )
        return buffer

    def of(self, path: str) -> Self:
        """Return options for another file, all of whose demos are read if it lacks the filter key.

        Raises:
            InputError: it is no such file.
        """
        from lfm_policy.data.robomimic.file import RobomimicFile

        with RobomimicFile(path) as file:
            known = self.filter_key in file.filter_keys()
        return replace(super().of(path), filter_key=self.filter_key if known else None)

    def recorded_in(self) -> RecordedIn | None:
        """Return what ``env_args`` of the file say; see :meth:`DatasetConfig.recorded_in`.

        For robosuite the description itself is an option: it says how actions are to be
        understood. The cameras are those that are observed.
        """
        path = Path(self.path).expanduser()
        if not is_file(path):
            return None
        import lfm_envs

        from lfm_policy.data.robomimic.env import ROBOSUITE_TYPE
        from lfm_policy.data.robomimic.file import RobomimicFile

        with RobomimicFile(path) as file:
            described = file.has_env_args
            try:
                env_args = file.env_args()
            except InputError as error:
                return RecordedIn(problem=str(error), damaged=described)
            env_id = lfm_envs.env_id_of(env_args)
            if not env_id:
                return RecordedIn(
                    problem=f"{path}: data.attrs['env_args'] has env_name "
                    f"'{env_args['env_name']:.100}', type {env_args['type']}, which is no "
                    "environment of this package"
                )
            options: dict[str, Any] = {}
            observations: dict[str, str] = {}
            if env_args["type"] == ROBOSUITE_TYPE:
                keys = self.obs_keys or file.observation_keys(file.demos[0])
                cameras = [key.removesuffix(_IMAGE) for key in keys if key.endswith(_IMAGE)]
                options = {"env_args": env_args, "cameras": cameras}
                if self.action_space == "absolute":
                    options["absolute_actions"] = True
                if self.rename:
                    observations = {self.rename.get(key, key): key for key in self.obs_keys}
        variants = (env_id.replace("-v0", "Image-v0"),)
        return RecordedIn(env_id, variants, options, observations=observations)

    @classmethod
    def detects(cls, path: Path) -> bool:
        """Whether a file is called so, or is HDF5."""
        return not path.is_dir() and (
            path.suffix.lower() in cls.suffixes or starts_with(path, b"\x89HDF\r\n\x1a\n")
        )

    @classmethod
    def contents(cls, path: Path, action_key: str = "") -> Contents:
        """Return what is there, for ``inspect``; see :meth:`DatasetConfig.contents`."""
        from lfm_policy.data.robomimic.contents import RobomimicContents

        return RobomimicContents(path, cls, action_key)

    @classmethod
    def facts(cls, path: Path) -> DatasetFacts:
        """Return the environment, if it is described, and its rate.

        Warns:
            UserWarning: the description is damaged and left out.
        """
        from lfm_policy.data.robomimic.env import control_freq
        from lfm_policy.data.robomimic.file import RobomimicFile

        env_args = None
        with RobomimicFile(path) as file:
            if file.has_env_args:
                try:
                    env_args = file.env_args()
                except InputError as error:
                    warnings.warn(f"{error}: this description is left out", stacklevel=3)
        return DatasetFacts(control_freq(env_args), env_args)

    def episode_tasks(self) -> list[str]:
        """Return what every demo shows; see the base class."""
        from lfm_policy.data.robomimic.file import RobomimicFile
        from lfm_policy.data.robomimic.names import TASK_ATTRIBUTE

        with RobomimicFile(self.path) as file:
            demos = file.select(self.filter_key)
            shown = [file.text(demo, TASK_ATTRIBUTE) or "" for demo in demos]
        return shown if any(shown) else []

    @classmethod
    def write(cls, target: Path, buffer: ReplayBuffer, how: WriteOptions) -> dict[str, ImageLoss]:
        """Write a file; see :meth:`DatasetConfig.write`."""
        from lfm_policy.data.robomimic.demos import unknown_env_args, write_robomimic
        from lfm_policy.data.robomimic.env import control_freq

        described = how.env_args or unknown_env_args(how.fps)
        if how.fps is not None and control_freq(described) != how.fps:
            kwargs = described["env_kwargs"] | {"control_freq": how.fps}
            described = described | {"env_kwargs": kwargs}
        write_robomimic(target, buffer, env_args=described, tasks=how.tasks, quiet=how.quiet)
        return {}

    def _stored_actions(self, file: RobomimicFile, demo: str) -> str:
        """Return the name of the actions to read: goals where they are wanted and there."""
        if self.action_space != "absolute" or self.action_key != "actions":
            return self.action_key
        from lfm_policy.data.robomimic.absolute_actions import STORED_ABSOLUTE

        return STORED_ABSOLUTE if STORED_ABSOLUTE in file.stored(demo) else self.action_key


def _of_robosuite(file: RobomimicFile) -> bool:
    """Return whether a file says that it was recorded in an environment of robosuite."""
    from lfm_policy.data.robomimic.env import ROBOSUITE_TYPE

    try:
        return bool(file.env_args()["type"] == ROBOSUITE_TYPE)
    except InputError:
        return False


def _images(
    path: str,
    name: str,
    demos: Sequence[str],
    n_frames: int,
    layout: ImageLayout,
    depth: tuple[float, float] | None,
) -> CachedImages:
    """Return the images ``name`` of all demos, to be read demo by demo when they are needed.

    Whether a fourth channel of ``layout`` is alpha, the first demo says.
    """
    from lfm_policy.data.images.cache import stored_images
    from lfm_policy.data.robomimic.file import RobomimicFile

    file_path = Path(path).expanduser()

    def parts() -> Iterator[tuple[str, np.ndarray]]:
        with RobomimicFile(file_path) as file:
            for demo in demos:
                for part in file.parts(demo, name):
                    yield f"{file_path}: {demo}: {name}", part

    status = file_path.stat()
    facts = {
        "format": "robomimic",
        "file": str(file_path.resolve()),
        "size": status.st_size,
        "mtime": status.st_mtime_ns,
        "array": name,
        "demos": list(demos),
    }
    camera = name.removeprefix("obs/")
    return stored_images(f"{file_path}: {name}", camera, facts, n_frames, layout, parts, depth)
