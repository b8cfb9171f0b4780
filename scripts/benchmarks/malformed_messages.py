"""Messages that no client of a policy server should send, of nine kinds."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from lfm_runtime.wire.packing import packb

KINDS = (
    "random bytes",
    "truncated",
    "wrong dtype",
    "wrong shape",
    "huge shape claims",
    "deep nesting",
    "object dtypes",
    "scalars of claimed length",
    "many values",
)


def malformed(kind: str, rng: np.random.Generator, obs: Mapping[str, np.ndarray]) -> bytes:
    """Return a message of a kind; ``obs`` is a good observation that it is made from."""
    if kind == "random bytes":
        return rng.bytes(int(rng.integers(0, 300)))
    if kind == "deep nesting":
        level = [b"\x91", b"\x81\xa1x", b"\xdc\x0f\xff"][int(rng.integers(3))]
        return level * int(rng.integers(9, 10_000)) + b"\x01"
    if kind == "truncated":
        good = packb(dict(obs))
        return good[: int(rng.integers(0, len(good)))]
    key = str(rng.choice(sorted(obs)))
    if kind == "wrong dtype":
        dtype = str(rng.choice(["<U3", "|S2", "<M8[s]", "|b1", "<i8"]))
        more = (2,) if dtype in ("|b1", "<i8") else ()  # numbers: refused for their shape
        return packb({**obs, key: np.zeros((*obs[key].shape, *more), dtype)})
    if kind == "wrong shape":
        shape = (*obs[key].shape, *(int(n) for n in rng.integers(0, 5, int(rng.integers(1, 5)))))
        return packb({**obs, key: np.zeros(shape, obs[key].dtype)})
    value: Any
    if kind == "huge shape claims":
        if rng.integers(2):
            return b"\xdd" + struct.pack(">I", int(rng.integers(2**20, 2**32))) * 50
        sizes = [int(n) for n in rng.integers(2**20, 2**62, int(rng.integers(1, 4)))]
        value = {b"__ndarray__": True, b"data": bytes(12), b"dtype": "<f4", b"shape": sizes}
    elif kind == "object dtypes":
        dtype = str(rng.choice(["|O", "O", "|V8", "<c8", "<c16", "f4,i4", "(9,)f4", "bogus"]))
        value = {b"__ndarray__": True, b"data": bytes(8), b"dtype": dtype, b"shape": [1]}
    elif kind == "scalars of claimed length":
        dtype = str(rng.choice(["|S1", "<U1", "|S999999"]))
        length = int(rng.integers(10**9, 2**40))
        value = {b"__npgeneric__": True, b"data": length, b"dtype": dtype}
    else:
        row: list[Any] = [[], {}, 0, "ab"][int(rng.integers(4)) :][:1] * 4096
        value = [row] * int(rng.integers(17, 20))
    return bytes(msgpack.packb({key: value}))
