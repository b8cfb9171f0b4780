"""Environments of modules that users name: ``module:Name-v0``."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import (
    EnvSpec,
    find_highest_version,
    get_env_id,
    parse_env_id,
)

from lfm_runtime.errors import InputError
from lfm_runtime.plugins import load_more
from lfm_runtime.user_modules import import_user_module, importable, looked_in, where

from .errors import EnvArgsError, EnvLookupError, MissingSimulatorError, ObservationError
from .reading import AS_GIVEN, Reading


def make_named_env(
    env_id: str, folder: str, options: dict[str, Any], reading: Reading = AS_GIVEN
) -> gym.Env[Any, Any]:
    """Create an environment by its gymnasium id, whose module may lie in a folder.

    The folder is looked in first, as Python does for a script in it, and only while the
    environment is imported and created.

    Args:
        env_id: such as ``lfm/PushT-v0``; or ``module:Name-v0``, where importing the module
            registers the environment.
        folder: see `lfm_runtime.user_modules.working_folder`.
        options: keyword arguments of the environment.
        reading: names for its observations, and what says success.

    Raises:
        MissingSimulatorError: its simulator is not installed.
        EnvArgsError: its description does not fit its simulator.
        EnvLookupError: there is no such module or environment, it raised an error, or it has no
            observations that can be named so.
    """
    module, name = _split(env_id)
    with importable(folder):
        try:
            _register(module, name, folder)
            return reading.of(gym.make(name, disable_env_checker=True, **options))
        except (MissingSimulatorError, EnvArgsError, EnvLookupError, OSError, MemoryError):
            raise
        except ObservationError as error:
            raise EnvLookupError(f"env.observations: {error}") from None
        except InputError as error:
            raise EnvLookupError(str(error)) from error
        except gym.error.Error as error:
            raise EnvLookupError(str(error)) from None
        except ImportError as error:
            raise EnvLookupError(f"{error}{looked_in(folder)}") from None
        except Exception as error:
            raise EnvLookupError(f"{where(error)}") from error


def registered_steps(env_id: str, folder: str) -> int | None:
    """Return after how many steps an episode is truncated, as an environment was registered.

    Args:
        env_id: see `make_named_env`; its module is imported.
        folder: where that is looked for, too.

    Returns:
        None where it was registered without a limit.

    Raises:
        EnvLookupError: there is no such module or environment.
    """
    module, name = _split(env_id)
    with importable(folder):
        try:
            return _register(module, name, folder).max_episode_steps
        except InputError as error:
            raise EnvLookupError(str(error)) from error


def _split(env_id: str) -> tuple[str, str]:
    """Return module, or nothing, and name of an id."""
    module, separator, name = env_id.rpartition(":")
    if not name or (separator and not module) or ":" in module or "/" in module:
        raise EnvLookupError("expected an id such as lfm/PushT-v0, or module:Name-v0")
    return module, name


def _register(module: str, name: str, folder: str) -> EnvSpec:
    """Let the module, or a plugin, register an environment, and return its registration."""
    if module:
        import_user_module(module, folder)
    elif name not in gym.registry:
        load_more()  # it may be one of a plugin
    try:
        namespace, plain, version = parse_env_id(name)
        if version is None:  # gymnasium takes the newest
            newest = get_env_id(namespace, plain, find_highest_version(namespace, plain))
            return gym.registry[newest]
        return gym.registry[name]
    except (gym.error.Error, KeyError):
        pass  # said in other words below
    if not module:
        raise EnvLookupError(
            f"no environment '{name}' is registered: {_nearest(name, list(gym.registry))}; one of "
            "your own is named as module:Name-v0, with module.py in the working folder, which "
            "registers it"
        )
    own = []
    for known, spec in gym.registry.items():
        place = str(getattr(spec.entry_point, "__module__", spec.entry_point)).split(":")[0]
        if f"{place}.".startswith(f"{module}."):
            own.append(known)
    file = getattr(sys.modules.get(module), "__file__", None)
    hint = f": {_nearest(name, own)}" if own else ""
    raise EnvLookupError(
        f"no environment '{name}' is registered; module '{module}' ({file}) registers "
        f"{', '.join(sorted(own)) or 'no environment'}{hint}"
    )


def _nearest(name: str, known: list[str]) -> str:
    """Return a hint at the names most like one, with or without what stands before a slash."""
    short: dict[str, list[str]] = {}
    for one in known:
        short.setdefault(one.rpartition("/")[2], []).append(one)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    for like in difflib.get_close_matches(name.rpartition("/")[2], list(short), n=3, cutoff=0.8):
        close += [one for one in short[like] if one not in close]
    if not close:
        return "there is none like it"
    return f"did you mean {' or '.join(map(repr, close[:3]))}?"
