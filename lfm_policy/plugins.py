"""All registries by kind, and which plugins a configuration needs.

What comes with the package is one list per kind, in the module named here; what lives elsewhere
is added to the same registries by plugins (see docs/extending.md).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pkgutil import resolve_name
from typing import Any

from lfm_policy.errors import InputError
from lfm_runtime.plugins import load_plugin, loaded_plugins
from lfm_runtime.registry import Registry

__all__ = ["REGISTRIES", "check_plugins", "load_plugin", "loaded_plugins", "needed_plugins"]

REGISTRIES = {
    "network": "lfm_policy.networks:NETWORKS",
    "encoder": "lfm_policy.encoders:ENCODERS",
    "image encoder": "lfm_policy.encoders:IMAGE_ENCODERS",
    "method": "lfm_policy.flow.choices:METHODS",
    "distillation method": "lfm_policy.distillation.methods:METHODS",
    "dataset format": "lfm_policy.data.formats:DATASET_FORMATS",
    "derivation": "lfm_policy.data.derived:DERIVATIONS",
    "environment": "lfm_envs.environments:ENVIRONMENTS",
    "expert": "lfm_policy.collect.experts:EXPERTS",
    "robot": "lfm_policy.control.robots:ROBOTS",
    "framework": "lfm_policy.importing.frameworks:FRAMEWORKS",
    "interpolant": "lfm_policy.flow.choices:INTERPOLANTS",
    "coupling": "lfm_policy.flow.choices:COUPLINGS",
    "solver": "lfm_policy.flow.choices:SOLVERS",
    "time sampler": "lfm_policy.flow.choices:TIME_SAMPLERS",
}
"""Kind -> where its registry is; they are imported when they are needed."""

CHOICES = {
    "dataset": ("dataset format", "derivation"),
    "encoder": ("encoder", "image encoder"),
    "network": ("network",),
    "flow": ("method", "interpolant", "coupling", "time sampler"),
    "sampler": ("solver",),
    "push_forward": ("solver",),
    "distill": ("distillation method", "network", "solver", "dataset format", "derivation"),
}
"""What the sections of a configuration choose by name. The environment is none of it: a policy
can be loaded without."""

Needed = dict[str, dict[str, list[str]]]
"""Plugin -> kind -> names."""


def registry(kind: str) -> Registry[Any]:
    """Return the registry of a kind.

    Raises:
        KeyError: there is no such kind.
    """
    found: Registry[Any] = resolve_name(REGISTRIES[kind])
    return found


def needed_plugins(options: Mapping[str, Any]) -> Needed:
    """Return what a configuration uses of plugins.

    Args:
        options: of an experiment, as plain values.
    """
    needed: Needed = {}
    for section, kinds in CHOICES.items():
        for kind in kinds:
            if REGISTRIES[kind].partition(":")[0] not in sys.modules:
                continue  # so nobody has added to it
            for name in dict.fromkeys(_texts(options.get(section))):
                if plugin := registry(kind).plugin_of(name):
                    names = needed.setdefault(plugin, {}).setdefault(kind, [])
                    if name not in names:
                        names.append(name)
    return needed


def check_plugins(needed: Any, label: str) -> None:
    """Check that what a configuration uses of plugins is there; nothing is loaded.

    Args:
        needed: what `needed_plugins` returned, from a file.
        label: what to call the file in messages.

    Raises:
        InputError: a plugin is not loaded; the message names it and how to load it.
    """
    if not isinstance(needed, dict) or not all(
        isinstance(kinds, dict)
        and all(isinstance(n, list) and all(isinstance(t, str) for t in n) for n in kinds.values())
        for kinds in needed.values()
    ):
        raise InputError(f"{label}: plugins: expected names by kind by plugin")
    for plugin, kinds in needed.items():
        missing = [
            f"{kind} '{name[:100]}'"
            for kind, names in kinds.items()
            for name in names
            if kind in REGISTRIES and name not in registry(kind)
        ]
        if missing:
            plugin = plugin[:200]
            raise InputError(
                f"{label}: needs the plugin '{plugin}' ({', '.join(missing[:8])}), which is not "
                f"loaded: if you trust that module, add --plugin {plugin} (or the path of its "
                f"file), or call lfm_policy.load_plugin('{plugin}') first"
            )


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts among plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
