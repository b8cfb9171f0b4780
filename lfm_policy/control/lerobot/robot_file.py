"""``robot.yaml``: what has to be said of a robot before a policy moves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.config.yaml_files import read_yaml
from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import checked, option, options
from lfm_runtime.disk.plain import plain_options

ON_STOP = ("hold", "nothing")


@options
class Joint:
    """One number of an action; all four have to be said."""

    unit: str | None = option(
        None,
        "what it is measured in, as in the demonstrations: degrees, range_m100_100 (-100 to 100), "
        "range_0_100 (0 to 100), or any other word where LeRobot does not say",
    )
    low: float | None = option(None, "the smallest value that it is ever told")
    high: float | None = option(None, "the largest value that it is ever told")
    max_change: float | None = option(None, "its largest change from one step to the next", gt=0)


@options
class RobotFile:
    """What a file says of a robot; no limit has a default."""

    robot: dict[str, Any] = option(
        {}, "what LeRobot's own configuration of this robot takes: port, id, cameras, ..."
    )
    hz: float | None = option(
        None, "steps per second, those of the demonstrations", gt=0, le=10_000
    )
    joints: dict[str, Any] = option(
        {}, "the numbers of an action in the order of the policy, by LeRobot's names: see `Joint`"
    )
    observations: dict[str, Any] = option(
        {},
        "what the robot calls an observation of the policy, by the policy's name: a camera, "
        "`joints` (in the order above) or a list of numbers; where names are the same, nothing",
    )
    max_staleness: float | None = option(
        None, "seconds; no action is executed whose observation is older", gt=0
    )
    max_bad_observations: int | None = option(
        None, "steps in a row without a whole observation after which the run ends", ge=1
    )
    first_move: float | None = option(
        None, "seconds of the straight way to the first action; 3 where all joints are positions"
    )
    on_stop: Any = option(
        "hold",
        "what the robot is told in the end: hold (stay where it is), nothing, or where to go to "
        "within max_change, by joint",
    )


_EXAMPLES = {
    "hz": "30",
    "max_staleness": "0.5",
    "max_bad_observations": "15",
    "unit": "degrees",
    "low": "-90",
    "high": "90",
    "max_change": "3",
}
"""What the line may look like that a message asks for."""


class RobotDescription:
    """A file, checked as far as it can be without the robot.

    Attributes:
        path: of the file, for messages.
        file: its options.
        joints: by LeRobot's names, in the order of the policy's actions.
        plain: what stands in the file, as plain values.
    """

    def __init__(self, path: str | Path) -> None:
        """Read and check a file.

        Raises:
            InputError: it cannot be read, or a key is unknown, missing or wrong; the message says
                which line to write.
        """
        self.path = Path(path)
        self.plain = plain_options(read_yaml(self.path), str(path))
        try:
            self.file = checked(RobotFile, self.plain)
            self._require(self.file, ("hz", "max_staleness", "max_bad_observations"), ())
            self.joints = {name: self._joint(name, of) for name, of in self.file.joints.items()}
            self._check_on_stop()
        except OptionError as error:
            raise self.wrong(error) from None

    def wrong(self, what: object) -> InputError:
        """Return an error that begins with the name of the file."""
        return InputError(f"{self.path}: {what}")

    def limits(self, name: str) -> np.ndarray:
        """Return ``low``, ``high`` or ``max_change`` of all joints, (joints,) float64."""
        return np.array([getattr(joint, name) for joint in self.joints.values()], dtype=np.float64)

    def rest(self) -> np.ndarray | None:
        """Return where the joints go to in the end, (joints,) float64; None: nowhere."""
        if not isinstance(self.file.on_stop, Mapping):
            return None
        return np.array([self.file.on_stop[name] for name in self.joints], dtype=np.float64)

    def check_joints(self, known: Mapping[str, str]) -> None:
        """Check that the joints are those of a robot.

        Args:
            known: what each number of its actions is measured in; empty where nobody says.

        Raises:
            InputError: joints are missing, unknown, or measured in something else.
        """
        if missing := [name for name in known if name not in self.joints]:
            lines = "\n".join(
                f"  {name}: {{unit: {known[name] or '?'}, low: ?, high: ?, max_change: ?}}"
                for name in missing
            )
            raise self.wrong(
                f"joints: {len(missing)} of the {len(known)} numbers that this robot takes are not "
                f"there; write, in the order of the policy's actions and with your numbers:\n"
                f"joints:\n{lines}"
            )
        if unknown := [name for name in self.joints if name not in known]:
            raise self.wrong(
                f"joints: this robot takes no {_listed(unknown)}: it takes {_listed(known)}"
            )
        for name, joint in self.joints.items():
            if known[name] and joint.unit != known[name]:
                raise self.wrong(
                    f"joints.{name}.unit is '{joint.unit}', but the robot, as it is configured "
                    f"under 'robot', gives and takes {known[name]}: what the demonstrations hold "
                    "decides; where LeRobot has `use_degrees`, write it there, or correct the unit"
                )

    def _joint(self, name: str, given: Any) -> Joint:
        key = ("joints", name)
        if not isinstance(given, Mapping):
            raise OptionError(key, f": found {given!r}, expected unit, low, high and max_change")
        try:
            joint = checked(Joint, given)
        except OptionError as error:
            raise error.under(*key) from None
        self._require(joint, ("unit", "low", "high", "max_change"), key)
        if not joint.low < joint.high:  # type: ignore[operator]
            raise OptionError(
                key, f": low is {joint.low:g}, expected less than high {joint.high:g}"
            )
        return joint

    def _require(self, part: Any, names: Iterable[str], key: tuple[str, ...]) -> None:
        for name in names:
            if getattr(part, name) is None:
                meaning = part.__dataclass_fields__[name].metadata["description"]
                where = f"under {'.'.join(key)}" if key else "at the left margin"
                raise OptionError(
                    (*key, name),
                    f"is missing ({meaning}): no limit has a default; write {where} the line "
                    f"`{name}: {_EXAMPLES[name]}`, with your own value",
                )

    def _check_on_stop(self) -> None:
        on_stop = self.file.on_stop
        if isinstance(on_stop, str) and on_stop in ON_STOP:
            return
        if not isinstance(on_stop, Mapping):
            expected = "expected hold, nothing, or a value for each joint"
            raise OptionError("on_stop", f"is {on_stop!r}, {expected}")
        if set(on_stop) != set(self.joints):
            raise OptionError(
                "on_stop", f"names {_listed(on_stop)}, expected all of {_listed(self.joints)}"
            )
        for name, joint in self.joints.items():
            value = on_stop[name]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not joint.low <= value <= joint.high:
                raise OptionError(
                    ("on_stop", name),
                    f"is {value!r}, expected a number from {joint.low:g} to {joint.high:g}",
                )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(str, names)) or "none"
