"""Which dataset format a path holds."""

from __future__ import annotations

from pathlib import Path

from lfm_policy.errors import InputError
from lfm_runtime.disk.files import exists, is_file

LEROBOT_INFO = Path("meta") / "info.json"
"""The file of every LeRobot dataset that says what is in it."""

LEROBOT_V1_INFO = Path("meta_data") / "info.json"
"""The same in version 1, which is not read: the message says what converts it."""

_HDF5_SUFFIXES = (".hdf5", ".h5")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

RECOGNISED = (
    "expected a zarr replay buffer (a folder, or a file that ends in .zip), a robomimic file "
    f"(.hdf5 or .h5) or a LeRobot dataset (a folder with {LEROBOT_INFO.as_posix()})"
)
"""What messages say of the formats."""


def detect_format(path: str | Path) -> str:
    """Return the dataset format of a file or folder, from its name and its first bytes alone.

    Nothing is checked beyond that: a damaged dataset is recognised, and reading it says what is
    wrong.

    Args:
        path: file or folder of a dataset.

    Returns:
        ``"zarr"``, ``"robomimic"`` or ``"lerobot"``: names of `lfm_policy.data.DATASET_FORMATS`.

    Raises:
        InputError: nothing is there, or nothing that is recognised.
    """
    path = Path(path).expanduser()
    shown = str(path)[:1000]
    if not exists(path):
        raise InputError(f"{shown}: no such file or folder; {RECOGNISED}")
    if path.is_dir():
        if is_file(path / LEROBOT_INFO) or is_file(path / LEROBOT_V1_INFO):
            return "lerobot"
        if path.suffix == ".zarr" or _holds_zarr_arrays(path):
            return "zarr"
        inside = sorted(p.name for p in path.iterdir() if p.suffix.lower() in _HDF5_SUFFIXES)
        hint = (
            f". It holds {len(inside)} HDF5 files, such as {inside[0]:.100}: name one of them, as "
            "a robomimic file holds all its demos"
            if inside
            else ""
        )
        raise InputError(
            f"{shown}: not a zarr store and no other known dataset; {RECOGNISED}{hint}"
        )
    if path.suffix.lower() in _HDF5_SUFFIXES or _starts_with(path, _HDF5_SIGNATURE):
        return "robomimic"
    if path.suffix.lower() == ".zip" or _starts_with(path, b"PK"):
        return "zarr"
    raise InputError(f"{shown}: not a dataset of a known format; {RECOGNISED}")


def _holds_zarr_arrays(folder: Path) -> bool:
    # here and not above: the other formats have no use for zarr
    from lfm_policy.data.zarr.files import open_zarr_files

    return bool(open_zarr_files(folder).array_names())


def _starts_with(path: Path, signature: bytes) -> bool:
    if not is_file(path):  # a pipe would wait for ever
        return False
    with path.open("rb") as file:
        return file.read(len(signature)) == signature
