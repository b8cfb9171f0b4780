"""Camera images as memory-mapped uint8 files: decoded and resized once, never all in memory."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from tqdm.auto import tqdm

from lfm_policy.data.images.depth import METRES, depth_parts, has_fractions
from lfm_policy.data.images.layout import ImageLayout
from lfm_policy.errors import InputError
from lfm_policy.machine import free_disk
from lfm_runtime.disk.files import atomic_folder, is_file, write_json
from lfm_runtime.disk.full import reserve
from lfm_runtime.disk.leftovers import only_writer

DEFAULT_CACHE = Path("runs") / "image-cache"
"""Where images are kept when nobody names a folder."""

FRAMES, FACTS = "frames.npy", "facts.json"
_VERSION = 1

FrameShape: TypeAlias = tuple[int, int, int]
"""Height, width, channels."""


def as_recorded(name: str, frame_shape: FrameShape) -> tuple[int, int]:
    """Return the height and width of a camera's frames."""
    return frame_shape[:2]


@dataclass(frozen=True)
class ImageCache:
    """Where decoded frames are kept, and at which size.

    Attributes:
        folder: holds one folder per camera and size.
        size_of: from a camera's name and the shape of its frames to the height and width at which
            they are kept, such as `EncoderConfig.frame_size`.
        before_decoding: called, each time, before anything is decoded, with the same cache, but
            blank: a dataset that is loaded with that has everything but its frames.
        blank: frames are black, and neither decoded nor kept.
    """

    folder: Path = DEFAULT_CACHE
    size_of: Callable[[str, FrameShape], tuple[int, int]] = as_recorded
    before_decoding: Callable[[ImageCache], None] | None = None
    blank: bool = False


def cached_bytes(
    n_frames: int, frame_shape: FrameShape, size: tuple[int, int] | None = None
) -> int:
    """Return what the frames of one camera take on the disk, once they are decoded.

    Args:
        n_frames: number of frames of all episodes.
        frame_shape: as the camera records them.
        size: height and width at which they are kept; as recorded when None.
    """
    height, width = size or frame_shape[:2]
    return n_frames * height * width * frame_shape[2]


def open_images(
    cameras: Mapping[str, CachedImages], cache: ImageCache | Path | None, *, quiet: bool = True
) -> dict[str, np.ndarray]:
    """Return the frames of cameras; those that are not in the cache are decoded and resized.

    Args:
        cameras: by the name that the policy knows.
        cache: where, and at which size; a folder alone for frames as they are recorded,
            `DEFAULT_CACHE` when None.
        quiet: no progress bars.

    Raises:
        InputError: there is too little room on the disk, or what `ImageCache.before_decoding`
            finds, before anything is decoded; or as `CachedImages.open`.
    """
    if not isinstance(cache, ImageCache):
        cache = ImageCache() if cache is None else ImageCache(cache)
    sizes = {name: cache.size_of(name, images.frame_shape) for name, images in cameras.items()}
    if cache.blank:
        return {
            name: _black((images.n_frames, *sizes[name], images.frame_shape[2]))
            for name, images in cameras.items()
        }
    missing = {
        name: cached_bytes(images.n_frames, images.frame_shape, sizes[name])
        for name, images in cameras.items()
        if not (cache.folder / images.key(sizes[name])).exists()
    }
    _check_room(cache.folder, missing)
    if missing and cache.before_decoding is not None:
        cache.before_decoding(replace(cache, before_decoding=None, blank=True))
    return {
        name: images.open(cache.folder, size=sizes[name], quiet=quiet)
        for name, images in cameras.items()
    }


def _black(shape: tuple[int, ...]) -> np.ndarray:
    """Return frames that take no room, mapped from a file as those of a cache are."""
    with tempfile.TemporaryFile() as file:
        file.write(b"\0")
        file.flush()
        level = np.memmap(file, np.uint8, "r", shape=(1,))
    return np.broadcast_to(level, shape, subok=True)


def _check_room(folder: Path, needed: Mapping[str, int]) -> None:
    free, total = free_disk(folder), sum(needed.values())
    if total > free:
        cameras = ", ".join(f"{name} {n / 1e9:.3g} GB" for name, n in needed.items())
        raise InputError(
            f"{folder}: the decoded frames of {cameras} would be kept here, but the disk has "
            f"{free / 1e9:.3g} GB left: make room or choose a folder on another disk, read fewer "
            "episodes (dataset.max_episodes), or train on smaller frames (encoder.image.resize)"
        )


