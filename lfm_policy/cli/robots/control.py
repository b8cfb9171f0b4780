"""Run a policy at a fixed rate while chunks are computed in another thread, on an environment that
does not wait.

Of every chunk --execute actions are executed, and the next one is asked for --lead actions before
they end. With d = (seconds per chunk) x hz, rounded up, --lead d and --execute of at least 2 d
never let the robot wait.

examples:
  lfm-policy control pusht-state --hz 10 --record run.zarr && lfm-policy replay run.zarr
  lfm-policy control exported/ --env lfm/PushT-v0 --hz 50 --lead 2 --on-miss continue
  lfm-policy control ws://gpu-box:8000 --env lfm/PushT-v0 --hz 10 --lead 4
  lfm-policy control exported/ --robot my_arm --plugin my_arm.py --dry-run --max-ticks 50 \\
      --position-key joints --first-move 3 --max-bad-observations 10
  lfm-policy control exported/ --robot so101_follower --robot-config robot.yaml --dry-run
  lfm-policy control pusht-state --delay 200 --lead 2 --simulated --episodes 20
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lfm_policy.cli.common import (
    SOLVERS,
    add_common_options,
    add_environment_options,
    add_sampler_options,
    environment_of,
    non_negative,
    options_of,
    positive,
    print_json,
    sampler_of,
)
from lfm_policy.cli.robots.place import (
    check_simulated,
    check_together,
    environment_of_policy,
    made_robot,
    observations_of,
    recorded,
    robot_of,
    with_recorded,
)

_NEXT_EPISODE = ("done", "deadline", "bad observations", "max_ticks")
"""Reasons for the end of an episode after which another one makes sense."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "policy",
        help="checkpoint, run folder, exported folder, policy of the package, user/name of one on "
        "the hub, or ws://host:port",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="for a server (ws://) that is still starting; default 10",
    )
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="for a server that asks for a key: the file with it, in the first line that is no "
        "comment",
    )
    add_environment_options(parser)
    parser.add_argument(
        "--robot",
        help="instead of --env: name of a robot that a --plugin adds or, with --robot-config, any "
        "robot type of an installed LeRobot, such as so101_follower",
    )
    parser.add_argument(
        "--robot-config",
        type=Path,
        metavar="ROBOT.yaml",
        help="LeRobot's configuration of that type, with joints, limits and what the policy's "
        "observations are called there",
    )
    parser.add_argument(
        "--task", metavar="NAME", help="what a policy of several tasks is to do, by name or number"
    )
    parser.add_argument(
        "--robot-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of that robot, such as port=/dev/ttyACM0 (may be repeated)",
    )
    parser.add_argument(
        "--hz",
        type=float,
        help="ticks per second (default: as --robot-config or the environment says, or else 10)",
    )
    parser.add_argument(
        "--episodes", type=positive, default=1, help="one after the other; default 1"
    )
    parser.add_argument(
        "--seed-start",
        type=non_negative,
        default=200_000,
        help="environment seed of the first episode; default 200000",
    )
    sampler = parser.add_argument_group("sampler (checkpoints only)")
    add_sampler_options(sampler, solvers=SOLVERS)
    loop = parser.add_argument_group("control loop")
    loop.add_argument(
        "--joining",
        default="replace",
        help="how a chunk follows the one before: replace (default), ensemble or prefix",
    )
    loop.add_argument(
        "--execute", type=positive, help="actions executed of each chunk (default: as trained)"
    )
    loop.add_argument(
        "--lead",
        type=non_negative,
        help="actions before their end at which the next chunk is asked for; default 0 (ensemble: "
        "asks at every step)",
    )
    loop.add_argument(
        "--on-miss",
        default="hold",
        help="what to do until a late chunk comes: hold (default), continue or stop",
    )
    loop.add_argument(
        "--hold-action",
        type=float,
        nargs="+",
        metavar="X",
        help="what a robot that holds is told, one number for each of an action, such as zeros "
        "for velocities (default: the last action again, right for targets)",
    )
    loop.add_argument(
        "--patience",
        type=float,
        default=0.5,
        help="part of a period that a tick waits for a late chunk; default 0.5",
    )
    loop.add_argument(
        "--max-staleness",
        type=float,
        metavar="SECONDS",
        help="execute no action whose observation is older (default: twice the time of a chunk)",
    )
    loop.add_argument(
        "--max-change",
        type=float,
        help="largest change of each number of an action from tick to tick",
    )
    loop.add_argument("--position-key", help="observation that says where the robot is")
    loop.add_argument(
        "--first-move",
        type=float,
        metavar="SECONDS",
        help="go from where --position-key says to the first action so slowly",
    )
    loop.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the robot would be told, and tell it nothing (it is stopped in the end)",
    )
    loop.add_argument(
        "--max-ticks", type=positive, metavar="N", help="end an episode after so many ticks"
    )
    loop.add_argument(
        "--max-bad-observations",
        type=positive,
        metavar="N",
        help="end after so many ticks in a row without a good one",
    )
    loop.add_argument(
        "--hang-timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="stop an environment that takes longer; default 5",
    )
    loop.add_argument(
        "--on-policy-change",
        default="stop",
        help="when a server serves another policy: stop (default) or hold",
    )
    loop.add_argument(
        "--delay",
        type=float,
        default=0.0,
        metavar="MS",
        help="let every chunk take so long, to try it",
    )
    loop.add_argument(
        "--simulated", action="store_true", help="a clock that jumps: do not really wait"
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FOLDER.zarr",
        help="write observations, actions and chunks there",
    )
    parser.add_argument(
        "--record-obs",
        type=_names,
        default=[],
        metavar="KEY,KEY,...",
        help="write these observations too, which the policy does not see, or all that the "
        "environment gives (all): for a teacher or a student that sees something else",
    )
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads; default 1")
    add_common_options(parser, seed_help="seed of the policy's noise; default 0")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def run(arguments: argparse.Namespace) -> int:
    import logging
    from contextlib import ExitStack
    from dataclasses import asdict, replace

    from tqdm.auto import tqdm

    from lfm_policy.control.episodes import run_episode, run_robot
    from lfm_policy.control.replay import ENVIRONMENT
    from lfm_policy.control.report import outcomes_table, outcomes_to_dict
    from lfm_policy.control.robots import LEROBOT
    from lfm_policy.environments import (
        TASK_FIELD,
        make_env,
        reading_of,
        registered_steps,
        steps_per_second,
    )
    from lfm_policy.errors import InputError
    from lfm_policy.open_policy import open_policy
    from lfm_runtime.control import ControlOptions, Recorder
    from lfm_runtime.wire.keys import keys_of

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if arguments.dry_run:
        logging.getLogger("lfm_runtime.control").setLevel(logging.INFO)
    if not 0 <= arguments.delay < 3_600_000:
        raise InputError(f"--delay is {arguments.delay}, expected milliseconds, at least 0")
    check_together(arguments)
    options = options_of(ControlOptions, arguments)
    robot_name, robot_options = robot_of(arguments)
    # One of LeRobot is not connected before it runs, and what is wrong with its file is said first.
    robot = made_robot(robot_name, robot_options) if robot_name == LEROBOT else None
    sampler, noise_seed = sampler_of(arguments), arguments.seed or 0
    with ExitStack() as stack:
        policy = open_policy(
            arguments.policy,
            device=arguments.device,
            threads=arguments.threads,
            wait=arguments.wait,
            api_key=keys_of(arguments.api_key_file)[0] if arguments.api_key_file else None,
            **sampler,
        )
        # A server is told that this is the end of it, whatever comes in between.
        stack.callback(getattr(policy, "close", lambda: None))
        if arguments.task is not None:
            policy.task = arguments.task
        configured = environment_of_policy(policy, arguments.policy)
        place = arguments.robot or arguments.env or configured.id
        if not place:
            raise InputError(
                "the policy names no environment; give one with --env, such as --env lfm/PushT-v0"
            )
        if TASK_FIELD in place:
            if policy.task is None:
                known = ", ".join(policy.spec.tasks) or "none: it was trained without dataset.tasks"
                raise InputError(
                    f"{place}: say which task is to be done, with --task NAME: {known}"
                )
            place = place.replace(TASK_FIELD, policy.task)
        env, environment = None, {}
        if not arguments.robot:
            chosen = replace(environment_of(arguments, configured), id=place)
            reading = reading_of(chosen)
            steps = chosen.max_episode_steps
            if arguments.max_ticks and registered_steps(place) is None:  # nothing else ends it
                steps = max(steps, arguments.max_ticks)
            made_with = {"max_episode_steps": steps} | chosen.options
            env = stack.enter_context(make_env(place, reading=reading, **made_with))
            environment = {ENVIRONMENT: asdict(chosen)}
        told = getattr(robot, "hz", steps_per_second({} if env is None else env.metadata))
        hz = told if arguments.hz is None else arguments.hz
        recorder = None
        record_obs = observations_of(env, place, arguments.record_obs)
        if arguments.record is not None:
            facts = {
                **{k: getattr(arguments, k) for k in ("policy", "seed_start", "simulated")},
                "hz": hz,
                "env": place,
                **environment,
                **({} if robot is None else {"robot": robot.facts}),
                "noise_seed": noise_seed,
                "delay_ms": arguments.delay,
                "sampler": sampler,
                "options": asdict(options),
            }
            recorder = Recorder(arguments.record, facts, wait=arguments.simulated)
            stack.enter_context(with_recorded(recorder))  # and closed before: known is what is kept
            stack.enter_context(recorder)
        outcomes = []
        quiet = arguments.quiet or arguments.json
        bar = stack.enter_context(tqdm(total=arguments.episodes, unit="episode", disable=quiet))
        for episode in range(arguments.episodes):
            policy.sample_seed(noise_seed, episode)
            timing: dict[str, Any] = {
                "hz": hz,
                "seed": arguments.seed_start + episode,
                "options": options,
                "delay": arguments.delay / 1e3,
                "simulated": arguments.simulated,
                "recorder": recorder,
                "record_obs": record_obs,
                "max_ticks": arguments.max_ticks,
            }
            if env is None:
                if robot is None:
                    robot = made_robot(robot_name, robot_options)
                    check_simulated(robot, arguments)
                outcome, robot = run_robot(policy, robot, **timing), None
            else:
                outcome = run_episode(policy, env, position_key=arguments.position_key, **timing)
            outcomes.append(outcome)
            bar.update()
            if outcome.control.reason not in _NEXT_EPISODE:
                break
    if arguments.json:
        print_json(outcomes_to_dict(outcomes))
    else:
        title = f"{arguments.policy} on {place} at {hz:g} Hz"
        outcomes_table(title, outcomes, hz=hz, of_robot=bool(arguments.robot))
        if recorder is not None and recorder.actions_kept:
            print(f"written: {recorder.path}")
    # Who limits the ticks has asked for that end.
    ended_well = all(outcome.control.reason in ("done", "max_ticks") for outcome in outcomes)
    if recorder is not None and recorder.error is not None:
        print(recorded(recorder), file=sys.stderr)
        ended_well = False
    return 0 if ended_well else 1
