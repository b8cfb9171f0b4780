"""Draw what the control loop did: chunks, executed actions, delays, missed deadlines; or execute
the recorded actions again.

A recording is a replay buffer like any other: it can be inspected, converted and trained on.

examples:
  lfm-policy replay run.zarr --plot run.png
  lfm-policy replay run.zarr --episode 3 --plot run3.png
  lfm-policy replay run.zarr --env lfm/PushT-v0     # the recorded actions once more
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lfm_policy.cli.common import non_negative, print_json


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
    parser.add_argument("--env", help="gymnasium id: execute the actions there again")
    parser.add_argument(
        "--seed", type=non_negative, help="of that environment (default: the recorded one)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of text and tables"
    )


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.control.figure import recording_figure
    from lfm_policy.control.recording import load_recording
    from lfm_policy.control.replay import replay_actions
    from lfm_policy.control.report import recording_table
    from lfm_policy.environments import make_env
    from lfm_policy.errors import InputError
    from lfm_policy.pictures import drawing, save
    from lfm_policy.text.numbers import rounded

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
    again = None
    if arguments.env:
        seed = arguments.seed
        if seed is None:
            seed = int(recording.attributes.get("seed_start", 0)) + episode.number
        with make_env(arguments.env) as env:
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
            f"again in {arguments.env}: {again['steps']} steps, success "
            f"{'not reported' if again['success'] is None else again['success']}, "
            f"largest reward {rounded(again['max_reward'], 3)}"
        )
    return 0
