"""A policy on a real robot: a script to copy, and to change where it says "YOUR ROBOT".

Where the robot's computer has `lfm-policy-runtime` (numpy and ONNX Runtime; no torch):

  python robot.py exported --dry-run                 # look at what it would be told
  python robot.py exported --record first.zarr       # an export on this computer
  python robot.py ws://gpu-box:8000 --hz 10 --lead 2 # a policy that a server computes

The policy here sees `joints` (7,), in radians, and the camera `front`, and its actions are targets
for the joints, in the units of the demonstrations. The robot goes slowly from where it stands to
the first action, never leaves its limits, and is stopped, once, whatever ends the run: its end,
Ctrl-C, too many bad observations, an error here, a call that hangs.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from lfm_runtime import InputError, OnnxPolicy, PolicyServerError, WebsocketClientPolicy
from lfm_runtime.control import ControlLoop, ControlOptions, ControlResult, Recorder
from lfm_runtime.wire.keys import keys_of

# ---- YOUR ROBOT ----------------------------------------------------------------------------------

LOW = [-2.8, -1.7, -2.8, -3.0, -2.8, 0.0, -2.8]
HIGH = [2.8, 1.7, 2.8, -0.1, 2.8, 3.7, 2.8]
"""Limits of the joints, in radians. No action outside of them is ever sent."""

FASTEST = 1.0
"""Radians per second that no joint exceeds."""


def connect() -> Any:
    """Return your SDK's robot, ready to move."""
    raise SystemExit("robot.py: put your SDK's connection into connect()")


class Arm:
    """What the control loop needs of a robot: `observe`, `act` and `stop`."""

    def __init__(self, sdk: Any) -> None:
        self._sdk = sdk

    def observe(self) -> Mapping[str, Any] | None:
        """Return the newest observation, by the names that the policy was trained with.

        A dropped frame may be None or missing, and a number NaN: the loop counts that and goes on
        with the chunk that it has. It must not wait for a camera: keep its newest frame.
        """
        return {
            "joints": np.asarray(self._sdk.read_joints()),  # (7,), radians
            "front": self._sdk.newest_frame(),  # (height, width, 3) uint8, RGB
        }

    def act(self, action: np.ndarray) -> None:
        """Make `action` (7,) the target from now on; must not wait until it is reached."""
        self._sdk.command_joints(action.tolist())

    def stop(self) -> None:
        """Bring the robot to rest; called exactly once at the end, whatever ended the run."""
        self._sdk.hold()


# ---- the same for every robot --------------------------------------------------------------------


def control(ready: Callable[[], Any], arguments: argparse.Namespace) -> ControlResult:
    """Run a policy on the robot that ``ready`` returns, as the command line says."""
    with ExitStack() as stack:
        if arguments.policy.startswith(("ws://", "wss://")):
            key = keys_of(arguments.api_key_file)[0] if arguments.api_key_file else None
            client = WebsocketClientPolicy(arguments.policy, wait=arguments.wait, api_key=key)
            policy: Any = stack.enter_context(client)  # so that the server is told of the end
        else:
            policy = OnnxPolicy(arguments.policy)
        options = ControlOptions(
            lead=arguments.lead,
            low=LOW,
            high=HIGH,
            max_change=FASTEST / arguments.hz,
            position_key="joints",
            first_move=arguments.first_move,
            dry_run=arguments.dry_run,
            max_bad_observations=arguments.max_bad_observations,
        )
        recorder = None
        if arguments.record:
            facts = {"hz": arguments.hz, "policy": arguments.policy, "dry_run": arguments.dry_run}
            recorder = stack.enter_context(Recorder(arguments.record, facts))
        robot = ready()  # last, so that nothing above keeps it waiting under power
        try:
            loop = ControlLoop(robot, policy, hz=arguments.hz, options=options, recorder=recorder)
        except InputError:
            robot.stop()
            raise
        return loop.run(max_ticks=max(round(arguments.seconds * arguments.hz), 1))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    text, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=text, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("policy", help="exported folder, or ws://host:port of a server")
    parser.add_argument("--hz", type=float, default=10.0, help="that of the demonstrations")
    parser.add_argument("--seconds", type=float, default=30.0, help="then the run ends")
    parser.add_argument("--lead", type=int, default=1, help="actions before a chunk's end to ask")
    parser.add_argument("--first-move", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--max-bad-observations", type=int, default=10, metavar="N")
    parser.add_argument("--wait", type=float, default=30.0, help="seconds for a server to start")
    parser.add_argument("--api-key-file", type=Path, help="for a server that asks for a key")
    parser.add_argument("--record", type=Path, metavar="NEW.zarr", help="write it all down")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be sent, and send nothing"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Connect, run, and say how it ended."""
    arguments = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        result = control(lambda: Arm(connect()), arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ConnectionError, TimeoutError, FloatingPointError, PolicyServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"ended: {result.reason}; {result.steps} actions, {result.held} ticks without one")
    return 0 if result.reason in ("done", "max_ticks") else 1


if __name__ == "__main__":
    sys.exit(main())
