"""Messages that no client of a policy server should send, of nine kinds."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import numpy as np

from lfm_runtime.wire.packing import packb

Obs = Mapping[str, np.ndarray]


def _claim(key: str, dtype: str, shape: list[int], data: bytes) -> bytes:
    array = {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}
    return bytes(msgpack.packb({key: array}))


def _random_bytes(rng: np.random.Generator, obs: Obs) -> bytes:
    return rng.bytes(int(rng.integers(0, 300)))


def _truncated(rng: np.random.Generator, obs: Obs) -> bytes:
    good = packb(dict(obs))
    return good[: int(rng.integers(0, len(good)))]


def _wrong_dtype(rng: np.random.Generator, obs: Obs) -> bytes:
    key = str(rng.choice(sorted(obs)))
    kind = str(rng.choice(["<U3", "|S2", "<M8[s]", "|b1", "<i8"]))
    if kind in ("|b1", "<i8"):  # numbers: refused for their shape
        return packb({**obs, key: np.zeros((*obs[key].shape, 2), kind)})
    return packb({**obs, key: np.zeros(obs[key].shape, kind)})


def _wrong_shape(rng: np.random.Generator, obs: Obs) -> bytes:
    key = str(rng.choice(sorted(obs)))
    shape = (*obs[key].shape, *(int(n) for n in rng.integers(0, 5, int(rng.integers(1, 5)))))
    return packb({**obs, key: np.zeros(shape, obs[key].dtype)})


def _huge_shape(rng: np.random.Generator, obs: Obs) -> bytes:
    if rng.integers(2):
        return b"\xdd" + struct.pack(">I", int(rng.integers(2**20, 2**32))) * 50
    shape = [int(n) for n in rng.integers(2**20, 2**62, int(rng.integers(1, 4)))]
    return _claim(sorted(obs)[0], "<f4", shape, bytes(12))


def _deep(rng: np.random.Generator, obs: Obs) -> bytes:
    level = [b"\x91", b"\x81\xa1x", b"\xdc\x0f\xff"][int(rng.integers(3))]
    return level * int(rng.integers(9, 10_000)) + b"\x01"


def _objects(rng: np.random.Generator, obs: Obs) -> bytes:
    dtype = str(rng.choice(["|O", "O", "|V8", "<c8", "<c16", "f4,i4", "(9,)f4", "bogus"]))
    return _claim(sorted(obs)[0], dtype, [1], bytes(8))


def _scalar_claims(rng: np.random.Generator, obs: Obs) -> bytes:
    dtype = str(rng.choice(["|S1", "<U1", "|S999999"]))
    scalar = {b"__npgeneric__": True, b"data": int(rng.integers(10**9, 2**40)), b"dtype": dtype}
    return bytes(msgpack.packb({sorted(obs)[0]: scalar}))


def _many_values(rng: np.random.Generator, obs: Obs) -> bytes:
    row: list[Any] = [[], {}, 0, "ab"][int(rng.integers(4)) :][:1] * 4096
    return bytes(msgpack.packb({sorted(obs)[0]: [row] * int(rng.integers(17, 20))}))


KINDS: dict[str, Callable[[np.random.Generator, Obs], bytes]] = {
    "random bytes": _random_bytes,
    "truncated": _truncated,
    "wrong dtype": _wrong_dtype,
    "wrong shape": _wrong_shape,
    "huge shape claims": _huge_shape,
    "deep nesting": _deep,
    "object dtypes": _objects,
    "scalars of claimed length": _scalar_claims,
    "many values": _many_values,
}


def malformed(kind: str, rng: np.random.Generator, obs: Mapping[str, Any]) -> bytes:
    """Return a message of a kind; ``obs`` is a good observation that it is made from."""
    return KINDS[kind](rng, obs)
