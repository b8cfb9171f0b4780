"""Filters of HDF5 arrays: whether what they did can be undone here."""

from __future__ import annotations

import contextlib
import importlib

import h5py

_SZIP = 4
_OF_HDF5PLUGIN = {
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32024: "sz3",
    32026: "blosc2",
    32028: "sperr",
}
"""Filters by their registered number, as far as the package hdf5plugin reads them."""


def missing_filter(properties: h5py.h5p.PropDCID) -> str:
    """Say which filter of an array cannot be undone here, and what would; ``""`` if all can.

    The package hdf5plugin is imported where it is needed and installed.

    Args:
        properties: those with which the array was created.
    """
    for position in range(properties.get_nfilters()):
        number, _, _, stored_name = properties.get_filter(position)
        if _is_there(number):
            continue
        # What the file calls it is anybody's text.
        said = "".join(c for c in stored_name.decode("ascii", "replace") if c.isprintable())[:40]
        name = _OF_HDF5PLUGIN.get(number) or ("szip" if number == _SZIP else said) or "unnamed"
        cure = (
            "pip install hdf5plugin reads it"
            if number in _OF_HDF5PLUGIN
            else "write it again with a filter that HDF5 itself has, such as gzip"
        )
        return f"is compressed with HDF5 filter {number} ({name}), which is not installed: {cure}"
    return ""


def _is_there(number: int) -> bool:
    if not h5py.h5z.filter_avail(number):
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")  # registers its filters
    return bool(h5py.h5z.filter_avail(number))
