"""The image cache: decoded once, mapped, never half-written, never stale."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from lfm_policy.data.images.cache import (
    CachedImages,
    ImageCache,
    as_uint8,
    cached_bytes,
    cached_digest,
    open_images,
    release,
)
from lfm_policy.data.images.resize import resized_frames
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError


@pytest.fixture()
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)


def of(images: np.ndarray, *, n_frames: int = 12, facts: str = "a") -> CachedImages:
    return CachedImages("a store", {"file": facts}, n_frames, (6, 5, 3), iter([images]))


def test_reads_once_and_maps(images: np.ndarray, tmp_path: Path) -> None:
    frames = of(images).open(tmp_path)
    assert isinstance(frames, np.memmap) and not frames.flags.writeable
    np.testing.assert_array_equal(frames, images)

    def never() -> Iterator[np.ndarray]:
        raise AssertionError("read again")
        yield images

    again = CachedImages("a store", {"file": "a"}, 12, (6, 5, 3), never()).open(tmp_path)
    np.testing.assert_array_equal(again, images)
    release(again)
    np.testing.assert_array_equal(again, images)


def test_other_facts_are_another_cache(images: np.ndarray, tmp_path: Path) -> None:
    of(images).open(tmp_path)
    other = of(255 - images, facts="b").open(tmp_path)
    np.testing.assert_array_equal(other, 255 - images)


# -- at another size ----------------------------------------------------------------------------


def test_another_size_is_another_cache(images: np.ndarray, tmp_path: Path) -> None:
    cache = of(images)
    small = CachedImages("a store", {"file": "a"}, 12, (6, 5, 3), iter([images[:5], images[5:]]))
    resized = small.open(tmp_path, size=(3, 4))
    np.testing.assert_array_equal(resized, resized_frames(images, (3, 4)))
    assert cache.key((6, 5)) == cache.key() != small.key((3, 4)) != small.key((4, 3))
    facts = json.loads((tmp_path / small.key((3, 4)) / "facts.json").read_text())
    assert facts["recorded_shape"] == [6, 5, 3] and facts["shape"] == [3, 4, 3]
    np.testing.assert_array_equal(cache.open(tmp_path), images)
    assert cached_digest(resized) == cached_digest(cache.open(tmp_path))


def test_several_cameras_at_their_sizes(images: np.ndarray, tmp_path: Path) -> None:
    cameras = {"a": of(images), "b": of(255 - images, facts="b")}
    sizes = {"a": (3, 4), "b": (6, 5)}
    frames = open_images(cameras, ImageCache(tmp_path, lambda name, shape: sizes[name]))
    np.testing.assert_array_equal(frames["a"], resized_frames(images, (3, 4)))
    np.testing.assert_array_equal(frames["b"], 255 - images)
    for name, size in sizes.items():
        file = tmp_path / cameras[name].key(size) / "frames.npy"
        assert file.stat().st_size == cached_bytes(12, (6, 5, 3), size) + 128


def test_too_little_room_is_known_before_anything_is_decoded(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of(images).open(tmp_path)
    free = shutil.disk_usage(tmp_path)._replace(free=images.nbytes - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)

    def cameras() -> dict[str, CachedImages]:
        return {"a": of(images), "b": of(images, facts="b")}

    with pytest.raises(InputError, match=r"b 1.08e-06 GB would .* 1.08e-06 GB left: make room"):
        open_images(cameras(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    half = ImageCache(tmp_path, lambda name, shape: (3, 5) if name == "b" else shape[:2])
    assert open_images(cameras(), half)["b"].shape == (12, 3, 5, 3)


# -- what is no cache ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([np.zeros((11, 6, 5, 3), np.uint8)], "holds 11 frames, expected 12"),
        ([np.zeros((13, 6, 5, 3), np.uint8)], "holds more frames, expected 12"),
        ([np.zeros((12, 5, 6, 3), np.uint8)], r"\(5, 6, 3\), expected uint8 \(6, 5, 3\)"),
        ([np.zeros((12, 6, 5, 3), np.float32)], "frame 0 is float32"),
    ],
)
def test_other_frames_than_announced_leave_nothing(
    parts: list[np.ndarray], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        CachedImages("a store", {}, 12, (6, 5, 3), iter(parts)).open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_fails_after_some_frames_is_raised_and_leaves_nothing(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield images[:5]
        raise InputError("the video is damaged")

    with pytest.raises(InputError, match="the video is damaged"):
        CachedImages("a store", {}, 12, (6, 5, 3), broken()).open(tmp_path)

    def full(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lfm_policy.data.images.resize.resized_frames", full)
    with pytest.raises(OSError, match="No space left"):
        CachedImages("a store", {}, 12, (6, 5, 3), iter([images])).open(tmp_path, size=(3, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cache_is_named(images: np.ndarray, tmp_path: Path) -> None:
    cache = of(images)
    cache.open(tmp_path)
    (tmp_path / cache.key() / "frames.npy").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="remove this folder"):
        cache.open(tmp_path)


def test_a_cache_that_is_a_pipe_is_not_waited_for(images: np.ndarray, tmp_path: Path) -> None:
    cache = of(images)
    (tmp_path / cache.key()).mkdir()
    for _ in range(2):
        with pytest.raises(InputError, match=r"has no file frames\.npy: remove this folder"):
            cache.open(tmp_path)
        if not (tmp_path / cache.key() / "frames.npy").exists():
            os.mkfifo(tmp_path / cache.key() / "frames.npy")


def test_of_two_at_once_one_reads(images: np.ndarray, tmp_path: Path) -> None:
    """As processes that train together, or two trainings on the same demonstrations."""
    reading, go_on, reads = threading.Event(), threading.Event(), []

    def slow() -> Iterator[np.ndarray]:
        reads.append(1)
        reading.set()
        assert go_on.wait(60)
        yield images

    def cache() -> CachedImages:
        return CachedImages("a store", {"file": "a"}, 12, (6, 5, 3), slow())

    with ThreadPoolExecutor() as pool:
        first = pool.submit(lambda: cache().open(tmp_path))
        assert reading.wait(60)
        second = pool.submit(lambda: cache().open(tmp_path))
        time.sleep(0.3)
        assert not second.done()
        go_on.set()
        for future in (first, second):
            np.testing.assert_array_equal(future.result(60), images)
    assert reads == [1]
    assert [path.name for path in tmp_path.iterdir()] == [cache().key()]


def test_the_next_one_reads_when_the_first_one_failed(images: np.ndarray, tmp_path: Path) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def failing() -> Iterator[np.ndarray]:
        reading.set()
        assert go_on.wait(60)
        yield images[:3]

    with ThreadPoolExecutor() as pool:
        broken = CachedImages("a store", {"file": "a"}, 12, (6, 5, 3), failing())
        first = pool.submit(lambda: broken.open(tmp_path))
        assert reading.wait(60)
        second = pool.submit(lambda: of(images).open(tmp_path))
        go_on.set()
        with pytest.raises(InputError, match="holds 3 frames, expected 12"):
            first.result(60)
        np.testing.assert_array_equal(second.result(60), images)


def test_a_disk_without_room(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing to mapped pages that have no room on the disk would end the process by a signal."""

    def no_room(descriptor: int, begin: int, size: int) -> None:
        assert size >= images.nbytes
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space left") as caught:
        of(images).open(tmp_path)
    assert str(caught.value.filename).startswith(str(tmp_path / of(images).key()))
    assert list(tmp_path.iterdir()) == []


