"""The environments of an evaluation: how many, where they run, and whether a policy fits them."""

from __future__ import annotations

import os
from typing import Any

from lfm_policy.errors import InputError
from lfm_policy.evaluation.subject import EvaluatedPolicy

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
) -> Any:
    """Create a vector environment; see `lfm_envs.make_vector_env`.

    Args:
        env_id: gymnasium id.
        number: of environments.
        processes: one process for each.
        max_episode_steps: steps after which an episode is truncated.
        options: arguments of the environment.
        render_size: pixels of rendered frames; None: no rendering.

    Raises:
        InputError: there is no such environment, its simulator is missing, or an option does not
            fit.
    """
    if not env_id:
        raise InputError(
            "the checkpoint names no environment (env.id is empty); give one with --env, such as "
            "--env lfm/PushT-v0"
        )
    import gymnasium as gym
    import lfm_envs

    chosen = dict(options) | {"max_episode_steps": max_episode_steps}
    if render_size is not None:
        chosen |= {"render_mode": "rgb_array", "render_size": render_size}
    try:
        return lfm_envs.make_vector_env(env_id, number, processes=processes, **chosen)
    except lfm_envs.MissingSimulatorError as error:
        raise InputError(str(error)) from None
    except (gym.error.Error, lfm_envs.EnvArgsError) as error:
        raise InputError(f"environment '{env_id}' cannot be created: {error}") from None
    except (TypeError, ValueError) as error:
        if not options:
            raise
        raise InputError(
            f"environment '{env_id}' cannot be created with env.options "
            f"{', '.join(options)}: {error}"
        ) from None


def check_spaces(policy: EvaluatedPolicy, envs: Any, env_id: str) -> None:
    """Check that environments give what a policy observes and take its actions.

    Raises:
        InputError: an observation is missing or of another shape, or the action is.
    """
    spaces = envs.single_observation_space
    for key, shape in policy.spec.obs_shapes.items():
        if key not in spaces.spaces:
            raise InputError(
                f"environment '{env_id}' gives no observation '{key}': it gives "
                f"{', '.join(spaces.spaces)}; the policy was trained on "
                f"{', '.join(policy.spec.obs_shapes)}"
            )
        if tuple(spaces[key].shape) != tuple(shape):
            raise InputError(
                f"environment '{env_id}': observation '{key}' has shape {spaces[key].shape}, the "
                f"policy was trained on {tuple(shape)}"
            )
    action_shape = tuple(envs.single_action_space.shape)
    if action_shape != (policy.spec.action_dim,):
        raise InputError(
            f"environment '{env_id}' takes actions of shape {action_shape}, the policy gives "
            f"({policy.spec.action_dim},)"
        )


def _cpus() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
