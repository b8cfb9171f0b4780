"""One environment by its id, what can go wrong with it, and whether a policy fits it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from lfm_policy.errors import EvaluationError, InputError
from lfm_runtime.policy.spec import DataSpec


def make_env(env_id: str, **options: Any) -> closing[Any]:
    """Return a context with an environment of `lfm_envs` or any other, closed at its end.

    Args:
        env_id: gymnasium id, such as ``lfm/PushT-v0``, or ``module:Name-v0``, whose module may lie
            in the working folder.
        **options: keyword arguments of the environment.

    Raises:
        InputError: it does not exist, its simulator is missing, or it cannot be created.
    """
    return closing(created(env_id, options))


def created(env_id: str, options: dict[str, Any]) -> Any:
    """Return an environment; see `make_env`."""
    import lfm_envs

    with environment_errors(env_id):
        return lfm_envs.make_named_env(env_id, lfm_envs.working_folder(), options)


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


def check_env_spaces(
    spec: DataSpec, observation_space: Any, action_space: Any, *, env_id: str
) -> None:
    """Check that an environment gives what a policy observes and takes its actions.

    Raises:
        InputError: an observation is missing or of another shape, or the action is.
    """
    import gymnasium as gym

    named = f"environment '{env_id}'"
    trained = ", ".join(f"{key} {tuple(shape)}" for key, shape in spec.obs_shapes.items())
    if not isinstance(observation_space, gym.spaces.Dict):
        raise InputError(
            f"{named} gives one observation without a name, {observation_space}; expected a "
            f"gymnasium.spaces.Dict with {trained}, which the policy was trained on: wrap it with "
            "gymnasium.wrappers.TransformObservation, such as TransformObservation(env, lambda "
            f"obs: {{'{next(iter(spec.obs_shapes), 'state')}': obs}}, space)"
        )
    for key, shape in spec.obs_shapes.items():
        if key not in observation_space.spaces:
            raise InputError(
                f"{named} gives no observation '{key}': it gives "
                f"{', '.join(observation_space.spaces)}; the policy was trained on "
                f"{', '.join(spec.obs_shapes)}"
            )
        found = observation_space[key].shape
        if found is None:
            raise InputError(
                f"{named}: observation '{key}' is {observation_space[key]}; expected a "
                f"gymnasium.spaces.Box of shape {tuple(shape)}"
            )
        if tuple(found) != tuple(shape):
            raise InputError(
                f"{named}: observation '{key}' has shape {found}, the policy was trained on "
                f"{tuple(shape)}"
            )
    if not isinstance(action_space, gym.spaces.Box):
        raise InputError(
            f"{named} takes actions of {action_space}; expected a gymnasium.spaces.Box of shape "
            f"({spec.action_dim},), which the policy gives"
        )
    if action_space.shape != (spec.action_dim,):
        raise InputError(
            f"{named} takes actions of shape {action_space.shape}, the policy gives "
            f"({spec.action_dim},)"
        )
