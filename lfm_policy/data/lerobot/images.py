"""Pictures inside parquet files (features of dtype image)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lfm_policy.data.lerobot.episodes import Episode
from lfm_policy.data.lerobot.feature import Feature, UnusableFeature
from lfm_policy.data.lerobot.files import brief
from lfm_policy.data.lerobot.frames import in_parts
from lfm_policy.data.lerobot.tables import check_column, open_parquet
from lfm_policy.errors import InputError

_BATCH_ROWS = 32
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_pictures(episodes: Sequence[Episode], feature: Feature) -> Iterator[np.ndarray]:
    """Yield the pictures of ``episodes`` in order, in parts: uint8 (n, height, width, channels).

    Args:
        episodes: whose rows were checked by :func:`lfm_policy.data.lerobot.rows.read_rows`.
        feature: a camera of dtype image.

    Raises:
        InputError: a file is damaged, a row holds no picture, or one of another size or kind.
    """
    return in_parts(_pictures(episodes, feature), feature.frame_shape)


def check_pictures(episode: Episode, feature: Feature) -> None:
    """Check that the first picture of an episode is one, of the announced size.

    Raises:
        InputError: as in :func:`read_pictures`.
    """
    next(_pictures([episode], feature))


def check_picture_kind(episode: Episode, feature: Feature) -> None:
    """Check that the first picture of an episode is of a kind that can be read, whatever its size.

    Raises:
        InputError: as in :func:`read_pictures`, but for the size.
        UnusableFeature: the column holds no pictures, or they show depth.
    """
    with contextlib.suppress(_OtherSize):
        check_pictures(episode, feature)


class _OtherSize(InputError):
    """A picture has another size than announced."""


def _pictures(episodes: Sequence[Episode], feature: Feature) -> Iterator[np.ndarray]:
    for members in _passes(episodes):
        path = members[0].data
        with open_parquet(path) as file:
            for episode, row, data in _rows(file, path, members, feature.key):
                source = f"{path}: column '{feature.key}', row {row} (episode {episode})"
                yield _picture(data, feature.frame_shape, source)


def _passes(episodes: Sequence[Episode]) -> Iterator[list[Episode]]:
    """Yield episodes that follow one another in a file: they are read in one pass."""
    members: list[Episode] = []
    for episode in episodes:
        if members and not (
            episode.data == members[-1].data and episode.first_row > members[-1].first_row
        ):
            yield members
            members = []
        members.append(episode)
    if members:
        yield members


def _rows(
    file: pq.ParquetFile, path: Path, episodes: Sequence[Episode], key: str
) -> Iterator[tuple[int, int, bytes]]:
    """Yield episode, row and encoded picture of all rows of ``episodes``."""
    kind = check_column(file, path, key)
    index = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    if index < 0 or not (
        pa.types.is_binary(kind.field(index).type)
        or pa.types.is_large_binary(kind.field(index).type)
    ):
        raise UnusableFeature(
            f"{path}: column '{key}' has type {str(kind)[:200]}; expected pictures, a struct of "
            "bytes and path"
        )
    begin = 0
    last = episodes[-1].first_row + episodes[-1].length
    remaining = list(reversed(episodes))
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[key]):
        pictures = batch.column(batch.schema.get_field_index(key)).field(index)
        for row in range(begin, min(begin + batch.num_rows, last)):
            while row >= remaining[-1].first_row + remaining[-1].length:
                remaining.pop()
            episode = remaining[-1]
            if row < episode.first_row:
                continue
            data = pictures[row - begin].as_py()
            if not data:
                raise InputError(
                    f"{path}: column '{key}', row {row} (episode {episode.index}) holds no bytes; "
                    "expected the picture itself: embed the pictures into the parquet files"
                )
            yield episode.index, row, data
        begin += batch.num_rows
        if begin >= last:
            return


def _picture(data: bytes, frame_shape: tuple[int, int, int], source: str) -> np.ndarray:
    height, width, channels = frame_shape
    if data.startswith(_TIFF):
        raise UnusableFeature(
            f"{source} is a TIFF, as depth is stored; expected {' or '.join(_FORMATS)} of 8 bits "
            "per channel"
        )
    try:
        # Only plain formats: some that Pillow knows start other programs.
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            # Before it is decoded, so that a few bytes cannot become gigabytes.
            if (image.height, image.width) != (height, width):
                raise _OtherSize(
                    f"{source} is a picture of {image.height} x {image.width} (height x width); "
                    f"expected {height} x {width}, as meta/info.json says"
                )
            mode = _MODES[channels]
            if image.mode not in (mode, "P"):
                raise UnusableFeature(
                    f"{source} is a picture of mode {image.mode}; expected {mode}, {channels} "
                    "channels of 8 bits, as meta/info.json says"
                )
            return np.asarray(image.convert(mode)).reshape(frame_shape)
    except InputError:
        raise
    # Pillow's readers raise what they like on damaged data.
    except Exception as error:
        raise InputError(
            f"{source} is no picture that can be decoded ({brief(error)}); expected "
            f"{' or '.join(_FORMATS)}: download or copy the dataset again"
        ) from error
