"""One environment by its id, what can go wrong with it, and whether a policy fits it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from lfm_policy.config.schema import EnvConfig
from lfm_policy.errors import EvaluationError, InputError
from lfm_runtime.policy.observations import image_advice
from lfm_runtime.policy.spec import TASK_KEY, DataSpec

TASK_FIELD = "{task}"
"""In the id of an environment: the name of the task."""

DEFAULT_RATE = 10.0
"""Steps per second where an environment says none."""


def make_env(env_id: str, *, reading: Any = None, **options: Any) -> closing[Any]:
    """Return a context with an environment of `lfm_envs` or any other, closed at its end.

    Args:
        env_id: gymnasium id, such as ``lfm/PushT-v0``, or ``module:Name-v0``, whose module may lie
            in the working folder.
        reading: see `reading_of`; by default the environment is taken as it is.
        **options: keyword arguments of the environment.

    Raises:
        InputError: it does not exist, its simulator is missing, or it cannot be created.
    """
    return closing(created(env_id, options, reading))


def created(env_id: str, options: dict[str, Any], reading: Any = None) -> Any:
    """Return an environment; see `make_env`."""
    import lfm_envs

    with environment_errors(env_id):
        return lfm_envs.make_named_env(
            env_id, lfm_envs.working_folder(), options, reading or lfm_envs.AS_GIVEN
        )


def reading_of(env: EnvConfig) -> Any:
    """Return how an environment is read, as `lfm_envs.Reading`."""
    import lfm_envs

    return lfm_envs.Reading(dict(env.observations), env.success)


def chosen_environment(
    configured: EnvConfig,
    env_id: str | None = None,
    *,
    max_episode_steps: int | None = None,
    success: str | None = None,
    options: Mapping[str, Any] | None = None,
    observations: Mapping[str, Any] | None = None,
) -> EnvConfig:
    """Return the environment to act in: that of the policy, or another one, with changes.

    What is configured belongs to the environment that the policy was trained for; another one has
    the limit of steps that it was registered with. One of robosuite with other observations alone
    is described, and controlled, as that one is.

    Args:
        configured: of the policy.
        env_id: of another one; by default the configured one.
        max_episode_steps: another limit.
        success: another sign of success.
        options: more arguments of the environment.
        observations: more names of observations.

    Raises:
        InputError: the other environment does not exist.
    """
    base, steps = configured, max_episode_steps
    if env_id and env_id != configured.id:
        if steps is None:
            steps = registered_steps(env_id)
        base = EnvConfig(id=env_id, max_episode_steps=configured.max_episode_steps)
        if "env_args" in configured.options and _task_of(env_id) == _task_of(configured.id):
            described = {k: value for k, value in configured.options.items() if k != "cameras"}
            # Without them it has those that its name promises.
            drawn: dict[str, Any] = {} if "Image" in env_id else {"cameras": []}
            base = replace(base, options=described | drawn)
    return replace(
        base,
        max_episode_steps=steps or base.max_episode_steps,
        success=success or base.success,
        options=dict(base.options) | dict(options or {}),
        observations=dict(base.observations) | dict(observations or {}),
    )


def _task_of(env_id: str) -> str:
    """Return the id of an environment without what says that it has cameras."""
    return env_id.removesuffix("-v0").removesuffix("Image")


def registered_steps(env_id: str) -> int | None:
    """Return after how many steps an environment is truncated as it is registered.

    Of one for each task, any of them tells.

    Raises:
        InputError: it does not exist.
    """
    import gymnasium
    import lfm_envs

    if TASK_FIELD in env_id:
        before, after = env_id.rpartition(":")[2].split(TASK_FIELD, 1)
        of_tasks = (i for i in gymnasium.registry if i.startswith(before) and i.endswith(after))
        return next((gymnasium.spec(i).max_episode_steps for i in of_tasks), None)
    with environment_errors(env_id):
        return lfm_envs.registered_steps(env_id, lfm_envs.working_folder())


def steps_per_second(metadata: Mapping[str, Any]) -> float:
    """Return what an environment says of its rate, if that is a sensible number."""
    told = metadata.get("render_fps")
    if not isinstance(told, (int, float)) or not 0 < told < math.inf:
        return DEFAULT_RATE
    return float(told)


@contextmanager
def environment_errors(env_id: str, options: Iterable[str] = ()) -> Iterator[None]:
    """Make what goes wrong while an environment is created an error of the input.

    Args:
        env_id: gymnasium id, for messages.
        options: names of what ``env.options`` give it.

    Raises:
        InputError: there is no such environment, its simulator is missing, or it cannot be
            created.
        EvaluationError: its process died.
    """
    import lfm_envs

    try:
        yield
    except lfm_envs.MissingSimulatorError as error:
        raise InputError(str(error)) from None
    except lfm_envs.WorkerDiedError as error:
        raise EvaluationError(f"environment '{env_id}' could not be started: {error}") from None
    except (lfm_envs.EnvArgsError, lfm_envs.EnvLookupError) as error:
        given = f" with env.options {', '.join(options)}" if options else ""
        raise InputError(f"environment '{env_id}' cannot be created{given}: {error}") from None


class ActionRangeWarning(UserWarning):
    """Actions of the demonstrations lie beyond the bounds of the actions of an environment."""


def check_env_spaces(
    spec: DataSpec,
    observation_space: Any,
    action_space: Any,
    *,
    env_id: str,
    action_range: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Check that an environment gives what a policy observes and takes its actions.

    Warns with `ActionRangeWarning` where the actions of the demonstrations lie beyond the bounds
    of the environment, which may cut them off.

    Args:
        spec: of the policy.
        observation_space: of the environment.
        action_space: of the environment.
        env_id: for messages.
        action_range: smallest and largest actions of the demonstrations, (action_dim,) each.

    Raises:
        InputError: an observation is missing or of another shape, or the action is, or is in other
            units; the message is a table of all that is expected and found.
    """
    rows = [*_observation_rows(spec, observation_space), _action_row(spec, action_space)]
    if any(row.problem for row in rows):
        raise InputError(
            "\n".join(
                [
                    f"environment '{env_id}' does not fit the policy:",
                    *_table(rows),
                    *_advice(spec, observation_space),
                ]
            )
        )
    if action_range is not None:
        _check_range(*action_range, action_space, env_id)


