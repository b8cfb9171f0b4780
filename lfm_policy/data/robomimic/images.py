"""Camera images of robomimic files, read demo by demo when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lfm_policy.data.images.cache import CachedImages
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
    if layout.frame_shape[2] == 4:
        with RobomimicFile(path) as file:
            layout = layout.with_alpha_of(next(file.parts(demos[0], name)))
    status = path.stat()
    facts = {
        "format": "robomimic",
        "file": str(path.resolve()),
        "size": status.st_size,
        "mtime": status.st_mtime_ns,
        "array": name,
        "demos": list(demos),
    }
    if not layout.is_plain:
        facts["axes"] = layout.axes
    return CachedImages(
        f"{path}: {name}",
        facts,
        n_frames,
        layout.frame_shape,
        _image_parts(path, name, demos, layout),
        layout.remark(name.removeprefix("obs/")),
    )


def _image_parts(
    path: Path, name: str, demos: Sequence[str], layout: ImageLayout
) -> Iterator[np.ndarray]:
    """Yield the images in parts; the file is not opened before the first is asked for."""
    with RobomimicFile(path) as file:
        for demo in demos:
            source = f"{path}: {demo}: {name}"
            yield from (layout.checked_frames(part, source) for part in file.parts(demo, name))
