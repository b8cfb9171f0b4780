"""Which dataset format a path holds."""

from __future__ import annotations

import shlex
from pathlib import Path

from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.download.locations import where_to_get
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.lerobot.files import HUB_ID, INFO
from lfm_policy.data.tools.contents import Contents
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import exists
from lfm_runtime.plugins import load_more

_SEVERAL = "several"
_HDF5_SUFFIXES = (".hdf5", ".h5")
_FOREIGN_SUFFIXES = (".pth", ".pt", ".ckpt")


def detect_format(path: str | Path) -> str:
    """Return the dataset format of a file or folder, from its name and its first bytes alone.

    Nothing is checked beyond that: a damaged dataset is recognised, and reading it says what is
    wrong. What plugins added is asked first.

    Args:
        path: file or folder of a dataset.

    Returns:
        ``"zarr"``, ``"robomimic"``, ``"lerobot"`` or another name of `DATASET_FORMATS`.

    Raises:
        InputError: nothing is there, or nothing that is recognised.
    """
    path = Path(path).expanduser()
    shown = str(path)[:1000]
    if not exists(path):
        advice = where_to_get(path) or _on_the_hub(shown)
        raise InputError(f"{shown}: no such file or folder; {_recognised()}{advice}")
    name = _detected(path)
    if not name:
        load_more()
        name = _detected(path)
    # What torch writes is a ZIP archive, as zarr stores may be.
    if name in ("", "zarr") and path.suffix.lower() in _FOREIGN_SUFFIXES:
        raise InputError(
            f"{shown}: not a dataset, but as a checkpoint of another framework is called: "
            f"'lfm-policy import {shown} my_policy' makes one of this package of it"
        )
    if name:
        return name
    if not path.is_dir():
        raise InputError(f"{shown}: not a dataset of a known format; {_recognised()}")
    inside = sorted(p.name for p in path.iterdir() if _looks_like_one(p))
    hint = (
        f". It holds {len(inside)} {'datasets' if len(inside) > 1 else 'dataset'}, such as "
        f"{inside[0]:.100}: name one of them (a robomimic file holds all its demos); to learn from "
        "all of them together, set dataset.name=several"
        if inside
        else ""
    )
    raise InputError(f"{shown}: not a zarr store and no other known dataset; {_recognised()}{hint}")


def of_another_format(config: DatasetConfig) -> str:
    """Return what to do where a path holds a dataset of another format than configured; else ""."""
    given = str(getattr(config, "path", ""))
    path = Path(given).expanduser()
    known = type(config).__module__.startswith("lfm_policy.")  # others know what they read
    if not given or not known or config.name == _SEVERAL or not exists(path):
        return ""
    observed = ",".join(getattr(config, "obs_keys", ())) or "..."
    try:
        found = detect_format(path)
    except InputError:
        if not path.is_dir() or not any(map(_looks_like_one, path.iterdir())):
            return ""
        return (
            "; it is a folder of datasets: to learn from all of them together, give dataset.name="
            f"{_SEVERAL} {shlex.quote(f'dataset.each={{obs_keys: [{observed}]}}')}"
        )
    if isinstance(config, DATASET_FORMATS.get(found)):
        return ""
    return (
        f"; it looks like a dataset of the format {found}: give dataset.name={found} "
        f"{shlex.quote(f'dataset.obs_keys=[{observed}]')}, with the names that its observations "
        f"have, or let `lfm-policy init {shlex.quote(str(path))}` write a configuration for it"
    )


def sought_at(config: DatasetConfig) -> str:
    """Return where nothing was found, unless it was said whole, and what to do about it."""
    given = Path(str(getattr(config, "path", ""))).expanduser()
    if given.is_absolute():
        return "have they moved? give dataset.path=..."
    return f"tried {given.absolute()}: started in another folder? give dataset.path=..."


def open_dataset(path: Path, action_key: str = "") -> Contents:
    """Return what a dataset holds, whatever its format.

    Args:
        path: of the dataset.
        action_key: the array to imitate, where it is not the one that looks like it.

    Raises:
        InputError: no dataset of a known format, its metadata are damaged, or there is no such
            array.
    """
    return DATASET_FORMATS.get(detect_format(path)).contents(path, action_key)


def _detected(path: Path) -> str:
    for name, config_class in reversed(DATASET_FORMATS.items()):
        if config_class.detects(path):
            return name
    return ""


def _looks_like_one(path: Path) -> bool:
    return path.suffix.lower() in (*_HDF5_SUFFIXES, ".zarr") or (path / INFO).is_file()


def _on_the_hub(name: str) -> str:
    """Return what to do if a name is that of a dataset on the hub; "" if it cannot be one."""
    if not HUB_ID.fullmatch(name) or Path(name).parent.exists():
        return ""
    return (
        "; for a LeRobot dataset of this name on the Hugging Face hub: train with "
        f"dataset.name=lerobot, or look at it on disk: hf download {name} --repo-type dataset "
        "--local-dir my_data"
    )


def _recognised() -> str:
    classes: list[type[DatasetConfig]] = [entry for _, entry in DATASET_FORMATS.items()]
    *first, last = [entry.recognised_as for entry in classes if entry.recognised_as]
    return f"expected {', '.join(first)} or {last}"