@dataclass(frozen=True)
class _Row:
    """What is expected, what is found, and what is wrong with it, if anything is."""

    what: str
    expected: str
    found: str
    problem: str = ""


def _observation_rows(spec: DataSpec, space: Any) -> Iterator[_Row]:
    import gymnasium as gym

    given = dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {}
    for key, shape in spec.obs_shapes.items():
        row = partial(_Row, f"observation '{key}'", str(tuple(shape)))
        if key not in given:
            yield row("-", "not given")
        elif not isinstance(given[key], gym.spaces.Box):
            yield row(str(given[key]), "not an array: expected a gymnasium.spaces.Box")
        else:
            found = tuple(given[key].shape or ())
            height_width = tuple(shape)[:2]
            # Depth is taken with or without an axis of one channel.
            depth = [height_width, (1, *height_width)] if key in spec.depth else []
            same = found in (tuple(shape), *depth)
            yield row(str(found), "" if same else f"another shape{image_advice(found, shape)}")


def _action_row(spec: DataSpec, space: Any) -> _Row:
    import gymnasium as gym

    row = partial(_Row, "action", str((spec.action_dim,)))
    if not isinstance(space, gym.spaces.Box):
        return row(str(space), "not numbers: expected a gymnasium.spaces.Box")
    return row(str(space.shape), "" if space.shape == (spec.action_dim,) else "another size")


def _table(rows: list[_Row]) -> Iterator[str]:
    cells = [("", "policy", "environment", ""), *(astuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    for line in cells:
        aligned = "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=False))
        yield f"  {aligned}  {f'<- {line[3]}' if line[3] else ''}".rstrip()


def _advice(spec: DataSpec, space: Any) -> Iterator[str]:
    """Say what else there is, and how it is named."""
    import gymnasium as gym
    import lfm_envs

    there = {"/".join(keys): leaf for keys, leaf in lfm_envs.leaves(space)}
    missing = [key for key in spec.obs_shapes if key not in there]
    if TASK_KEY in missing and spec.tasks:
        yield (
            "it does not say which task is to be done, and the policy does several: name one "
            f"(--task), of {', '.join(spec.tasks)}"
        )
        missing.remove(TASK_KEY)
    if not missing:
        return
    more = [
        f"{path or 'one without a name'} {leaf.shape if isinstance(leaf, gym.spaces.Box) else leaf}"
        for path, leaf in there.items()
    ]
    yield f"it gives: {'; '.join(more) or 'nothing'}"
    example = {key: path for key in missing for path in there if path.split("/")[-1] == key}
    if "" in there:
        sizes = [math.prod(shape) for shape in spec.obs_shapes.values()]
        starts = list(accumulate(sizes, initial=0))
        fits = there[""].shape == (starts[-1],)
        parts = [f"[{start}, {end}]" for start, end in pairwise(starts if fits else [0, sizes[0]])]
        parts = ["all"] if fits and len(sizes) == 1 else parts
        example = dict(zip(spec.obs_shapes, parts, strict=False))
    example = example or {missing[0]: "NAME"}
    # Once one is named, so are all that the policy sees.
    example |= {k: k for k in spec.obs_shapes if isinstance(there.get(k), gym.spaces.Box)}
    yield (
        "name its parts as the demonstrations do, such as env.observations={"
        + ", ".join(f"{key}: {part}" for key, part in example.items())
        + "} in the configuration, or --observation "
        + " --observation ".join(f"'{key}={part}'" for key, part in example.items())
    )


MUCH = 10.0
"""Ranges that differ by more are in other units: an angle in degrees is 57 times one in radians."""


def _check_range(low: np.ndarray, high: np.ndarray, space: Any, env_id: str) -> None:
    """Compare actions of demonstrations with the bounds of an environment, element by element.

    Raises:
        InputError: they are in other units.
    """
    width = (space.high - space.low).astype(np.float64)
    bounded = np.isfinite(width) & (width > 0)
    slack = np.where(bounded, 0.1 * width, np.inf)
    beyond = (low < space.low - slack) | (high > space.high + slack)
    apart = (high < space.low - slack) | (low > space.high + slack)
    other = bounded & (apart | (high - low > MUCH * np.where(bounded, width, np.inf)))

    def said(which: np.ndarray) -> str:
        numbers = [
            f"{i} from {low[i]:.4g} to {high[i]:.4g}, it takes {space.low[i]:.4g} to "
            f"{space.high[i]:.4g}"
            for i in np.flatnonzero(which)
        ]
        return "; ".join(numbers[:4]) + (" ..." if len(numbers) > 4 else "")

    begins = f"environment '{env_id}' takes other actions than the demonstrations have: elements "
    if other.any():
        raise InputError(
            f"{begins}{said(other)}: these are other units or another control; let the environment "
            "take what was recorded, or say its true bounds in action_space"
        )
    if (beyond & bounded).any():
        warnings.warn(
            f"{begins}{said(beyond & bounded)}: an environment that keeps to its bounds cuts them "
            "off",
            ActionRangeWarning,
            stacklevel=3,
        )
