"""Pictures of docs/how/joining.md: when chunks are asked for, and what joining makes of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from look import page_figure, plain, save_picture
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lfm_policy.control.recording import RecordedEpisode, load_recording
from lfm_policy.pictures import Theme, drawing, legend_below
from lfm_runtime.control import (
    ControlLoop,
    ControlOptions,
    Recorder,
    SimulatedClock,
    SimulatedInference,
)
from lfm_runtime.control.result import HELD
from lfm_runtime.policy.spec import DataSpec

HZ = 10.0
HORIZON, EXECUTE, DELAY = 15, 8, 2
"""Actions of a chunk from the newest observation on, those executed of it, and the ticks that a
chunk takes."""
CHUNKS = 3
TICKS = 34
KINDS = {
    "stand still and wait": ControlOptions(execute=EXECUTE),
    "replace": ControlOptions(execute=EXECUTE, lead=DELAY),
    "ensemble": ControlOptions(execute=EXECUTE, joining="ensemble"),
    "prefix": ControlOptions(execute=EXECUTE, lead=DELAY, joining="prefix"),
}


def draw(folder: Path, *, quick: bool) -> list[Path]:
    """Draw them all into a folder; ``quick``: as rough as it may be."""
    return [
        draw_timeline(folder / "joining_timeline.png"),
        draw_kinds(folder / "joining_kinds.png", ticks=12 if quick else TICKS),
    ]


# -- when ---------------------------------------------------------------------------------------


def draw_timeline(path: Path) -> Path:
    """Draw of three chunks which actions are over when they come, executed, and left over."""
    with drawing() as theme:
        picture = page_figure(2.6)
        axes: Any = picture.subplots()
        plain(axes)
        kinds = {
            "over when it comes": (theme.warning, 0.45),
            "executed": (theme.policy_colour(0), 1.0),
            "left over": (theme.block, 0.55),
        }
        for k in range(CHUNKS):
            asked = k * (EXECUTE - DELAY)
            for i in range(HORIZON):
                # Nothing moves before the first chunk is there.
                over = i < DELAY and k > 0
                kind = "over when it comes" if over else "executed" if i < EXECUTE else "left over"
                colour, alpha = kinds[kind]
                box = (asked + i + 0.06, k - 0.12)
                axes.add_patch(Rectangle(box, 0.88, 0.44, facecolor=colour, alpha=alpha))
            axes.plot([asked, asked], [k - 0.42, k + 0.32], color=theme.ink, linewidth=1.2)
            words = f"chunk {k + 1} asked for"
            axes.text(asked + 0.25, k - 0.2, words, fontsize=8.5, color=theme.ink)
        for label, (colour, alpha) in kinds.items():
            box = (0, -9)
            axes.add_patch(Rectangle(box, 1, 1, facecolor=colour, alpha=alpha, label=label))
        last = (CHUNKS - 1) * (EXECUTE - DELAY) + HORIZON
        axes.set_xticks(np.arange(0, last + 1, 2))
        axes.tick_params(length=0)
        axes.set(xlim=(-0.3, last), ylim=(CHUNKS - 0.5, -0.6), xlabel="steps of the robot")
        legend_below(axes, drop=0.26, handletextpad=0.5, handleheight=0.9)
        return save_picture(picture, path)


# -- how ----------------------------------------------------------------------------------------


class Line:
    """A robot that is one number, and is at once where it was told to be."""

    simulated = True

    def __init__(self) -> None:
        self._at = np.zeros(1, np.float32)

    def observe(self) -> Mapping[str, Any]:
        return {"position": self._at}

    def act(self, action: np.ndarray) -> None:
        self._at = action

    def stop(self) -> None:
        pass


@dataclass(frozen=True)
class Sampled:
    """What a policy samples: chunk (1, horizon, 1)."""

    chunk: np.ndarray


class Undecided:
    """A policy that wants to go up, and turns to one side with a chunk, to the other with the next.

    Each plan begins where the robot was observed, or behind the prefix that it is given.
    """

    spec = DataSpec(obs_shapes={"position": (1,)}, action_dim=1)
    n_obs_steps = 1
    n_action_steps = EXECUTE
    horizon = HORIZON
    max_prefix = DELAY

    def __init__(self) -> None:
        self._asked = 0

    def reset(self) -> None:
        pass

    def sample(self, batch: Mapping[str, np.ndarray], prefix: Any = None) -> Sampled:
        known = [] if prefix is None else list(prefix[0, :, 0])
        start = known[-1] if known else batch["position"][0, -1, 0]
        self._asked += 1
        side = 0.75 if self._asked % 2 else -0.75
        ahead = np.arange(1, HORIZON + 1 - len(known))
        plan = [*known, *(start + 0.1 * ahead + side * (1 - np.exp(-ahead / 5)))]
        return Sampled(np.array(plan, np.float32)[None, :, None])

    def predict_action_chunk(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        return self.sample(batch).chunk[:, :EXECUTE]


def recorded(options: ControlOptions, ticks: int) -> RecordedEpisode:
    """Run the control loop with the undecided policy, and return what it recorded."""
    clock = SimulatedClock()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "run.zarr"
        with Recorder(store, {"hz": HZ}) as recorder:
            ControlLoop(
                Line(),
                Undecided(),
                hz=HZ,
                options=options,
                clock=clock,
                inference=lambda predict: SimulatedInference(predict, clock, DELAY / HZ),
                recorder=recorder,
            ).run(ticks)
        return load_recording(store).episode(0)


def draw_kinds(path: Path, *, ticks: int) -> Path:
    """Draw what the robot is told when chunks are joined in each way, and the chunks."""
    with drawing() as theme:
        picture = page_figure(5.6)
        panels: Any = picture.subplots(4, 1, sharex=True, sharey=True)
        for axes, (name, options) in zip(panels, KINDS.items(), strict=True):
            _draw_run(axes, recorded(options, ticks), theme)
            axes.set_title(name)
            axes.set(xlim=(0, ticks / HZ), yticks=[])
            axes.tick_params(length=0)
        panels[-1].set_xlabel("seconds")
        legend_below(panels[-1], columns=3, drop=0.55)
        return save_picture(picture, path)


def _draw_run(axes: Axes, run: RecordedEpisode, theme: Theme) -> None:
    now, told = run.steps["time"], run.action[:, 0]
    ends = run.chunks["start"] + run.chunks["length"]
    times = run.step_times(int(ends.max()))
    for k, (start, length) in enumerate(
        zip(run.chunks["start"], run.chunks["length"], strict=True)
    ):
        axes.plot(
            times[start : start + length],
            run.chunks["action"][k, :length, 0],
            color=(theme.policy_colour(0), theme.chunk[0])[k % 2],
            linewidth=0.9,
            label="chunks" if k == 0 else None,
        )
    axes.plot(now, told, color=theme.ink, linewidth=1.6, label="what the robot is told")
    held = run.steps["kind"] == HELD
    axes.plot(now[held], told[held], "s", color=theme.warning, markersize=4, label="standing still")