def test_floats_are_rounded_and_ranges_checked(images: np.ndarray) -> None:
    (rounded,) = as_uint8("s", [images + 0.4 * (images < 255)])
    np.testing.assert_array_equal(rounded, images)
    for bad, message in (
        (np.full((2, 4, 4, 3), np.nan), "nan to nan; expected images of 0 to 255"),
        (np.full((2, 4, 4, 3), 256.0), "256 to 256"),
        (np.full((2, 4, 4, 3), -1.0), "-1 to -1"),
        (np.random.default_rng(0).random((2, 4, 4, 3)), "multiply them by 255"),
    ):
        with pytest.raises(InputError, match=message):
            list(as_uint8("s", [bad]))


def test_fractions_of_one_channel_are_distances(images: np.ndarray) -> None:
    grey = images[..., :1].astype(np.float32)
    grey[0, 0, 0] = 200.5
    (kept,) = as_uint8("grey", [grey])
    assert kept[0, 0, 0] == 200
    metres = np.linspace(0.3, 2.5, grey.size, dtype=np.float32).reshape(grey.shape)
    with pytest.raises(InputError, match=r"fractions up to 2\.5, as distances in metres are"):
        list(as_uint8("depth", [metres[:5], metres[5:]]))
    dark = np.rint(metres)
    assert [part.max() for part in as_uint8("dark", [dark])] == [2]


