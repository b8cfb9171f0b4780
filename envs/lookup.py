"""Environments of modules that users name: ``module:Name-v0``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym

from lfm_runtime.plugins import load_more

from .errors import EnvArgsError, EnvLookupError, MissingSimulatorError


def working_folder() -> str:
    """Return where modules of environments are looked for; empty where there is no such folder."""
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def make_named_env(env_id: str, folder: str, options: dict[str, Any]) -> gym.Env[Any, Any]:
    """Create an environment by its gymnasium id, whose module may lie in a folder.

    The folder is looked in first, as Python does for a script in it, and only while the
    environment is imported and created.

    Args:
        env_id: such as ``lfm/PushT-v0``; or ``module:Name-v0``, where importing the module
            registers the environment.
        folder: see `working_folder`.
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
    with _importable(folder):
        try:
            if module:
                _import(module, folder)
            elif env_id not in gym.registry:
                load_more()  # it may be one of a plugin
            return gym.make(env_id, disable_env_checker=True, **options)
        except (MissingSimulatorError, EnvArgsError, EnvLookupError, OSError, MemoryError):
            raise
        except gym.error.Error as error:
            raise EnvLookupError(f"{error}{_registered(module)}") from None
        except ImportError as error:
            raise EnvLookupError(f"{error}{_looked_in(folder)}") from None
        except Exception as error:
            raise EnvLookupError(f"{_where(error)}") from error


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    if not folder or folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # the module may have done something of its own
            sys.path.remove(folder)


def _import(module: str, folder: str) -> None:
    """Import a module, so that it registers its environments.

    Raises:
        EnvLookupError: it is not there, or raised an error.
    """
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        # A module that is there may lack another one.
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise EnvLookupError(f"no module named '{module}'{_looked_in(folder)}") from None
        raise EnvLookupError(f"module '{module}' cannot be imported: {_where(error)}") from error


def _looked_in(folder: str) -> str:
    return f"; looked in {folder or 'no working folder'} and where Python finds packages"


def _registered(module: str) -> str:
    """Return what a module has registered, for the message that something else was asked for."""
    if not module:
        return (
            "; one of your own is named as module:Name-v0, with module.py in the working folder, "
            "which registers it"
        )
    imported = sys.modules.get(module)
    file = getattr(imported, "__file__", None)
    own = sorted(
        name
        for name, spec in gym.registry.items()
        if f"{_module_of(spec.entry_point)}.".startswith(f"{module}.")
    )
    return f"; module '{module}' ({file}) registers {', '.join(own) or 'no environment'}"


def _module_of(entry_point: Any) -> str:
    return str(getattr(entry_point, "__module__", entry_point)).split(":")[0]


def _where(error: BaseException) -> str:
    """Return an error in one line, with the line of code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text
