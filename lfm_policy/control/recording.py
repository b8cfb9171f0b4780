"""Reading what `lfm_runtime.control.Recorder` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.data.zarr.store import list_zarr, load_arrays, load_zarr
from lfm_policy.errors import InputError
from lfm_runtime.control.recording.recorder import CHUNK_FIELDS, FORMAT_VERSION, STEP_FIELDS
from lfm_runtime.control.result import CONTINUED, HELD, PLANNED
from lfm_runtime.disk.files import exists
from lfm_runtime.disk.input_files import read_bounded

ACTION_NAMES = "action_names"
"""Attribute of a recording: what each number of an action is, where the robot says so."""

_MAXIMUM_ATTRIBUTES = 2**20
_LONGEST_NAME = 60
_LATER_FIELDS = frozenset({"failed", "length"})


def outcome_attribute(number: int) -> str:
    """Return the attribute of a recording that says how an episode ended."""
    return f"episode_{number}"


@dataclass(frozen=True)
class RecordedOutcome:
    """How a run ended, as far as it is known.

    Attributes:
        seed: of the environment.
        ended: why the loop ended.
        success: whether it was one.
        max_reward: largest reward of any step.
    """

    seed: int | None = None
    ended: str | None = None
    success: bool | None = None
    max_reward: float | None = None


@dataclass(frozen=True)
class RecordedEpisode:
    """One run of the control loop.

    Attributes:
        number: 0 for the first run.
        hz: ticks per second.
        action: (T, action_dim) float32, as executed.
        steps: fields of `StepRecord` by name, (T,).
        chunks: fields of `ChunkRecord` by name, (C,), and ``action`` (C, n, action_dim), of which
            the first ``length`` are the chunk's.
        outcome: how it ended.
        action_names: what each number of an action is; empty: not known.
    """

    number: int
    hz: float
    action: np.ndarray
    steps: dict[str, np.ndarray]
    chunks: dict[str, np.ndarray]
    outcome: RecordedOutcome = RecordedOutcome()
    action_names: tuple[str, ...] = ()

    def joins(self) -> np.ndarray:
        """Return the indices of actions, (K,), that are the first of another chunk."""
        return np.flatnonzero(np.diff(self.steps["chunk"])) + 1

    def step_times(self, last: int) -> np.ndarray:
        """Return when steps 0 to ``last`` were executed, (last + 1,) seconds.

        Steps that never were are taken to follow at the rate of the loop.
        """
        planned = np.isin(self.steps["kind"], (PLANNED, CONTINUED))
        times = np.full(last + 1, np.nan)
        known = self.steps["step"][planned]
        inside = known <= last
        times[known[inside]] = self.steps["time"][planned][inside]
        for step in range(last + 1):
            if np.isnan(times[step]):
                times[step] = times[step - 1] + 1 / self.hz if step else 0.0
        return times

    def summary(self) -> dict[str, Any]:
        """Return counts and times as plain JSON values."""
        kind, consumed = self.steps["kind"], self.chunks["consumed"]
        late = np.isin(kind, (HELD, CONTINUED))
        latency = 1e3 * (self.chunks["answered_at"] - self.chunks["asked_at"])
        return {
            "episode": self.number,
            "actions": len(self.action),
            "seconds": float(self.steps["time"][-1] - self.steps["time"][0]),
            "chunks": len(consumed),
            "deadline_misses": int(np.sum(np.diff(late.astype(int), prepend=0) == 1)),
            "held": int(np.sum(kind == HELD)),
            "continued": int(np.sum(kind == CONTINUED)),
            "limited": int(np.sum(self.steps["limited"])),
            "bad_observations": int(np.sum(self.steps["obs_valid"] == 0)),
            "failed": int(np.sum(self.steps["failed"])),
            "latency_ms_median": float(np.median(latency)) if len(latency) else None,
            "latency_ms_max": float(np.max(latency)) if len(latency) else None,
            "consumed_max": int(consumed.max()) if len(consumed) else None,
        }


@dataclass(frozen=True)
class Recording:
    """A recording of one or more runs.

    Attributes:
        path: where it is.
        attributes: what was written with it, such as the options.
        episodes: its runs.
    """

    path: Path
    attributes: dict[str, Any]
    episodes: tuple[RecordedEpisode, ...]

    def __iter__(self) -> Iterator[RecordedEpisode]:
        return iter(self.episodes)

    def episode(self, number: int) -> RecordedEpisode:
        """Return a run.

        Raises:
            InputError: there is none of that number.
        """
        if not 0 <= number < len(self.episodes):
            raise InputError(
                f"{self.path}: has no episode {number}, only 0 to {len(self.episodes) - 1}"
            )
        return self.episodes[number]


def load_recording(path: str | Path) -> Recording:
    """Read a recording, without its observations.

    Raises:
        InputError: there is none, or it is damaged or of another kind; the message says what.
    """
    path = Path(path)
    list_zarr(path)  # says what is wrong with something that is no zarr store
    attributes = _read_attributes(path)
    buffer = load_zarr(path, ["action"])
    steps = load_arrays(path, _names(path, "steps", STEP_FIELDS))
    chunks = load_arrays(path, _names(path, "chunks", ["action", "episode", *CHUNK_FIELDS]))
    _fill_in(steps, chunks)
    _check(path, buffer.n_steps, buffer.arrays["action"].shape[1], steps, chunks)
    episodes = []
    for number, (begin, end) in enumerate(
        zip(buffer.episode_starts, buffer.episode_ends, strict=True)
    ):
        own = chunks["chunks/episode"] == number
        episodes.append(
            RecordedEpisode(
                number=number,
                hz=attributes["hz"],
                action=buffer.arrays["action"][begin:end],
                steps={name: steps[f"steps/{name}"][begin:end] for name in STEP_FIELDS},
                chunks={name: chunks[f"chunks/{name}"][own] for name in ("action", *CHUNK_FIELDS)},
                outcome=_outcome(attributes.get(outcome_attribute(number))),
                action_names=_action_names(attributes, buffer.arrays["action"].shape[1]),
            )
        )
    return Recording(path, attributes, tuple(episodes))


def _names(path: Path, group: str, fields: Iterable[str]) -> list[str]:
    """Return the arrays to read; those that older recordings do not have only where they are."""
    return [
        f"{group}/{name}"
        for name in fields
        if name not in _LATER_FIELDS or exists(path / group / name)
    ]


def _fill_in(steps: dict[str, np.ndarray], chunks: dict[str, np.ndarray]) -> None:
    """Add what older recordings do not say: no action failed, all chunks were of one length."""
    steps.setdefault("steps/failed", np.zeros_like(steps["steps/limited"]))
    actions = chunks["chunks/action"]
    n_actions = actions.shape[1] if actions.ndim > 1 else 0
    chunks.setdefault("chunks/length", np.full(len(actions), n_actions))


def _read_attributes(path: Path) -> dict[str, Any]:
    file = path / ".zattrs"
    try:
        attributes = json.loads(read_bounded(file, _MAXIMUM_ATTRIBUTES).decode("utf-8"))
    except (InputError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: is no recording of the control loop: {file.name} cannot be read ({error})"
        ) from None
    version = attributes.get("format_version") if isinstance(attributes, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: is no recording of the control loop that is known here: format_version is "
            f"{str(version)[:60]}, expected {FORMAT_VERSION}"
        )
    hz = attributes.get("hz")
    if not isinstance(hz, (int, float)) or isinstance(hz, bool) or not 0 < hz <= 1e4:
        raise InputError(f"{file}: hz is {str(hz)[:60]}, expected ticks per second")
    return attributes


def _outcome(facts: Any) -> RecordedOutcome:
    """Return what an attribute says; what is not as it should be is not known."""
    known = facts if isinstance(facts, dict) else {}
    seed, ended = known.get("seed"), known.get("ended")
    success, reward = known.get("success"), known.get("max_reward")
    return RecordedOutcome(
        seed=seed if isinstance(seed, int) else None,
        ended=ended[:_LONGEST_NAME] if isinstance(ended, str) else None,
        success=success if isinstance(success, bool) else None,
        max_reward=float(reward) if isinstance(reward, (int, float)) else None,
    )


def _action_names(attributes: dict[str, Any], action_dim: int) -> tuple[str, ...]:
    names = attributes.get(ACTION_NAMES)
    if not isinstance(names, list) or len(names) != action_dim:
        return ()
    return tuple(str(name)[:_LONGEST_NAME] for name in names)


def _check(
    path: Path,
    n_rows: int,
    action_dim: int,
    steps: dict[str, np.ndarray],
    chunks: dict[str, np.ndarray],
) -> None:
    n_chunks, planned = len(chunks["chunks/episode"]), chunks["chunks/action"]
    if planned.ndim != 3 or (len(planned), planned.shape[2]) != (n_chunks, action_dim):
        raise InputError(
            f"{path}: chunks/action has shape {planned.shape}, expected ({n_chunks}, n, "
            f"{action_dim})"
        )
    for name, values in (steps | chunks).items():
        shape = (n_rows if name in steps else n_chunks,)
        good = values.dtype.kind in "fiu" and np.isfinite(values).all()
        if name != "chunks/action" and not (values.shape == shape and good):
            raise InputError(
                f"{path}: {name} has shape {values.shape} and dtype {values.dtype}, expected "
                f"finite numbers of shape {shape}: the recording is damaged"
            )
    # Steps become indices, so they must not be absurd.
    for name, values, largest in (
        ("steps/step", steps["steps/step"], n_rows),
        ("chunks/start", chunks["chunks/start"], n_rows),
        ("chunks/length", chunks["chunks/length"], planned.shape[1]),
    ):
        if len(values) and not (values.min() >= 0 and values.max() <= largest):
            raise InputError(
                f"{path}: {name} holds {values.min()} to {values.max()}, expected 0 to {largest}"
            )
