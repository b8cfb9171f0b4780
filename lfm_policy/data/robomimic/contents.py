"""What a robomimic HDF5 file holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.tools.contents import ConfiguredContents, StoredArray, describe
from lfm_policy.errors import InputError

if TYPE_CHECKING:
    from lfm_policy.data.dataset_config import DatasetConfig
    from lfm_policy.data.robomimic.file import KeyInfo

_DEMOS_NAMED = 4


class RobomimicContents(ConfiguredContents):
    """A robomimic HDF5 file: the actions and what is under ``obs``."""

    format = "robomimic"

    def __init__(self, path: Path, config_class: type[DatasetConfig]) -> None:
        """Read the metadata of the first demo.

        Raises:
            InputError: not a robomimic file, or one whose metadata do not parse.
        """
        from lfm_policy.data.robomimic.env import control_freq

        super().__init__(path, config_class)
        summary = inspect_robomimic(path)
        self._n_steps = sum(summary.demos.values())
        self.fps = control_freq(summary.env_args)
        if summary.env_problem:
            self.notes.append(
                f"{summary.env_problem}; training does without, evaluation will ask for --env"
            )
        self.notes += [f"filter key is not usable: {reason}" for reason in summary.unusable_masks]
        if summary.failed:
            failed = ", ".join(summary.failed[:_DEMOS_NAMED])
            if len(summary.failed) > _DEMOS_NAMED:
                failed += f" and {len(summary.failed) - _DEMOS_NAMED} more"
            self.notes.append(
                f"{len(summary.failed)} of {len(summary.demos)} demos are marked success = False "
                f"({failed}): they are read like the others; to leave them out, "
                "list the others as mask/<name> of the file and set dataset.filter_key"
            )
        for name, info in summary.keys.items():
            key = ACTION_KEY if name == "actions" else name.removeprefix("obs/")
            if key != name or name == "obs":
                self.stored[key] = self._described(name, info)

    def _described(self, name: str, info: KeyInfo) -> StoredArray:
        shape = (self._n_steps, *info.shape)
        if info.problem:
            reason = f"{self.path}: {name} {info.problem}"
            return StoredArray(shape, str(info.dtype), False, reason, unusable=True)
        return describe(
            name,
            shape,
            info.dtype,
            source=str(self.path),
            ranks=(1, 2, 3),
            is_camera=info.layout is not None,
        )

    def read_values(self) -> ReplayBuffer:
        """Return action and observations; see :meth:`Contents.read_values`."""
        self._check_observations()
        return super().read_values()

    def _check_observations(self) -> None:
        """Say why there is nothing to observe, if there is nothing."""
        observed = {key: array for key, array in self.stored.items() if key != ACTION_KEY}
        if not all(array.unusable for array in observed.values()):
            return
        from lfm_policy.data.robomimic.file import RobomimicFile

        with RobomimicFile(self.path) as file:
            file.observation_keys(file.demos[0])  # says what to do with a raw recording
        reasons = "; ".join(array.not_read for array in observed.values())
        raise InputError(f"{self.path}: holds nothing that a policy could observe: {reasons}")


@dataclass(frozen=True)
class RobomimicSummary:
    """What a file holds.

    Attributes:
        keys: every array of the first demo by its name inside the demo, ``obs/<key>`` included.
        demos: number of steps by name of the demo, in numeric order.
        env_args: description of the environment; None where the file has none that can be used.
        env_problem: why it has none, as evaluation would say it; ``""`` if it has one.
        unusable_masks: why filter keys cannot be read, one message each.
        failed: demos that the file marks as not successful; they are demos like all others.
    """

    keys: dict[str, KeyInfo]
    demos: dict[str, int]
    env_args: dict[str, Any] | None
    env_problem: str = ""
    unusable_masks: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def inspect_robomimic(path: str | Path) -> RobomimicSummary:
    """Return what a file holds, reading metadata only.

    Raises:
        InputError: the file is absent or damaged, or is not laid out as robomimic's are.
    """
    from lfm_policy.data.robomimic.file import RobomimicFile

    with RobomimicFile(path) as file:
        env_args, env_problem = None, ""
        try:
            env_args = file.env_args()
        except InputError as error:
            env_problem = str(error)
        lists = file.filters.all()
        return RobomimicSummary(
            keys=file.stored(file.demos[0]),
            demos={demo: file.num_samples(demo) for demo in file.demos},
            env_args=env_args,
            env_problem=env_problem,
            unusable_masks=tuple(str(v) for v in lists.values() if isinstance(v, InputError)),
            failed=tuple(demo for demo in file.demos if file.is_marked_failed(demo)),
        )
