"""A world in which every step can be checked by eye: positions, actions and steps are numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lfm_runtime.control import (
    ControlLoop,
    ControlOptions,
    ControlResult,
    Recorder,
    SimulatedClock,
    SimulatedInference,
)
from lfm_runtime.policy.spec import DataSpec

OBSERVED = {
    "agent_pos": np.full(2, 250.0, np.float32),
    "block_pose": np.array([250, 250, 1, 0], np.float32),
    "keypoints": np.full(16, 250.0, np.float32),
}
"""What a robot would have to see to run the bundled policy."""


class Counter:
    """A robot that is asked to be at 0, 1, 2, ...; it is where it was last told to be."""

    simulated = True

    def __init__(self, ends_at: float = np.inf) -> None:
        self.acted: list[float] = []
        self.seen = 0
        self.stops = 0
        self.ends_at = ends_at
        self.before_observe: Callable[[int], Any] = lambda seen: None

    @property
    def done(self) -> bool:
        return bool(self.acted) and self.acted[-1] >= self.ends_at

    def observe(self) -> Mapping[str, Any] | None:
        seen, self.seen = self.seen, self.seen + 1
        replaced = self.before_observe(seen)
        if replaced is not None:
            return None if replaced == "missing" else dict(replaced)
        return {"next": np.array([self.acted[-1] + 1 if self.acted else 0.0])}

    def act(self, action: np.ndarray) -> None:
        assert self.stops == 0
        self.acted.append(float(action[0]))

    def stop(self) -> None:
        self.stops += 1


@dataclass(frozen=True)
class Sampled:
    chunk: np.ndarray


class Continues:
    """A policy that goes on counting from what it observed; chunk c is shifted by c * shift."""

    n_obs_steps = 2
    n_action_steps = 4
    horizon = 9
    max_prefix = 4

    def __init__(self, shift: float = 0.0) -> None:
        self.spec = DataSpec({"next": (1,)}, 1)
        self.shift = shift
        self.calls: list[dict[str, np.ndarray]] = []
        self.prefixes: list[list[float]] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def sample(self, batch: Mapping[str, np.ndarray], *, prefix: Any = None) -> Sampled:
        assert batch["next"].shape == (1, self.n_obs_steps, 1)
        assert np.isfinite(batch["next"]).all()
        first = batch["next"][0, -1, 0] + self.shift * len(self.calls)
        given = [] if prefix is None else list(map(float, prefix[0, :, 0]))
        self.calls.append(dict(batch))
        self.prefixes.append(given)
        n = self.horizon - self.n_obs_steps + 1
        if given:
            actions = given + [given[-1] + 1 + k for k in range(n - len(given))]
        else:
            actions = [first + k for k in range(n)]
        chunk = np.zeros((1, self.horizon, 1), dtype=np.float32)
        chunk[0, self.n_obs_steps - 1 :, 0] = actions
        return Sampled(chunk)

    def predict_action_chunk(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        raise AssertionError("a policy with whole chunks is asked for these")


@dataclass
class Bench:
    """Runs a loop at 10 Hz on a simulated clock."""

    robot: Any = field(default_factory=Counter)
    policy: Any = field(default_factory=Continues)
    clock: SimulatedClock = field(default_factory=SimulatedClock)

    def run(
        self,
        ticks: int = 40,
        *,
        delay: float | Callable[[int], float] = 0.0,
        recorder: Recorder | None = None,
        record_obs: tuple[str, ...] = (),
        **options: Any,
    ) -> ControlResult:
        loop = ControlLoop(
            self.robot,
            self.policy,
            hz=10,
            options=ControlOptions(**options),
            clock=self.clock,
            inference=lambda predict: SimulatedInference(predict, self.clock, delay),
            recorder=recorder,
            record_obs=record_obs,
        )
        return loop.run(max_ticks=ticks)


@pytest.fixture
def bench() -> Bench:
    return Bench()
