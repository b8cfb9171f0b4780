"""Camera images of robomimic files, read demo by demo when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lfm_policy.data.image_cache import CachedImages
from lfm_policy.data.robomimic_file import RobomimicFile


def robomimic_images(
    path: str | Path, name: str, demos: Sequence[str], n_frames: int, shape: tuple[int, ...]
) -> CachedImages:
    """Return the images of one camera, to be read demo by demo when they are needed.

    Args:
        path: the file.
        name: of the array inside a demo, ``obs/<key>``; uint8 (steps, height, width, channels).
        demos: whose images, in this order.
        n_frames: of all these demos together.
        shape: (height, width, channels).
    """
    height, width, channels = shape
    path = Path(path).expanduser()
    status = path.stat()
    facts = {
        "format": "robomimic",
        "file": str(path.resolve()),
        "size": status.st_size,
        "mtime": status.st_mtime_ns,
        "array": name,
        "demos": list(demos),
    }
    frames = _image_parts(path, name, demos)
    return CachedImages(f"{path}: {name}", facts, n_frames, (height, width, channels), frames)


def _image_parts(path: Path, name: str, demos: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield the images in parts; the file is not opened before the first is asked for."""
    with RobomimicFile(path) as file:
        for demo in demos:
            yield from file.parts(demo, name)
