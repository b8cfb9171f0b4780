"""Which codecs of zarr arrays are read, and which package reads those that are not built in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lfm_policy.errors import InputError

_CODECS = frozenset(
    {
        *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
        *("astype", "bitround", "bytes", "delta", "fixedscaleoffset", "packbits", "quantize"),
        *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
        *("sharding_indexed", "shuffle", "transpose"),
    }
)
"""Codecs that are read: none of them can run code, unlike for example ``pickle``."""

_OF_TEXT = frozenset({"vlen-bytes", "vlen-utf8"})
"""Codecs of text, which is recognised but never decoded."""

_OF_IMAGES = frozenset(
    f"imagecodecs_{name}"
    for name in (
        *("avif", "heif", "jpeg", "jpeg2k", "jpegls", "jpegxl"),
        *("jpegxr", "png", "qoi", "webp"),
    )
)
"""Codecs of the package ``imagecodecs``, which UMI's data sets use for cameras."""


def check_codecs(metadata: Mapping[str, Any], source: str) -> None:
    """Check that only codecs that decode plain data would run, and that they are installed.

    Args:
        metadata: of an array, v2 or v3, as JSON.
        source: for messages.

    Raises:
        InputError: another codec is named, or one whose package is not installed.
    """
    for name in _all_codecs(metadata):
        if name in _CODECS or name in _OF_TEXT:
            continue
        if name not in _OF_IMAGES:
            raise InputError(
                f"{source}: the codec '{name[:60]}' is not read here; rewrite the array with "
                f"Blosc, zstd or gzip (known: {', '.join(sorted(_CODECS))})"
            )
        try:
            from imagecodecs.numcodecs import register_codecs
        except ImportError:
            raise InputError(
                f"{source}: its values are encoded by the codec '{name}', which the package "
                "imagecodecs reads: pip install imagecodecs"
            ) from None
        register_codecs((name,), verbose=False)


def last_codec(metadata: Mapping[str, Any]) -> str | None:
    """Return the name of the codec whose output the chunk files hold; None if they are raw."""
    codecs = _codecs(metadata)
    return _codec_name(codecs[-1]) if codecs else None


def _codecs(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the codecs of v2 or v3 metadata in the order in which they encode."""
    if "codecs" in metadata:
        return list(metadata["codecs"])
    filters, compressor = metadata.get("filters"), metadata.get("compressor")
    return [codec for codec in (*(filters or ()), compressor) if codec]


def _codec_name(codec: Mapping[str, Any]) -> str:
    return str(codec.get("id", codec.get("name"))).removeprefix("numcodecs.")


def _all_codecs(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all codecs, those inside shards included."""
    for codec in _codecs(metadata):
        yield _codec_name(codec)
        inner = codec.get("configuration", {})
        if "codecs" in inner:
            yield from _all_codecs(inner)
            yield from map(_codec_name, inner.get("index_codecs", ()))
