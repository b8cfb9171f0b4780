"""Messages as openpi packs them, and what hostile ones do."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_runtime.errors import InputError
from lfm_runtime.wire.msgpack_reader import MAXIMUM_DEPTH, MAXIMUM_ITEMS
from lfm_runtime.wire.packing import packb, unpackb

# The bytes were recorded with openpi-client 0.1.2: `openpi_client.msgpack_numpy.packb` of
# `messages()`, in base64.
RECORDED = {
    name: base64.b64decode(text)
    for name, text in json.loads(
        Path(__file__).with_name("openpi_frames.json").read_text(encoding="utf-8")
    ).items()
}


def messages() -> dict[str, Any]:
    counting = np.arange(24)
    return {
        "observation": {
            "observation/state": np.linspace(-1, 1, 7),
            "observation/image": (counting * 10 % 256).astype(np.uint8).reshape(2, 4, 3),
            "prompt": "put the block on the T",
        },
        "answer": {
            "actions": (counting / 7).astype(np.float32).reshape(12, 2),
            "server_timing": {"infer_ms": 1.25},
        },
        "dtypes": {
            name: np.array([0, 1, 100]).astype(name)
            for name in (
                "?",
                "i1",
                "i2",
                "i4",
                "i8",
                "u1",
                "u2",
                "u4",
                "u8",
                "f2",
                "f4",
                "f8",
                ">f4",
            )
        },
        "scalars": [np.float32(0.5), np.float64(0.5), np.int64(-3), np.uint8(255), np.bool_(True)],
        "shapes": [
            np.zeros(()),
            np.zeros((0, 3)),
            np.zeros((1, 1, 1)),
            np.arange(6).reshape(2, 3).T,
        ],
        "texts": [np.array(["a", "bcd"]), np.array([b"xy"]), np.str_("word"), np.bytes_(b"word")],
        "plain": {"a": [1, -1, 2.5, None, True, "text", b"bytes"], "b": {"c": {}}},
    }


MESSAGES = messages()


def same(a: Any, b: Any) -> bool:
    """Whether two messages are equal, dtypes and shapes included."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    return bool(a == b)


def array(data: bytes = bytes(12), dtype: Any = "<f4", shape: Any = (3,), **more: Any) -> bytes:
    """Return a message that claims to be an array."""
    claim = {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape, **more}
    return msgpack.packb(claim)


def refused(message: bytes) -> str:
    with pytest.raises(InputError) as caught:
        unpackb(message, label="here")
    assert str(caught.value).startswith("here: ")
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_packs_the_bytes_that_openpi_packs(name: str) -> None:
    assert packb(MESSAGES[name]) == RECORDED[name]


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_reads_what_openpi_packed(name: str) -> None:
    assert same(MESSAGES[name], unpackb(RECORDED[name]))


def test_arrays_look_into_the_message() -> None:
    read = unpackb(packb(np.zeros(4)))
    assert not read.flags.writeable


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([None, 1], dtype=object),
        np.zeros(2, dtype="f4,i4"),
        np.zeros(2, dtype="V8"),
        np.zeros(2, dtype=complex),
        np.complex64(1),
        object(),
        {1, 2},
        2**70,
    ],
)
def test_refuses_to_pack_what_openpi_refuses(value: Any) -> None:
    with pytest.raises(InputError, match="packed"):
        packb({"x": value})


@pytest.mark.parametrize(
    "dtype",
    [
        *("|O", "O", "|V8", "V", "<c8", "<c16", "f4,i4", "(1000000,1000000)f4", "<f3", "<U0"),
        *("<U9999999", "float32", "", "<m8[ns", "<M8[zzz]", "ab"),
        *(5, None, [["a", "<f4"]], b"<f4", {"names": []}),
    ],
)
def test_refuses_dtypes(dtype: Any) -> None:
    refused(array(dtype=dtype))


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ([4], "12 bytes, expected 16"),
        ([2**40], "expected 4,398"),
        ([2**62, 2**62], "expected"),
        ([2**32] * 32, "expected"),
        ([0], "12 bytes, expected 0"),
        ([-3], "shape"),
        ([-1, -3], "shape"),
        ([True, 3], "shape"),
        ([1.0, 3.0], "shape"),
        ("3", "shape"),
        (None, "shape"),
        ([1] * 33, "shape"),
        ([[3]], "shape"),
    ],
)
def test_compares_a_shape_with_the_bytes_before_memory_is_asked_for(shape: Any, what: str) -> None:
    tracemalloc.start()
    assert what in refused(array(shape=shape))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_refuses_empty_arrays_that_numpy_cannot_make() -> None:
    refused(array(data=b"", shape=[0, 2**62, 2**62]))


