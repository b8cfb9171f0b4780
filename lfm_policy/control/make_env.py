"""One environment by its gymnasium id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def make_env(env_id: str, **options: Any) -> Iterator[Any]:
    """Yield an environment of `lfm_envs` or any other, and close it.

    Args:
        env_id: gymnasium id, such as ``lfm/PushT-v0``, or ``module:Name-v0``, whose module may lie
            in the working folder.
        **options: keyword arguments of the environment.

    Raises:
        InputError: it does not exist, its simulator is missing, or it cannot be created.
    """
    import lfm_envs

    from lfm_policy.evaluation.environments import environment_errors

    with environment_errors(env_id):
        env = lfm_envs.make_named_env(env_id, lfm_envs.working_folder(), options)
    try:
        yield env
    finally:
        env.close()
