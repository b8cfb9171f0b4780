"""What a dataset holds, one file for each format."""

from __future__ import annotations

from pathlib import Path

from lfm_policy.data.tools.detect import detect_format
from lfm_policy.inspection.contents import Contents
from lfm_policy.inspection.formats.lerobot import LeRobotContents
from lfm_policy.inspection.formats.robomimic import RobomimicContents
from lfm_policy.inspection.formats.zarr import ZarrContents

__all__ = ["LeRobotContents", "RobomimicContents", "ZarrContents", "open_dataset"]

_CONTENTS: dict[str, type[Contents]] = {
    kind.format: kind for kind in (ZarrContents, RobomimicContents, LeRobotContents)
}


def open_dataset(path: Path) -> Contents:
    """Return what a dataset holds, whatever its format.

    Raises:
        InputError: no dataset of a known format, or its metadata are damaged.
    """
    return _CONTENTS[detect_format(path)](path)
