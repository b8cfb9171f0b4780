"""Roll out a checkpoint and report success, score and latency.

Episode i starts from environment seed seed-start + i; the policy's noise depends only on (--seed,
episode, chunk). Test seeds start at 100000; choose settings with seeds from 200000 only.

An environment says whether an episode succeeded by info['success'] or info['is_success'] of step(),
or, with --success terminated, by ending it before its time; of one that never says it, only rewards
are reported.

examples:
  lfm-policy eval runs/pusht-fm --episodes 200 --seed-start 100000
  lfm-policy eval runs/pusht-fm --episodes 50 --nfe 1 2 4 8 16 --video 8
  lfm-policy eval runs/pusht-lfm --episodes 50 --nfe 3 1,1,2 1,1,3
  lfm-policy eval runs/mt10 --episodes 20 --task reach-v3 push-v3
  lfm-policy eval runs/first --env my_env:Reach-v0 --observation 'hand=[0,3]' \\
      --observation 'goal=[3,6]'
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lfm_policy.cli.common import (
    SOLVERS,
    add_common_options,
    add_environment_options,
    add_runner_options,
    add_sampler_options,
    environment_of,
    non_negative,
    positive,
    print_json,
    sampler_of,
)

EXIT_NOT_FILMED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        help="checkpoint, run folder, exported folder, policy of the package (pusht-state), or "
        "user/name of one on the hub",
    )
    parser.add_argument("--episodes", type=positive, default=200, help="how many; default 200")
    parser.add_argument(
        "--task",
        nargs="+",
        default=[],
        metavar="NAME",
        help="tasks of a policy of several, by name or number; each has its own --episodes "
        "(default: all, where the environment has {task} in its id)",
    )
    parser.add_argument(
        "--seed-start",
        type=non_negative,
        default=100_000,
        help="environment seed of the first episode; default 100000",
    )
    add_sampler_options(parser, solvers=SOLVERS, several_nfe=True)
    parser.add_argument(
        "--n-action-steps",
        type=positive,
        metavar="N",
        help="actions executed of each chunk before the next is asked for (default: as configured)",
    )
    add_environment_options(parser)
    parser.add_argument(
        "--max-episode-steps",
        type=positive,
        metavar="N",
        help="steps after which an episode is over (default: as configured; of another environment "
        "as it is registered)",
    )
    parser.add_argument(
        "--num-envs",
        type=positive,
        help="environments at the same time; default 32; as processes one per CPU, at least 4",
    )
    parser.add_argument(
        "--processes",
        action=argparse.BooleanOptionalAction,
        help="one process per environment or all in one (default: processes for slow simulators)",
    )
    add_runner_options(parser, local_cluster="a cluster on this machine, one worker per CPU")
    parser.add_argument(
        "--video", type=non_negative, default=0, metavar="K", help="film the first K episodes"
    )
    parser.add_argument(
        "--video-episodes", type=non_negative, nargs="+", default=[], help="film these episodes"
    )
    parser.add_argument("--output", type=Path, help="results folder (default: <checkpoint>/eval)")
    parser.add_argument("--threads", type=positive, default=1, help="torch CPU threads; default 1")
    add_common_options(parser, seed_help="seed of the policy's noise; default 0")


def run(arguments: argparse.Namespace) -> int:
    import torch

    from lfm_policy.assets import results_folder
    from lfm_policy.config.environment import why_no_environment
    from lfm_policy.device import choose_device
    from lfm_policy.errors import EvaluationError, InputError
    from lfm_policy.evaluation import RolloutConfig, evaluate, evaluation_to_dict
    from lfm_policy.evaluation.environments import choose_workers
    from lfm_policy.evaluation.exported import ExportedPolicy
    from lfm_policy.evaluation.recording import record_videos
    from lfm_policy.evaluation.report import footnote, results_table, tasks_table
    from lfm_policy.evaluation.reporting.figure import plot_evaluation
    from lfm_policy.evaluation.subject import EvaluatedPolicy
    from lfm_policy.policy import find_checkpoint, load_policy
    from lfm_runtime.disk.files import write_json
    from lfm_runtime.export.file import is_export
    from lfm_runtime.policy.tasks import task_number

    torch.set_num_threads(arguments.threads)
    filmed = sorted({*range(arguments.video), *arguments.video_episodes})
    if filmed and filmed[-1] >= arguments.episodes:
        raise InputError(
            f"episode {filmed[-1]} was to be filmed, but there are only {arguments.episodes}, "
            "numbered from 0"
        )
    policy: EvaluatedPolicy
    if is_export(arguments.checkpoint):
        folder = Path(arguments.checkpoint)
        policy = ExportedPolicy(folder, threads=arguments.threads)
    else:
        folder = find_checkpoint(arguments.checkpoint)
        policy = load_policy(folder, device=choose_device(arguments.device))
    if arguments.n_action_steps is not None:
        policy.n_action_steps = arguments.n_action_steps
    output = arguments.output or results_folder(arguments.checkpoint) / "eval"
    env = environment_of(arguments, policy.config.env, steps=arguments.max_episode_steps)
    if not env.id and (reason := why_no_environment(policy.config)):
        raise InputError(
            f"the checkpoint names no environment (env.id is empty), and {reason}; give one with "
            "--env, such as --env lfm/PushT-v0"
        )
    known = policy.spec.tasks
    tasks = tuple(known[task_number(known, task)] for task in arguments.task)
    first = RolloutConfig(env.id, tasks=tasks).by_task(known)[0]
    num_envs, processes = choose_workers(first.env_id, arguments.num_envs, arguments.processes)
    config = RolloutConfig.of(
        env,
        seed_start=arguments.seed_start,
        noise_seed=arguments.seed or 0,
        num_envs=num_envs,
        processes=processes,
        tasks=tasks,
    )
    quiet = arguments.quiet or arguments.json
    sampler = sampler_of(arguments)
    sampler.pop("nfe")
    with _runner(arguments, folder) as runner:
        cells, seconds = evaluate(
            policy,
            config,
            n_episodes=arguments.episodes,
            nfes=arguments.nfe or (None,),  # several, each with a cell of its own
            **sampler,
            quiet=quiet,
            runner=runner,
        )
    report = evaluation_to_dict(policy, config, cells, seconds)
    write_json(output / "eval.json", report)
    # The sampler is still that of the last cell, whose episodes are filmed.
    videos, frames, not_filmed = output / "videos", {}, ""
    try:
        for one in config.by_task(known) if filmed else ():
            of_task = cells[-1].of_task(one.tasks[0]) if one.tasks else cells[-1]
            folder = videos / one.tasks[0] if one.tasks else videos
            shown = record_videos(policy, one, [of_task.episodes[i] for i in filmed], folder)
            frames = {} if one.tasks else shown
    except (InputError, EvaluationError) as error:  # what was measured stands all the same
        not_filmed = str(error)
    title = f"{policy.config.name} on {config.env_id}"
    plot_evaluation(
        output / "eval.png", title, cells, frames, student_blocks=policy.config.student_blocks
    )
    if not_filmed:
        print(f"error: not filmed: {not_filmed}", file=sys.stderr)
    if arguments.json:
        print_json(report)
        return EXIT_NOT_FILMED if not_filmed else 0
    results_table(title, cells).print()
    if cells[0].tasks:
        tasks_table(f"{policy.config.name}: successes by task", cells).print()
    print(footnote(policy, config, cells))
    print(f"written: {output / 'eval.json'}, {output / 'eval.png'}")
    if filmed and not not_filmed:
        print(f"videos of {len(filmed)} episodes (NFE {cells[-1].nfe:g}): {videos}")
    return EXIT_NOT_FILMED if not_filmed else 0


def _runner(arguments: argparse.Namespace, folder: Path) -> AbstractContextManager[Any]:
    from lfm_policy.errors import InputError

    if arguments.runner == "ray":
        from lfm_policy.evaluation.ray_runner import RayRunner

        return RayRunner(folder, address=arguments.ray_address)
    if arguments.ray_address:
        raise InputError(f"--ray-address is {arguments.ray_address}, which needs --runner ray")
    from lfm_policy.evaluation import rollout

    return nullcontext(rollout)
