"""Plugins: modules of other people, which add to the registries when they are imported.

A plugin is imported because somebody asked for it (``--plugin my_module``, `load_plugin`) or
because a package that is installed offers it in the entry-point group `ENTRY_POINTS`. Nothing
else imports one: a checkpoint only says which it needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from types import ModuleType

from lfm_runtime.errors import InputError
from lfm_runtime.user_modules import import_user_module, importable, working_folder

ENTRY_POINTS = "lfm_policy.plugins"
"""Group in which an installed package names its module: ``my_package = "my_package.plugin"``."""

INHERITED = "LFM_POLICY_PLUGINS"
"""Environment variable with which processes load the plugins of who started them: JSON, a list of
the folder (empty for installed ones) and the name of each module."""

_loaded: dict[str, ModuleType] = {}
_broken: list[str] = []
_looked_for_more = False
_loading: ContextVar[str] = ContextVar("loading", default="")


def load_plugin(name: str) -> ModuleType:
    """Import a plugin, which adds to the registries; once, however often it is asked for::

        load_plugin("reach.py")  # a file
        load_plugin("my_package.reach")  # a module

    Its folder stays on ``sys.path``, after everything else, and processes that are started from
    now on load the plugin when they need it.

    Args:
        name: of a module that is installed or lies in the working folder, such as ``my_module``
            or ``my_package.networks``; or the path of its file, such as ``folder/my_module.py``.

    Returns:
        The module.

    Raises:
        InputError: there is no such module, it raised an error, or it adds what is there already.
    """
    path = Path(name).expanduser()
    if path.suffix == ".py":
        if not path.is_file():
            raise InputError(f"plugin '{name[:1000]}': no such file")
        folder, module = str(path.resolve().parent), path.stem
    else:
        folder, module = working_folder(), name
    if not all(part.isidentifier() for part in module.split(".")):
        raise InputError(
            f"plugin '{name[:1000]}': expected the name of a module, such as my_module, or the "
            "path of its file, such as folder/my_module.py"
        )
    return _load(folder, module, path.resolve() if path.suffix == ".py" else None)


def loaded_plugins() -> tuple[str, ...]:
    """Return the names of the modules that are loaded as plugins, in the order of loading."""
    return tuple(_loaded)


def plugin_being_loaded() -> str:
    """Return the name of the plugin whose module is being imported; empty for none."""
    return _loading.get()


@contextmanager
def loading(plugin: str) -> Iterator[None]:
    """Count what is added to registries meanwhile as part of the plugin of this name."""
    token = _loading.set(plugin)
    try:
        yield
    finally:
        _loading.reset(token)


def load_more() -> None:
    """Load the plugins of who started this process, and those of installed packages; once.

    Called when a name is not known, so that nobody waits for what he does not use.

    Raises:
        InputError: one of who started this process cannot be loaded.
    """
    global _looked_for_more
    if _looked_for_more or _loading.get():
        return
    _looked_for_more = True
    for folder, module in _inherited():
        _load(folder, module)
    for point in metadata.entry_points(group=ENTRY_POINTS):
        try:
            _load("", point.module)
        except InputError as error:  # of a package that what is asked for may not need
            owner = f"{point.dist.name} {point.dist.version}" if point.dist else "a package"
            _broken.append(f"{error}; it belongs to {owner}, which is installed")


def broken_plugins() -> tuple[str, ...]:
    """Return what is wrong with plugins of installed packages that could not be loaded."""
    return tuple(_broken)


def _load(folder: str, module: str, file: Path | None = None) -> ModuleType:
    """Import a module, from a folder before anywhere else; it has to be that of the file."""
    if module in _loaded and file is None:
        return _loaded[module]
    with loading(module), importable(folder, stays=True):
        try:
            imported = import_user_module(module, folder)
        except InputError as error:
            raise InputError(f"plugin '{module}': {error}") from error
    found = imported.__file__
    if file is not None and (found is None or Path(found).resolve() != file):
        raise InputError(
            f"plugin '{file}': another module is called '{module}' already ({found}): rename it"
        )
    _loaded[module] = imported
    if [folder, module] not in (inherited := _inherited()):
        os.environ[INHERITED] = json.dumps([*inherited, [folder, module]])
    return imported


def _inherited() -> list[list[str]]:
    text = os.environ.get(INHERITED, "[]")
    try:
        return [[str(folder), str(module)] for folder, module in json.loads(text)]
    except (ValueError, TypeError):
        raise InputError(
            f"the environment variable {INHERITED} is {text[:200]!r}, expected what lfm-policy "
            "sets it to: unset it, and name plugins by --plugin"
        ) from None
