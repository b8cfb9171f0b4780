"""The environments of an evaluation: how many, where they run, and whether a policy fits them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lfm_policy.errors import EvaluationError, InputError
from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_policy.policy import DataSpec

ENVS_IN_ONE_PROCESS = 32
# More processes than CPUs make the batches of the policy larger, which is worth more than what they
# take from one another; each needs up to a gigabyte, which is why there are no more by default.
ENVS_AS_PROCESSES = 4


def choose_workers(
    env_id: str, num_envs: int | None = None, processes: bool | None = None
) -> tuple[int, bool]:
    """Return how many environments to run at a time, and whether in a process each.

    Args:
        env_id: gymnasium id.
        num_envs: as wished; by default as many processes as CPUs, at least 4, and else 32.
        processes: as wished; by default for slow simulators.
    """
    if processes is None:
        import lfm_envs

        processes = lfm_envs.prefers_processes(env_id)
    if num_envs is None:
        num_envs = max(_cpus(), ENVS_AS_PROCESSES) if processes else ENVS_IN_ONE_PROCESS
    return num_envs, processes


def make_environments(
    env_id: str,
    number: int,
    *,
    processes: bool,
    max_episode_steps: int,
    options: dict[str, Any],
    render_size: int | None,
    module_folder: str | None = None,
) -> Any:
    """Create a vector environment; see `lfm_envs.make_vector_env`.

    Args:
        env_id: gymnasium id.
        number: of environments.
        processes: one process for each.
        max_episode_steps: steps after which an episode is truncated.
        options: arguments of the environment.
        render_size: pixels of rendered frames; None: no rendering.
        module_folder: see `lfm_envs.make_vector_env`.

    Raises:
        InputError: there is no such environment, its simulator is missing, or an option does not
            fit.
    """
    if not env_id:
        raise InputError(
            "the checkpoint names no environment (env.id is empty); give one with --env, such as "
            "--env lfm/PushT-v0"
        )
    import lfm_envs

    chosen = dict(options) | {"max_episode_steps": max_episode_steps}
    if render_size is not None:
        chosen |= {"render_mode": "rgb_array"}
        own = lfm_envs.declared(env_id)
        if own is not None and own.takes_render_size:  # others draw in the size that they have
            chosen |= {"render_size": render_size}
    with environment_errors(env_id, options):
        return lfm_envs.make_vector_env(
            env_id, number, processes=processes, module_folder=module_folder, **chosen
        )


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


def check_spaces(policy: EvaluatedPolicy, envs: Any, env_id: str) -> None:
    """Check that environments give what a policy observes and take its actions.

    Raises:
        InputError: an observation is missing or of another shape, or the action is.
    """
    check_env_spaces(
        policy.spec, envs.single_observation_space, envs.single_action_space, env_id=env_id
    )


def check_env_spaces(
    spec: DataSpec, observation_space: Any, action_space: Any, *, env_id: str
) -> None:
    """Check spaces of gymnasium, whatever their kind; see `check_spaces`."""
    import gymnasium as gym

    named = f"environment '{env_id}'"
    trained = ", ".join(f"{key} {tuple(shape)}" for key, shape in spec.obs_shapes.items())
    if not isinstance(observation_space, gym.spaces.Dict):
        raise InputError(
            f"{named} gives one observation without a name, {observation_space}; expected a "
            f"gymnasium.spaces.Dict with {trained}, which the policy was trained on"
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


def _cpus() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
