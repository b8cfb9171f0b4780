"""No message takes more memory than a small multiple of its own length."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfm_policy.serving.observations import arranged
from lfm_runtime.errors import InputError
from lfm_runtime.policy.observations import array_of
from lfm_runtime.policy.spec import DataSpec
from lfm_runtime.wire.msgpack_reader import MAXIMUM_ITEMS, MAXIMUM_VALUES
from lfm_runtime.wire.packing import packb, unpackb
from lfm_runtime.wire.server_metadata import read_metadata

pytestmark = pytest.mark.slow

# An empty map is one byte in a message and 64 in memory; what reading takes besides.
PER_BYTE, ALWAYS = 100, 200_000

SIZES = st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1))
DTYPES = st.one_of(
    st.sampled_from(["<f4", "|u1", "<f16", "|b1", "<M8[s]", "|O", "<c16", "|V8", "f4,i4", "<i8"]),
    st.builds(
        "{}{}{}".format, st.sampled_from("<|>"), st.sampled_from("SU"), st.integers(0, 10**6)
    ),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    # Few bytes of a description, many of text.
    st.builds(
        lambda text, n: text * n,
        st.sampled_from(["a", "\u00e9", "\U0001f600"]),
        SIZES.map(lambda n: n % 5_000),
    ),
)
DATA = st.one_of(st.integers(0, 5_000).map(bytes), LEAVES)


def _array(dtype: Any, shape: Any, data: Any) -> dict[Any, Any]:
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}


def _fitting(dtype: str, shape: list[int]) -> dict[Any, Any]:
    return _array(dtype, shape, bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize))


ARRAYS = st.one_of(
    st.builds(_array, DTYPES, st.lists(SIZES, max_size=4), DATA),
    st.builds(
        _fitting,
        st.sampled_from(["<f4", "|u1", "<f8", "<f16"]),
        st.lists(st.integers(0, 9), max_size=4),
    ),
    # No bytes, whatever the other sizes are.
    st.builds(lambda dtype, n: _array(dtype, [0, n], b""), DTYPES, SIZES),
    st.builds(
        lambda dtype, data: {b"__npgeneric__": True, b"data": data, b"dtype": dtype}, DTYPES, DATA
    ),
    st.builds(
        lambda dtype, shape, data, kind: {
            b"nd": True,
            b"type": dtype,
            b"kind": kind,
            b"shape": shape,
            b"data": data,
        },
        *(DTYPES, st.lists(SIZES, max_size=4), DATA, st.sampled_from([b"", b"O", b"V"])),
    ),
    st.builds(lambda dtype, data: {b"nd": False, b"type": dtype, b"data": data}, DTYPES, DATA),
)
VALUES = st.recursive(
    st.one_of(LEAVES, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=5), inner, max_size=5),
        st.builds(lambda item, n: [item] * n, inner, st.integers(0, 500)),
    ),
    max_leaves=6,
)


def memory(function: Callable[[], Any]) -> int:
    """Return the most bytes that a call held at once; InputError is an answer like others."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        try:
            function()
        except InputError as error:
            assert len(str(error)) < 3_000
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def read_observations(message: bytes) -> None:
    """Do what a server does with a message: every value could be meant as every observation."""
    content = unpackb(message)
    if isinstance(content, dict):
        for shape in ((), (1,), (3,), (2, 3, 3)):
            for key, value in content.items():
                try:
                    array = arranged(str(key)[:60], value, shape, n_obs_steps=2)
                    array_of("key", array, DataSpec({"key": shape}, 1))
                except InputError:
                    continue


def read_as_client(message: bytes) -> None:
    """Do what a client does with the first message of a server."""
    content = unpackb(message)
    if isinstance(content, dict):
        read_metadata(content, "uri")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.data())
def test_memory_is_bounded_by_the_length_of_a_message(content: Any, data: st.DataObject) -> None:
    message = bytearray(msgpack.packb(content))
    for _ in range(data.draw(st.integers(0, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    for read in (read_observations, read_as_client):
        assert memory(lambda read=read: read(bytes(message))) < PER_BYTE * len(message) + ALWAYS


METADATA_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "shape": st.one_of(st.lists(SIZES, max_size=6), VALUES),
        "low": VALUES,
        "high": VALUES,
        "dtype": LEAVES,
    },
)
METADATA = st.fixed_dictionaries(
    {"observations": st.dictionaries(st.text(max_size=5), METADATA_ENTRY, max_size=4)},
    optional={
        name: st.one_of(st.integers(0, 5_000), SIZES)
        for name in ("action_dim", "n_obs_steps", "horizon", "n_action_steps", "max_prefix")
    },
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(METADATA)
def test_memory_is_bounded_by_the_length_of_a_servers_metadata(metadata: Any) -> None:
    message = msgpack.packb(metadata)
    assert memory(lambda: read_as_client(message)) < PER_BYTE * len(message) + ALWAYS


MEGABYTE = 2**20
LARGE = {
    "empty maps": b"\x81\xa1x\xdc\x10\x00" + (b"\xdc\x10\x00" + b"\x80" * 4096) * 4096,
    "nested lists": (b"\xdc\x0f\xff" + b"\xa2ab" * 4094) * 300,
    "texts as long as the longest": packb({"x": ["a" * MEGABYTE, *["b"] * 4000]}),
    "texts in arrays": packb({"x": [np.array(["a" * 100_000]), *["b"] * 4000]}),
    "bytes as long as the longest": packb({"x": [[b"a" * MEGABYTE], *[[b"b"]] * 4000]}),
    "wide characters": packb({"x": "a" * MEGABYTE + "\U0001f600"}),
    "one large array": packb({"x": np.zeros(4 * MEGABYTE, np.uint8)}),
    "an array of wrong shape": packb({"x": np.zeros((2, 2, 3, MEGABYTE), bool)}),
    "a scalar as long as it says": msgpack.packb(
        {"x": {b"__npgeneric__": True, b"data": 2 * 10**9, b"dtype": "S1"}}
    ),
    "a text as long as its dtype": msgpack.packb(
        {"x": {b"__npgeneric__": True, b"data": "a", b"dtype": "<U999999"}}
    ),
}


@pytest.mark.parametrize("name", sorted(LARGE))
def test_memory_of_large_messages(name: str) -> None:
    message = LARGE[name]
    # Of many small values only so many are made; of the rest, less than ten times the bytes.
    bound = 10 * len(message) + 100 * MAXIMUM_VALUES
    assert memory(lambda: read_observations(message)) < bound
    assert memory(lambda: read_as_client(message)) < bound


def test_the_number_of_values_is_bounded_across_all_lists() -> None:
    row = [0] * MAXIMUM_ITEMS
    assert unpackb(packb([row] * (MAXIMUM_VALUES // MAXIMUM_ITEMS - 1)))
    for content in (
        [row] * (MAXIMUM_VALUES // MAXIMUM_ITEMS + 1),
        [{}] * MAXIMUM_ITEMS,
        [[]] * MAXIMUM_ITEMS,
        [[[]] * 1_000, [{}] * 1_000],
    ):
        with pytest.raises(InputError, match="more than 16,384 values"):
            unpackb(packb(content))


PLAIN = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(PLAIN)
def test_reads_what_msgpack_reads(value: Any) -> None:
    message = msgpack.packb(value)
    assert repr(unpackb(message)) == repr(msgpack.unpackb(message))
