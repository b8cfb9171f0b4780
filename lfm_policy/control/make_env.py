"""One environment by its gymnasium id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lfm_policy.errors import InputError


@contextmanager
def make_env(env_id: str, **options: Any) -> Iterator[Any]:
    """Yield an environment of `lfm_envs` or any other, and close it.

    Args:
        env_id: gymnasium id, such as ``lfm/PushT-v0``.
        **options: keyword arguments of the environment.

    Raises:
        InputError: it does not exist, or its simulator is missing.
    """
    import gymnasium as gym
    import lfm_envs

    try:
        env = gym.make(env_id, disable_env_checker=True, **options)
    except lfm_envs.MissingSimulatorError as error:
        raise InputError(str(error)) from None
    except gym.error.Error as error:
        raise InputError(f"environment '{env_id}' cannot be created: {error}") from None
    try:
        yield env
    finally:
        env.close()
