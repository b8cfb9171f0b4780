"""The environments of an evaluation: how many, and where they run."""

from __future__ import annotations

from typing import Any

from lfm_policy.environments import environment_errors
from lfm_policy.errors import InputError
from lfm_policy.machine import usable_cpus

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
        num_envs = max(usable_cpus(), ENVS_AS_PROCESSES) if processes else ENVS_IN_ONE_PROCESS
    return num_envs, processes


def make_environments(
    env_id: str,
    number: int,
    *,
    processes: bool,
    max_episode_steps: int,
    options: dict[str, Any],
    render_size: int | None,
    module_folder: str | None,
    reading: Any = None,
) -> Any:
    """Create a vector environment; see `lfm_envs.make_vector_env` and `rollout`.

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

    chosen = options | {"max_episode_steps": max_episode_steps}
    if render_size is not None:
        chosen |= {"render_mode": "rgb_array"}
        own = lfm_envs.declared(env_id)
        if own is not None and own.takes_render_size:  # others draw in the size that they have
            chosen |= {"render_size": render_size}
    with environment_errors(env_id, options):
        return lfm_envs.make_vector_env(
            env_id,
            number,
            processes=processes,
            module_folder=module_folder,
            reading=reading or lfm_envs.AS_GIVEN,
            **chosen,
        )
