"""Camera images of robomimic files, read demo by demo when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lfm_policy.data.images.cache import CachedImages, stored_images
from lfm_policy.data.images.layout import ImageLayout
from lfm_policy.data.robomimic.file import RobomimicFile


def robomimic_images(
    path: str | Path, name: str, demos: Sequence[str], n_frames: int, layout: ImageLayout
) -> CachedImages:
    """Return the images of one camera, to be read demo by demo when they are needed.

    Args:
        path: the file.
        name: of the array inside a demo, ``obs/<key>``; uint8 (steps, *layout.stored).
        demos: whose images, in this order.
        n_frames: of all these demos together.
        layout: how they are stored; whether a fourth channel is alpha, the first demo says.
    """
    path = Path(path).expanduser()

    def parts() -> Iterator[tuple[str, np.ndarray]]:
        with RobomimicFile(path) as file:
            for demo in demos:
                for part in file.parts(demo, name):
                    yield f"{path}: {demo}: {name}", part

    status = path.stat()
    facts = {
        "format": "robomimic",
        "file": str(path.resolve()),
        "size": status.st_size,
        "mtime": status.st_mtime_ns,
        "array": name,
        "demos": list(demos),
    }
    camera = name.removeprefix("obs/")
    return stored_images(f"{path}: {name}", camera, facts, n_frames, layout, parts)
