"""What an environment says of a step: its reward, whether the task is solved, how far it is."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat, cast

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from .errors import MissingSimulatorError

SUCCESS_KEYS = ("success", "is_success")
"""Where information says whether the task is solved; the first that says something counts."""

FAULT_KEY = "fault"
"""Where `PlainOutcome` says what is wrong with a step."""


_RESET = ("observation", "info")
_STEP = ("observation", "reward", "terminated", "truncated", "info")


class OutcomeError(ValueError):
    """An environment gave something that cannot be counted; the message says what."""


@dataclass(frozen=True)
class StepOutcome:
    """What counts of a step.

    Attributes:
        reward: a finite number.
        success: whether the task is solved; None where the environment does not say.
        coverage: share of a goal that is reached; None where there is no such thing.
    """

    reward: float
    success: bool | None
    coverage: float | None

    @classmethod
    def of(cls, reward: Any, info: Any) -> StepOutcome:
        """Read what ``step`` returned.

        Raises:
            OutcomeError: the reward or the coverage is no finite number, the success is neither
                true nor false, or the information is no dictionary.
        """
        number = _number(reward)
        if number is None or not math.isfinite(number):
            raise OutcomeError(f"the reward is {reward!r:.80}, expected a finite number")
        information = _dictionary(info)
        coverage = _number(information.get("coverage"))
        if coverage is not None and not math.isfinite(coverage):
            raise OutcomeError(f"info['coverage'] is {coverage}, expected a finite number")
        return cls(number, success_of(information), coverage)


def success_of(info: Any) -> bool | None:
    """Return whether information says that the task is solved; None where it does not say.

    It is said by ``success`` or ``is_success``: a truth value or a number, also as an array of one
    element, or as robomimic's ``{"task": ...}``. What an environment that starts anew by itself
    keeps in ``final_info`` counts before what it says of the new episode.

    Raises:
        OutcomeError: the success is neither true nor false, or the information is no dictionary.
    """
    information = _dictionary(info)
    final = information.get("final_info")
    for source in (final, information) if isinstance(final, Mapping) else (information,):
        for key in SUCCESS_KEYS:
            value = source.get(key)
            if isinstance(value, Mapping):
                value = value.get("task")
            if value is None:
                continue
            number = _number(value)
            if number is None or math.isnan(number):
                raise OutcomeError(f"info['{key}'] is {value!r:.80}, expected true or false")
            return number != 0
    return None


class PlainOutcome(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Reduces what an environment says to plain numbers that can be batched and sent anywhere.

    The reward is a finite float. Information holds ``success`` (bool) and ``coverage`` (float)
    where the environment says them, and nothing else. What cannot be counted, and what the
    environment raises, is named under ``fault``, with reward 0: whoever knows the episode and the
    step makes an error of it.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap ``env``."""
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the base class."""
        returned, fault = self._call("reset", _RESET, seed=seed, options=options)
        if fault:
            return returned[0], {FAULT_KEY: fault}
        obs, info = returned
        return obs, _plain(0.0, info)[1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment; see the base class."""
        returned, fault = self._call("step", _STEP, action)
        if fault:
            return returned[0], 0.0, False, False, {FAULT_KEY: fault}
        obs, reward, terminated, truncated, info = returned
        number, information = _plain(reward, info)
        return obs, number, bool(terminated), bool(truncated), information

    def _call(
        self, name: str, values: Sequence[str], *arguments: Any, **options: Any
    ) -> tuple[Any, str]:
        """Return what a method of the environment returned, and what is wrong with it, if anything.

        Where something is, the first value is some observation of the right shape.
        """
        expected = f"expected {len(values)}: {', '.join(values)}"
        try:
            returned = getattr(self.env, name)(*arguments, **options)
        except MissingSimulatorError:  # of drawing, which only starts now; it says what to install
            raise
        except Exception as error:
            fault = f"{name}() raised {type(error).__name__}: {error}{_place_of(error)}"
            if "to unpack" in str(error):  # by a wrapper of gymnasium's
                fault += f"; of the values that {name}() returns, {expected}"
            return (self.observation_space.sample(),), fault
        several = isinstance(returned, (tuple, list))
        if not several or len(returned) != len(values):
            found = f"{len(returned)} values" if several else f"a {type(returned).__name__}"
            return (self.observation_space.sample(),), f"{name}() returned {found}, {expected}"
        return tuple(returned), ""


def _place_of(error: Exception) -> str:
    """Return the file and the line that raised an error, as the end of a message."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _plain(reward: Any, info: Any) -> tuple[float, dict[str, Any]]:
    try:
        outcome = StepOutcome.of(reward, info)
    except OutcomeError as error:
        return 0.0, {FAULT_KEY: str(error)}
    said = {"success": outcome.success, "coverage": outcome.coverage}
    return outcome.reward, {key: value for key, value in said.items() if value is not None}


def _dictionary(info: Any) -> Mapping[str, Any]:
    if info is None:
        return {}
    if not isinstance(info, Mapping):
        raise OutcomeError(f"the information is {info!r:.80}, expected a dictionary")
    return info


def _number(value: Any) -> float | None:
    """Return a number, also one that is in an array of one element; None for anything else."""
    if isinstance(value, str | bytes):  # which float() would parse
        return None
    try:
        item = value.item() if hasattr(value, "item") else value
        return None if isinstance(item, str | bytes) else float(cast(SupportsFloat, item))
    except (TypeError, ValueError, RuntimeError, OverflowError):  # torch raises RuntimeError
        return None
