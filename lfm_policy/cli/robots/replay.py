"""Draw what the control loop did: chunks, executed actions, delays, missed deadlines; or execute
the recorded actions again.

A recording is a replay buffer like any other: it can be inspected, converted and trained on.

examples:
  lfm-policy replay run.zarr --plot run.png
  lfm-policy replay run.zarr --episode 3 --plot run3.png
  lfm-policy replay run.zarr --env                  # the recorded actions once more
  lfm-policy replay run.zarr --env lfm/PushT-v0     # in another environment
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lfm_policy.cli.common import (
    add_environment_options,
    environment_of,
    non_negative,
    print_json,
    refuse_given,
)

RECORDED = ""
"""What ``--env`` is where no name follows it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recording", type=Path, help="what 'lfm-policy control --record' wrote")
    parser.add_argument(
        "--episode", type=non_negative, default=0, help="number of the episode; default 0"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.png",
        help="picture to draw (default: beside the recording)",
    )
    add_environment_options(
        parser,
        help="execute the actions again, in the environment that they were recorded in, or in one "
        "of this gymnasium id or module:Name-v0",
        unnamed=RECORDED,
        observed=False,
    )
    parser.add_argument(
        "--seed", type=non_negative, help="of that environment (default: the recorded one)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of text and tables"
    )


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.control.figure import recording_figure
    from lfm_policy.control.recording import load_recording
    from lfm_policy.control.replay import recorded_environment, replay_actions
    from lfm_policy.control.report import recording_table
    from lfm_policy.environments import make_env, reading_of
    from lfm_policy.errors import InputError
    from lfm_policy.pictures import drawing, save
    from lfm_policy.text.numbers import rounded

    if arguments.env is None:
        of_environments = ("env_option", "success", "seed")
        refuse_given(arguments, of_environments, "is of an environment: give --env too")
    recording = load_recording(arguments.recording)
    episode = recording.episode(arguments.episode)
    path = arguments.recording
    plot = arguments.plot or path.with_name(f"{path.stem}-{episode.number}.png")
    if plot.suffix != ".png":
        raise InputError(f"--plot {plot}: expected a name that ends in .png")
    facts = recording.attributes
    run_by = " on ".join(str(facts[key])[:60] for key in ("policy", "env") if facts.get(key))
    with drawing() as theme:
        title = f"{path.name}, episode {episode.number}"
        save(recording_figure(title, episode, theme, run_by=run_by), plot)
    again, place = None, ""
    if arguments.env is not None:
        seed = arguments.seed
        if seed is None:
            seed = episode.outcome.seed
        if seed is None:  # of an earlier version, which did not write it down
            seed = int(recording.attributes.get("seed_start", 0)) + episode.number
        recorded = recorded_environment(recording, needed=arguments.env == RECORDED)
        chosen = environment_of(arguments, recorded)
        place = chosen.id
        reading = reading_of(replace(chosen, observations={}))  # nobody looks at them
        # As control made it, and no episode of before ends early.
        steps = max(chosen.max_episode_steps, len(episode.action))
        made_with = {"max_episode_steps": steps} | chosen.options
        with make_env(place, reading=reading, **made_with) as env:
            again = replay_actions(episode, env, seed=seed)
    if arguments.json:
        print_json(
            {
                "recording": recording.attributes,
                "episodes": [one.summary() for one in recording],
                "again": again,
                "plot": str(plot),
            }
        )
        return 0
    recording_table(str(path), recording.episodes)
    print(f"written: {plot}")
    if again is not None:
        print(
            f"again in {place}: {again['steps']} steps, success "
            f"{'not reported' if again['success'] is None else again['success']}, "
            f"largest reward {rounded(again['max_reward'], 3)}"
        )
    return 0