def test_refuses_arrays_with_missing_or_other_keys() -> None:
    refused(msgpack.packb({b"__ndarray__": True}))
    refused(array(**{"more": 1}))
    refused(array(data="text"))
    refused(msgpack.packb({b"__npgeneric__": True, b"dtype": "<f4"}))
    refused(msgpack.packb({b"__npgeneric__": True, b"dtype": "<f4", b"data": {}}))
    refused(msgpack.packb({b"__npgeneric__": True, b"dtype": "<f4", b"data": "no number"}))
    refused(msgpack.packb({b"__npgeneric__": True, b"dtype": "|i1", b"data": 300}))
    refused(msgpack.packb({b"__npgeneric__": True, b"dtype": "|O", b"data": 3}))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        packb({"x": np.zeros(5)})[:-1],
        packb({"x": 1}) + b"\x00",
        b"\xd9\xff",
        b"\x81\xa1x\xc4\x05ab",
        msgpack.packb(msgpack.ExtType(5, b"abc")),
        msgpack.packb(msgpack.ExtType(5, b"")),
        msgpack.packb(msgpack.Timestamp(1)),
        msgpack.packb({"x": msgpack.Timestamp(1)}),
        b"\x81\xc0\x01",  # None as a key
        b"\x81\x93\x01\x02\x03\x01",  # a list as a key
        b"\xa2\xff\xff",  # text that is no UTF-8
        b"\xa1",
    ],
)
def test_refuses_what_is_no_message(message: bytes) -> None:
    refused(message)


# `msgpack.packb(msgpack_numpy_values(), default=msgpack_numpy.encode)`, version 0.4.8.
RECORDED_MSGPACK_NUMPY = base64.b64decode(
    "h6VhcnJheYXEAm5kw8QEdHlwZaM8ZjTEBGtpbmTEAMQFc2hhcGWSAgPEBGRhdGHEGAAAAAAAAIA/AAAAQAAAQEAAAIBA"
    "AACgQKVpbWFnZYXEAm5kw8QEdHlwZaN8dTHEBGtpbmTEAMQFc2hhcGWTAgIDxARkYXRhxAwAAQIDBAUGBwgJCgumc2Nh"
    "bGFyyz/gAAAAAAAApGZsYWeDxAJuZMLEBHR5cGWjfGIxxARkYXRhxAEBo2ludIPEAm5kwsQEdHlwZaM8aTLEBGRhdGHE"
    "Av3/pHRleHSFxAJuZMPEBHR5cGWjPFUyxARraW5kxADEBXNoYXBlkQLEBGRhdGHEEGEAAAAAAAAAYgAAAGMAAACnZm9y"
    "dHJhboXEAm5kw8QEdHlwZaM8aTjEBGtpbmTEAMQFc2hhcGWSAgPEBGRhdGHEMAAAAAAAAAAAAQAAAAAAAAACAAAAAAAA"
    "AAMAAAAAAAAABAAAAAAAAAAFAAAAAAAAAA=="
)


def msgpack_numpy_values() -> dict[str, Any]:
    return {
        "array": np.arange(6, dtype="<f4").reshape(2, 3),
        "image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        "scalar": np.float64(0.5),
        "flag": np.bool_(True),
        "int": np.int16(-3),
        "text": np.array(["a", "bc"]),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    }


def with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key.decode() if isinstance(key, bytes) else key: with_text_keys(item)
            for key, item in value.items()
        }
    return value


def test_reads_what_msgpack_numpy_packed() -> None:
    read = unpackb(RECORDED_MSGPACK_NUMPY)
    assert same(msgpack_numpy_values(), read)
    assert isinstance(read["int"], np.int16) and isinstance(read["flag"], np.bool_)
    in_text = msgpack.packb(with_text_keys(msgpack.unpackb(RECORDED_MSGPACK_NUMPY)))
    assert same(msgpack_numpy_values(), unpackb(in_text))
    without_kind = {"nd": True, "type": "<f4", "shape": [1], "data": bytes(4)}
    assert same(unpackb(msgpack.packb(without_kind)), np.zeros(1, np.float32))