@dataclass(frozen=True)
class CachedImages:
    """The frames of one camera, to be read from a source unless they were read before.

    Attributes:
        source: file and array, for messages and for the progress bar.
        facts: plain JSON values that change whenever the images would: names, sizes and times of
            files, the episodes that are read.
        n_frames: number of frames T.
        frame_shape: (height, width, channels).
        read: yields the frames in order, uint8 (n, height, width, channels), in parts of any n.
        remark: what became of the images as they are stored, such as ``"front: channels first
            (3, 96, 96), read as (96, 96, 3)"``; empty if they are read as stored.
    """

    source: str
    facts: Mapping[str, Any]
    n_frames: int
    frame_shape: tuple[int, int, int]
    read: Iterable[np.ndarray]
    remark: str = ""

    def open(
        self,
        folder: Path | None = None,
        *,
        size: tuple[int, int] | None = None,
        quiet: bool = True,
    ) -> np.memmap:
        """Return the frames (T, height, width, channels) uint8, read-only and memory-mapped.

        They are read from the source into ``folder`` the first time; a half-written cache never
        appears under its name.

        Args:
            folder: holds one folder per camera and size; `DEFAULT_CACHE` when None.
            size: height and width that frames are resized to; as they are when None.
            quiet: no progress bar.

        Raises:
            InputError: the source gives other frames than announced, or the cache is damaged.
            OSError: the cache cannot be written, as on a full disk.
        """
        size = size or self.frame_shape[:2]
        target = (folder or DEFAULT_CACHE) / self.key(size)
        if not target.exists():
            # Of several processes one reads the source; what it writes is the same for all.
            with only_writer(target, "images", wait=True):
                if not target.exists():
                    with atomic_folder(target) as temporary:
                        self._write(temporary, size, quiet=quiet)
        return self._map(target, size)

    def key(self, size: tuple[int, int] | None = None) -> str:
        """Return the name of the cache at a size: says everything the images depend on."""
        facts = [_VERSION, self.n_frames, list(self.frame_shape), dict(self.facts)]
        if size not in (None, self.frame_shape[:2]):
            facts.append({"resized": size})
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]

    def _write(self, folder: Path, size: tuple[int, int], *, quiet: bool) -> None:
        shape = self._shape(size)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        digest, done = hashlib.sha256(), 0
        title, expected = f"images of {self.source}", f"expected {self.n_frames}: one per step"
        keeping: Future[None] | None = None
        with (
            (folder / FRAMES).open("w+b") as file,
            ThreadPoolExecutor(1, thread_name_prefix="images") as worker,
            tqdm(total=self.n_frames, desc=title, unit="frame", disable=quiet) as bar,
        ):
            np.lib.format.write_array_header_1_0(file, header)
            # A disk without room for them is known before anything is decoded.
            reserve(file.fileno(), file.tell() + math.prod(shape))

            def keep(part: np.ndarray) -> None:
                digest.update(np.ascontiguousarray(part).data)
                file.write(np.ascontiguousarray(_at_size(part, size)).data)

            for part in self.read:
                if part.dtype != np.uint8 or part.shape[1:] != self.frame_shape:
                    raise InputError(
                        f"{self.source}: frame {done} is {part.dtype} {part.shape[1:]}, expected "
                        f"uint8 {self.frame_shape}, as the first one"
                    )
                if done + len(part) > self.n_frames:
                    raise InputError(f"{self.source}: holds more frames, {expected}")
                if keeping is not None:
                    keeping.result()
                # While the next ones are decoded.
                keeping = worker.submit(keep, part)
                done += len(part)
                bar.update(len(part))
            if keeping is not None:
                keeping.result()
        if done != self.n_frames:
            raise InputError(f"{self.source}: holds {done} frames, {expected}")
        facts = {
            "source": self.source,
            "recorded_shape": list(self.frame_shape),
            "shape": list(shape[1:]),
            "sha256": digest.hexdigest(),  # of the frames as recorded
        }
        write_json(folder / FACTS, facts)

    def _shape(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        return (self.n_frames, *size, self.frame_shape[2])

    def _map(self, target: Path, size: tuple[int, int]) -> np.memmap:
        if not is_file(target / FRAMES):
            raise InputError(f"{target}: the image cache has no file {FRAMES}: remove this folder")
        try:
            frames = np.load(target / FRAMES, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{target}: the image cache cannot be read ({str(error)[:200]}): remove this folder"
            ) from None
        shape = self._shape(size)
        if frames.shape != shape or frames.dtype != np.uint8:
            raise InputError(
                f"{target}: the image cache holds {frames.dtype} {frames.shape}, expected uint8 "
                f"{shape}: remove this folder"
            )
        assert isinstance(frames, np.memmap)
        return frames


def _at_size(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if frames.shape[1:3] == size:
        return frames
    from lfm_policy.data.images.resize import resized_frames  # which needs torch

    return resized_frames(frames, size)


def stored_images(
    source: str,
    name: str,
    facts: Mapping[str, Any],
    n_frames: int,
    layout: ImageLayout,
    parts: Callable[[], Iterator[tuple[str, np.ndarray]]],
    depth: tuple[float, float] | None = None,
) -> CachedImages:
    """Return images that lie in a file in some layout, to be read when they are needed.

    Args:
        source: file and array, for messages.
        name: of the camera, for the remark.
        facts: see `CachedImages`; the layout is added.
        n_frames: number of frames.
        layout: how they are stored; whether a fourth channel is alpha, the first part says.
        parts: opens the file and yields where a part is, for messages, and the images in it as
            they are stored, (n, *layout.stored); called when they are needed.
        depth: nearest and farthest distance, where they are images of depth.

    Raises:
        InputError: the first part is needed, and cannot be read.
    """
    if layout.frame_shape[2] == 4:
        layout = layout.with_alpha_of(next(parts())[1])

    def frames() -> Iterator[np.ndarray]:
        stored = (layout.to_frames(part, at) for at, part in parts())
        yield from as_uint8(source, stored) if depth is None else depth_parts(source, stored, depth)

    facts = facts if layout.is_plain else {**facts, "axes": layout.axes}
    remark = layout.remark(name)
    if depth is not None:
        facts = {**facts, "depth": depth}
        remark = f"{name}: depth from {depth[0]:g} to {depth[1]:g} is read as 255 grey levels"
    return CachedImages(source, facts, n_frames, layout.frame_shape, frames(), remark)


def chosen_frames(parts: Iterable[np.ndarray], steps: np.ndarray) -> Iterator[np.ndarray]:
    """Yield some of the frames that come in parts.

    Args:
        parts: (n, ...) of any n, one after the other.
        steps: numbers of the frames among all, ascending.
    """
    begin = 0
    for part in parts:
        first, end = np.searchsorted(steps, (begin, begin + len(part)))
        if first < end:
            yield part[steps[first:end] - begin]
        begin += len(part)


def steps_digest(steps: np.ndarray) -> str:
    """Return a SHA-256 that tells choices of frames apart, for `CachedImages.facts`."""
    return hashlib.sha256(steps.astype("<i8").tobytes()).hexdigest()


def cached_digest(frames: np.ndarray) -> str | None:
    """Return the SHA-256 of all frames where the cache knows it; None for other arrays.

    Where they were resized, it is that of the frames as they were recorded.
    """
    if not isinstance(frames, np.memmap) or frames.filename is None:
        return None
    facts = Path(frames.filename).parent / FACTS
    if Path(frames.filename).name != FRAMES or not facts.exists():
        return None
    n_whole = np.load(frames.filename, mmap_mode="r", allow_pickle=False).shape[0]
    if len(frames) != n_whole:
        return None  # a part of it has another digest
    digest: str = json.loads(facts.read_text())["sha256"]
    return digest


def release(frames: np.ndarray) -> None:
    """Give the memory of mapped pages back to the system; they are read again when needed."""
    mapped = getattr(frames, "_mmap", None)
    if mapped is not None and hasattr(mapped, "madvise"):
        import mmap

        if frames.flags.writeable:
            mapped.flush()
        mapped.madvise(mmap.MADV_DONTNEED)


def as_uint8(source: str, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield stored images as uint8; floats are rounded.

    Raises:
        InputError: NaN, a value outside 0 to 255, no value above 1: images stored as a share of
            255, which cannot be told from very dark ones and would train on black; or fractions of
            one channel below `METRES`, which are distances.
    """
    largest, fractions = 0.0, False
    for part in parts:
        if part.dtype == np.uint8:
            largest = 255.0
            yield part
            continue
        low, high = float(part.min()), float(part.max())
        if not (low >= 0 and high <= 255):
            raise InputError(
                f"{source}: holds {low:g} to {high:g}; expected images of 0 to 255 without NaN"
                + _perhaps_depth(part)
            )
        largest, fractions = max(largest, high), fractions or has_fractions(part)
        yield np.rint(part).astype(np.uint8)
    if largest <= 1:
        raise InputError(
            f"{source}: no value exceeds {largest:g}; expected images of 0 to 255: multiply them "
            f"by 255{_perhaps_depth(part)}"
        )
    if fractions and largest < METRES:
        raise InputError(
            f"{source}: holds fractions up to {largest:g}, as distances in metres are; expected "
            f"images of 0 to 255{_perhaps_depth(part)}"
        )


def _perhaps_depth(images: np.ndarray) -> str:
    is_grey = images.shape[-1] == 1
    return "; distances are read where dataset.depth names their camera" if is_grey else ""
