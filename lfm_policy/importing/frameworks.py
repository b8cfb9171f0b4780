"""The frameworks whose policies can be imported, by name; a new one is one file and its line.

A plugin adds another, which `import` then recognises: see `Framework`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lfm_policy.errors import InputError
from lfm_runtime.disk.files import exists
from lfm_runtime.registry import Registry

if TYPE_CHECKING:
    from lfm_policy.importing.description import ForeignPolicy


class Framework(Protocol):
    """What a module that reads the files of a framework has."""

    def detects(self, path: Path) -> bool:
        """Whether a path is a policy of the framework, also one that is not supported."""

    def read(self, path: Path, *, ignored: Collection[str] = ()) -> ForeignPolicy:
        """Read it.

        Raises:
            InputError: it is not supported, incomplete or damaged.
        """


FRAMEWORKS: Registry[Framework] = Registry(
    "framework",
    {
        "lerobot": "lfm_policy.importing.lerobot.policy:LEROBOT",
        "diffusion_policy": "lfm_policy.importing.diffusion_policy:DIFFUSION_POLICY",
        "robomimic": "lfm_policy.importing.robomimic:ROBOMIMIC",
    },
)


WITHIN = ("pretrained_model", "*/pretrained_model", "checkpoints/*/pretrained_model")
"""Where LeRobot has the policy in the folder of a training."""


def read_foreign(
    path: Path, framework: str = "", *, ignored: Collection[str] = ()
) -> ForeignPolicy:
    """Read a policy of another framework.

    Args:
        path: its file or folder.
        framework: its name in `FRAMEWORKS`; by what is at ``path`` if empty.
        ignored: options of its configuration that are not known here and change nothing.

    Raises:
        InputError: nothing is there, it is of no known framework, or that framework's reader says
            what is not supported.
    """
    if not exists(path):
        raise InputError(f"{path}: there is nothing")
    names = [framework] if framework else FRAMEWORKS.names()
    for name in names:
        found = FRAMEWORKS.get(name)
        if framework or found.detects(path):
            return found.read(path, ignored=ignored)
    of_lerobot = FRAMEWORKS.get("lerobot").detects
    places = [path.parent] if path.is_file() else []
    places += [folder for pattern in WITHIN for folder in path.glob(pattern)]
    inside = next(filter(of_lerobot, places), None)
    raise InputError(
        f"{path}: is no policy that can be imported; supported: LeRobot (a folder pretrained_model "
        "with config.json and model.safetensors, or its name on the hub), Diffusion Policy (.ckpt) "
        "and robomimic (.pth)" + (f". Did you mean {inside}?" if inside else "")
    )