def test_reads_openpis_arrays_with_text_as_keys() -> None:
    in_text = msgpack.packb(with_text_keys(msgpack.unpackb(RECORDED["observation"])))
    assert same(MESSAGES["observation"], unpackb(in_text))


def test_an_observation_may_be_called_like_the_mark_of_an_array() -> None:
    assert same(unpackb(packb({"nd": np.zeros(3), "data": 1})), {"nd": np.zeros(3), "data": 1})


ND = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [3], b"data": bytes(12)}


@pytest.mark.parametrize(
    ("claim", "what"),
    [
        ({**ND, b"kind": b"O", b"type": "|O"}, "objects or structures"),
        ({**ND, b"kind": b"V", b"type": [["f0", "<f4"]]}, "objects or structures"),
        ({**ND, b"type": "|O"}, "dtype"),
        ({**ND, b"type": [["f0", "<f4"]]}, "dtype"),
        ({**ND, b"shape": [2**40]}, "expected 4,398"),
        ({**ND, b"data": "text"}, "data are str"),
        ({**ND, b"more": 1}, "other keys"),
        ({**ND, "nd": True}, "twice"),
        ({b"nd": True, b"type": "<f4", b"data": bytes(4)}, "other keys"),
        ({b"nd": False, b"type": "<f4", b"data": bytes(8)}, "8 bytes, expected 4"),
        ({b"nd": False, b"type": "|S1", b"data": 2_000_000_000}, "data are int"),
    ],
)
def test_compares_claims_of_msgpack_numpy_with_the_bytes_too(
    claim: dict[Any, Any], what: str
) -> None:
    assert what in refused(msgpack.packb(claim))


def scalar(dtype: str, data: Any) -> bytes:
    return msgpack.packb({b"__npgeneric__": True, b"dtype": dtype, b"data": data})


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        *(("|S1", 2_000_000_000), ("|S9", "text"), ("<U1", 5), ("<U1", b"x"), ("|S1", True)),
        *(("<M8[s]", "2020"), ("<m8[s]", 1.5), ("<M8[s]", True), ("<m8[s]", b"1")),
        *(("<i4", True), ("<i4", 1.5), ("<f4", "1"), ("<f4", True), ("|b1", 1), ("<u1", -1)),
    ],
)
def test_a_scalar_holds_what_its_dtype_is_made_of(dtype: str, data: Any) -> None:
    refused(scalar(dtype, data))


def test_times_are_read_with_their_unit() -> None:
    assert unpackb(scalar("<M8[s]", 5)) == np.datetime64(5, "s")
    assert unpackb(scalar("<m8[ms]", -7)) == np.timedelta64(-7, "ms")
    refused(scalar("<M8", 5))


@pytest.mark.parametrize("level", [b"\x91", b"\x81\xa1x"])
def test_depth_is_bounded_whatever_is_nested(level: bytes) -> None:
    for depth in range(MAXIMUM_DEPTH + 1):
        unpackb(level * depth + b"\x01")
    for depth in (*range(MAXIMUM_DEPTH + 1, 2 * MAXIMUM_DEPTH + 1), 100, 1_000, 10_000, 1_000_000):
        assert "nested more than 8 deep" in refused(level * depth + b"\x01")


def test_a_claimed_length_takes_no_memory() -> None:
    claims = [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        # A list claims as many items as the message has bytes, in every level.
        (b"\xdd" + struct.pack(">I", 100_000)) * 20_000,
        (b"\xdd" + struct.pack(">I", MAXIMUM_ITEMS)) * 20_000,
        (b"\xdc\x10\x00" * 7 + b"\x01") * 1000,
        msgpack.packb([0] * (MAXIMUM_ITEMS + 1)),
        msgpack.packb({str(k): 0 for k in range(MAXIMUM_ITEMS + 1)}),
    ]
    for claim in claims:
        tracemalloc.start()
        refused(claim)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(claim) + 100_000
        tracemalloc.stop()


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.sampled_from(sorted(RECORDED.values()))), st.data())
def test_random_and_damaged_messages_are_read_or_refused(
    message: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(message)
    for _ in range(data.draw(st.integers(0, 4)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        unpackb(bytes(damaged))
