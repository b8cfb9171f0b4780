"""How an environment is to be read: names for its observations, and what says success."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from .errors import ObservationError
from .outcome import FAULT_KEY

ALL = "all"
"""The part that is the whole of an observation without names."""

SUCCESS_FROM = ("info", "terminated")
"""What may say success: ``info["success"]`` or ``info["is_success"]``; or that an episode ends."""


@dataclass(frozen=True)
class Reading:
    """Names for parts of the observations of an environment, and what says success.

    Attributes:
        observations: name -> part; empty: the environment gives observations by name. A part is
            ``"all"``, ``[start, stop]`` of an array, or the name of an observation, its path
            ``"pixels/top"`` in nested ones, or ``[name, start, stop]``.
        success: one of `SUCCESS_FROM`. With ``"terminated"`` an episode succeeds when it ends
            before its time is over, whatever its information says.
    """

    observations: Mapping[str, Any] = field(default_factory=dict)
    success: str = "info"

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            ObservationError: a part is nothing of the kind.
            ValueError: success is said by nothing of the kind.
        """
        for name, part in self.observations.items():
            _parsed(name, part)
        if self.success not in SUCCESS_FROM:
            raise ValueError(
                f"success is {self.success!r}, expected {' or '.join(map(repr, SUCCESS_FROM))}"
            )

    def of(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return an environment as it is to be read; itself where nothing changes.

        Raises:
            ObservationError: it has no such parts; the message lists what it has.
        """
        if self.observations:
            env = NamedObservations(env, self.observations)
        if self.success == "terminated":
            env = SuccessWhenTerminated(env)
        return env


AS_GIVEN: Final = Reading()
"""Observations by the names that the environment gives them; success as it says it."""


class NamedObservations(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Observations by name, made of parts of those of an environment; see `Reading`."""

    def __init__(self, env: gym.Env[Any, Any], observations: Mapping[str, Any]) -> None:
        """Wrap ``env``.

        Raises:
            ObservationError: it has no such part.
        """
        RecordConstructorArgs.__init__(self, observations=observations)
        gym.ObservationWrapper.__init__(self, env)
        self._parts: dict[str, tuple[tuple[str, ...], slice | None]] = {}
        named = {}
        for name, given in observations.items():
            part = _parsed(name, given)
            keys, named[name] = _found(name, part, env.observation_space)
            self._parts[name] = keys, part.elements
        self.observation_space = spaces.Dict(named)

    def observation(self, observation: Any) -> dict[str, Any]:
        """Return the parts by name; what is not there is left out."""
        found = {name: (_at(observation, keys), s) for name, (keys, s) in self._parts.items()}
        return {
            name: value if elements is None else np.asarray(value)[elements]
            for name, (value, elements) in found.items()
            if value is not _MISSING
        }


class SuccessWhenTerminated(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Says ``info["success"]`` of every step: whether the episode has terminated."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap ``env``."""
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment; see the base class."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, {**(info or {}), "success": bool(terminated)}


class CheckedObservations(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Names observations that are not what the environment says that they are.

    An observation that is missing or has another shape cannot be put together with those of other
    environments. There is any other in its place, and what is wrong stands under ``fault`` of the
    information, as `PlainOutcome` says what is wrong with a step.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap ``env``."""
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._leaves = list(leaves(self.observation_space))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the base class."""
        obs, info = self.env.reset(seed=seed, options=options)
        fault = self._fault(obs)
        return (self.observation_space.sample(), {FAULT_KEY: fault}) if fault else (obs, info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment; see the base class."""
        obs, *rest, info = self.env.step(action)
        fault = self._fault(obs)
        if fault:
            obs, info = self.observation_space.sample(), {FAULT_KEY: fault}
        return obs, *rest, info

    def _fault(self, obs: Any) -> str:
        for keys, space in self._leaves:
            name, found = "/".join(keys), _at(obs, keys)
            if found is _MISSING:
                return f"there is no observation '{name}', which is in its observation_space"
            which = f"observation '{name}'" if name else "the observation"
            if space.shape is not None and np.shape(found) != space.shape:
                return f"{which} has shape {np.shape(found)}, its observation_space {space.shape}"
            dtype = np.asarray(found).dtype
            if isinstance(space, spaces.Box) and not np.can_cast(dtype, space.dtype, "same_kind"):
                return f"{which} is {dtype}, its observation_space {space.dtype}"
        return ""


def leaves(
    space: spaces.Space[Any], keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], spaces.Space[Any]]]:
    """Yield what is no dictionary in a space, by its names; () for that of one without names."""
    if isinstance(space, spaces.Dict):
        for name, inner in space.spaces.items():
            yield from leaves(inner, (*keys, name))
    else:
        yield keys, space


_MISSING = object()


@dataclass(frozen=True)
class _Part:
    """The path of a leaf, empty for an observation without names, and which of its elements."""

    path: str
    elements: slice | None = None


def _parsed(name: str, part: Any) -> _Part:
    if isinstance(part, str) and part:
        return _Part("" if part == ALL else part)
    if isinstance(part, Sequence) and not isinstance(part, str) and len(part) in (2, 3):
        path, (start, stop) = part[:-2], part[-2:]
        numbers = all(isinstance(end, int) and not isinstance(end, bool) for end in (start, stop))
        if numbers and 0 <= start < stop and all(isinstance(p, str) and p for p in path):
            return _Part("".join(path), slice(start, stop))
    raise ObservationError(
        f"observation '{name}' is {part!r:.100}, expected [start, stop], such as [0, 3] for the "
        f"first three numbers, '{ALL}', the name of an observation of the environment, or [name, "
        "start, stop]"
    )


def _found(
    name: str, part: _Part, space: spaces.Space[Any]
) -> tuple[tuple[str, ...], spaces.Space[Any]]:
    """Return the names that lead to a part, and its space.

    Raises:
        ObservationError: there is no such part.
    """
    there = {"/".join(keys): (keys, leaf) for keys, leaf in leaves(space)}
    what = f"'{part.path}'" if part.path else "an observation without a name"
    if part.path not in there:
        given = ", ".join(
            f"{path or 'one without a name'} {x.shape}" for path, (_, x) in there.items()
        )
        raise ObservationError(
            f"observation '{name}' is to be {what}; the environment gives {given}"
        )
    keys, leaf = there[part.path]
    if part.elements is None:
        return keys, leaf
    if not isinstance(leaf, spaces.Box) or len(leaf.shape) != 1:
        raise ObservationError(
            f"observation '{name}' is to be elements of {what}, which is {leaf}; expected a "
            "gymnasium.spaces.Box of one dimension"
        )
    if part.elements.stop > leaf.shape[0]:
        raise ObservationError(
            f"observation '{name}' is to be elements {part.elements.start} to "
            f"{part.elements.stop - 1} of {what}, which has {leaf.shape[0]}"
        )
    low, high = leaf.low[part.elements], leaf.high[part.elements]
    return keys, spaces.Box(low, high, dtype=leaf.dtype.type)


def _at(observation: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if not isinstance(observation, Mapping) or key not in observation:
            return _MISSING
        observation = observation[key]
    return observation
