"""Modules that users name, which may lie in the working folder: plugins and environments."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from lfm_runtime.errors import InputError


def working_folder() -> str:
    """Return where modules of users are looked for; empty where there is no such folder."""
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


@contextmanager
def importable(folder: str, *, stays: bool = False) -> Iterator[None]:
    """Look for modules in a folder first, as Python does for a script in it.

    Args:
        folder: empty for none.
        stays: whether it stays on ``sys.path`` afterwards, which processes that are started later
            inherit. It is the last one then: a file in it may be called as a module that others
            import.
    """
    if not folder or folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # the module may have done something of its own
            sys.path.remove(folder)
        if stays:
            sys.path.append(folder)


def import_user_module(module: str, folder: str) -> ModuleType:
    """Import a module, while its folder is `importable`.

    Raises:
        InputError: it is not there, or raised an error; the message gives the line that did.
    """
    try:
        return importlib.import_module(module)
    except InputError:  # it says all
        raise
    except (Exception, SystemExit) as error:
        # A module that is there may lack another one.
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise InputError(f"no module named '{module}'{looked_in(folder)}") from None
        raise InputError(f"module '{module}' cannot be imported: {where(error)}") from error


def looked_in(folder: str) -> str:
    """Return where a module was looked for, to follow a message."""
    return f"; looked in {folder or 'no working folder'} and where Python finds packages"


def where(error: BaseException) -> str:
    """Return an error in one line, with the line of code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text