def test_the_digest_is_of_whole_caches(images: np.ndarray, tmp_path: Path) -> None:
    frames = of(images).open(tmp_path)
    assert cached_digest(frames) is not None
    assert cached_digest(frames[:5]) is None
    assert cached_digest(np.asarray(images)) is None
    action = np.zeros((12, 2), np.float32)
    ends = np.array([12])
    mapped = ReplayBuffer({"action": action, "image": frames}, ends)
    memory = ReplayBuffer({"action": action, "image": images}, ends)
    assert mapped.fingerprint() == memory.fingerprint()
    changed = images.copy()
    changed[3, 2, 1, 0] ^= 1
    assert ReplayBuffer({"action": action, "image": changed}, ends).fingerprint() != (
        mapped.fingerprint()
    )


# -- in zarr stores -----------------------------------------------------------------------------


@pytest.fixture()
def store(images: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "demo.zarr"
    arrays = {"action": np.zeros((12, 2), np.float32), "img": images, "pos": np.eye(12)}
    write_zarr(path, ReplayBuffer(arrays, np.array([5, 12])))
    return path


def config(store: Path, **options: object) -> ZarrConfig:
    return ZarrConfig(path=str(store), obs_keys=["img", "pos"], **options)  # type: ignore[arg-type]


def test_a_store_s_images_are_mapped_and_renamed(
    store: Path, images: np.ndarray, tmp_path: Path
) -> None:
    buffer = config(store, rename={"img": "image"}).load(tmp_path / "cache")
    assert list(buffer.arrays) == ["action", "image", "pos"]
    assert isinstance(buffer.arrays["image"], np.memmap)
    np.testing.assert_array_equal(buffer.arrays["image"], images)
    some = config(store, max_episodes=1).load(tmp_path / "cache")
    np.testing.assert_array_equal(some.arrays["img"], images[:5])


def test_a_changed_store_is_read_again(store: Path, images: np.ndarray, tmp_path: Path) -> None:
    config(store).load(tmp_path / "cache")
    array = zarr.open_array(str(store), path="data/img", mode="r+")
    array[...] = 255 - images
    for file in (store / "data" / "img").iterdir():
        os.utime(file, ns=(1, 1))
    np.testing.assert_array_equal(
        config(store).load(tmp_path / "cache").arrays["img"], 255 - images
    )


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"image": "img"}, "rename names 'image', which is not among obs_keys"),
        ({"img": "pos"}, "expected different names"),
        ({"img": "action"}, "none of them empty or 'action'"),
    ],
)
def test_names_that_do_not_work(rename: dict[str, str], message: str, store: Path) -> None:
    with pytest.raises(InputError, match=message):
        config(store, rename=rename)


def test_images_that_are_too_few_or_shares_of_255(store: Path, tmp_path: Path) -> None:
    array = zarr.open_array(str(store), path="data/img", mode="r+")
    array.resize((11, 6, 5, 3))
    with pytest.raises(InputError, match="data/img has 11 steps"):
        config(store).load(tmp_path / "cache")
