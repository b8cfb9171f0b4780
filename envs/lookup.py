"""Environments of modules that users name: ``module:Name-v0``."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym

from lfm_runtime.errors import InputError
from lfm_runtime.plugins import load_more
from lfm_runtime.user_modules import import_user_module, importable, looked_in, where

from .errors import EnvArgsError, EnvLookupError, MissingSimulatorError


def make_named_env(env_id: str, folder: str, options: dict[str, Any]) -> gym.Env[Any, Any]:
    """Create an environment by its gymnasium id, whose module may lie in a folder.

    The folder is looked in first, as Python does for a script in it, and only while the
    environment is imported and created.

    Args:
        env_id: such as ``lfm/PushT-v0``; or ``module:Name-v0``, where importing the module
            registers the environment.
        folder: see `lfm_runtime.user_modules.working_folder`.
        options: keyword arguments of the environment.

    Raises:
        MissingSimulatorError: its simulator is not installed.
        EnvArgsError: its description does not fit its simulator.
        EnvLookupError: there is no such module or environment, or it raised an error.
    """
    module, separator, name = env_id.partition(":")
    if separator and (not module or not name or ":" in name or "/" in module):
        raise EnvLookupError("expected an id such as lfm/PushT-v0, or module:Name-v0")
    module = module if separator else ""
    with importable(folder):
        try:
            if module:
                import_user_module(module, folder)
            elif env_id not in gym.registry:
                load_more()  # it may be one of a plugin
            return gym.make(env_id, disable_env_checker=True, **options)
        except (MissingSimulatorError, EnvArgsError, EnvLookupError, OSError, MemoryError):
            raise
        except InputError as error:
            raise EnvLookupError(str(error)) from error
        except gym.error.Error as error:
            raise EnvLookupError(f"{error}{_registered(module)}") from None
        except ImportError as error:
            raise EnvLookupError(f"{error}{looked_in(folder)}") from None
        except Exception as error:
            raise EnvLookupError(f"{where(error)}") from error


def _registered(module: str) -> str:
    """Return what a module has registered, for the message that something else was asked for."""
    if not module:
        return (
            "; one of your own is named as module:Name-v0, with module.py in the working folder, "
            "which registers it"
        )
    own = []
    for name, spec in gym.registry.items():
        place = str(getattr(spec.entry_point, "__module__", spec.entry_point)).split(":")[0]
        if f"{place}.".startswith(f"{module}."):
            own.append(name)
    file = getattr(sys.modules.get(module), "__file__", None)
    return f"; module '{module}' ({file}) registers {', '.join(sorted(own)) or 'no environment'}"
