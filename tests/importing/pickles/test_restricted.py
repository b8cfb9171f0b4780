"""Hostile pickles: what they name is said, and nothing of it happens."""

from __future__ import annotations

import builtins
import collections
import functools
import io
import os
import pickle
import pickletools
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.importing.pickles.pickled import Node, plain
from lfm_policy.importing.pickles.restricted import load_restricted, read_tensor


class Call:
    """Pickles as a call of anything."""

    def __init__(self, called: Any, *arguments: Any) -> None:
        self.reduced = (called, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def written(path: Path, program: bytes, *, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a pickle as torch.save does, with one storage of 8 numbers."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", struct.pack("<8f", *range(8)))
    return path


def tensor_program(
    count: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> bytes:
    """Return the program of one tensor on the storage "0", which is said to have ``count``."""
    file = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, found: Any) -> Any:
            return found.id if isinstance(found, Stored) else None

    class Stored:
        id = ("storage", torch.FloatStorage, "0", "cpu", count)

    rebuild = torch._utils._rebuild_tensor_v2  # type: ignore[attr-defined]
    arguments = (Stored(), offset, shape, stride, False, collections.OrderedDict())
    Pickler(file, 2).dump(Call(rebuild, *arguments))
    return file.getvalue()


def _global(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


CALLS: dict[str, Callable[..., Any]] = {
    "posix.system": os.system,
    "posix.remove": os.remove,
    ".Popen": subprocess.Popen,
    "builtins.eval": eval,
    "builtins.exec": exec,
    "builtins.__import__": builtins.__import__,
    "io.open": open,
    "builtins.getattr": getattr,
    "pickle.loads": pickle.loads,
    "functools.partial": functools.partial,
    "torch.serialization.load": torch.load,
    "torch.hub.load": torch.hub.load,
    "builtins.bytearray": bytearray,
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", CALLS)
def test_calls_are_named_and_not_made(name: str, protocol: int, tmp_path: Path) -> None:
    called = CALLS[name]
    argument = f"touch {tmp_path / 'made'}"
    program = pickle.dumps({"weights": [Call(called, argument)]}, protocol)
    file = written(tmp_path / "a.ckpt", program)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        load_restricted(file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "INST": (b"(" + _text("touch x") + b"ios\nsystem\n.", "operation INST"),
    "OBJ": (b"(" + _global("os", "system") + _text("touch x") + b"o.", "operation OBJ"),
    "EXT1": (b"\x80\x02\x82\x01.", "operation EXT1"),
    "NEWOBJ_EX": (
        b"\x80\x04" + _global("os", "system") + b")}\x92.",
        "operation NEWOBJ_EX",
    ),
    "a class by NEWOBJ": (b"\x80\x02" + _global("os", "_wrap_close") + b")\x81.", "os._wrap_close"),
    "dotted names": (
        b"\x80\x04" + _text("collections") + _text("OrderedDict.__class__.mro") + b"\x93)R.",
        "OrderedDict.__class__.mro",
    ),
    "a type that dill names": (
        b"\x80\x02" + _global("dill._dill", "_load_type") + _text("eval") + b"\x85R(K\x01tR.",
        "builtins.eval",
    ),
    "other names of dill": (
        b"\x80\x02" + _global("dill._dill", "_create_code") + b")R.",
        "dill._dill._create_code",
    ),
    "a state of a type": (
        b"\x80\x02" + _global("collections", "OrderedDict") + b"}b.",
        "state of Global",
    ),
    "a type as a call": (b"\x80\x02" + _global("typing", "Any") + b")R.", "typing.Any"),
    "another codec": (
        b"\x80\x02" + _global("_codecs", "encode") + _text("x") + _text("zip") + b"\x86R.",
        "Latin 1",
    ),
    "a persistent id": (b"\x80\x02" + _text("touch x") + b"Q.", "no storage of torch"),
    "an unknown storage": (
        b"\x80\x02("
        + _text("storage")
        + _global("os", "system")
        + _text("0")
        + _text("cpu")
        + b"K\x08tQ.",
        "os.system",
    ),
    "a key that takes long to hash": (
        b"\x80\x02})" + b"q\x00h\x00\x86" * 100 + b"K\x01s.",
        "key that is a tuple",
    ),
    "a memo that is not there": (b"\x80\x02j\xff\xff\xff\x7f.", "damaged"),
    "no end": (b"\x80\x02}", "damaged"),
    "nothing": (b".", "damaged"),
    "more than one object": (b"\x80\x02}}.", "damaged"),
    "a text beyond the file": (b"\x80\x02X\xff\xff\xff\x7fabc.", "damaged"),
    "no pickle": (b"PK\x03\x04", "damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_programs(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, message = HOSTILE[case]
    file = written(tmp_path / "a.ckpt", program)
    with pytest.raises(InputError) as raised:
        load_restricted(file)
    assert message in str(raised.value) and str(file) in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_memo_of_any_index_costs_nothing(tmp_path: Path) -> None:
    # The unpickler of C would make room for two thousand million entries.
    file = written(tmp_path / "a.ckpt", b"\x80\x02}r\xff\xff\xff\x7f.")
    assert load_restricted(file).content == {}


def test_all_unknown_names_are_in_one_message(tmp_path: Path) -> None:
    program = pickle.dumps([Call(os.system, "x"), Call(eval, "1"), collections.Counter()], 2)
    with pytest.raises(InputError) as raised:
        load_restricted(written(tmp_path / "a.ckpt", program))
    for name in ("posix.system", "eval", "collections.Counter"):
        assert name in str(raised.value)


@pytest.mark.parametrize(
    ("count", "offset", "shape", "stride"),
    [
        (8, 0, (1_000_000, 1_000_000), (0, 0)),  # any number of numbers, none of them stored
        (8, 0, (3, 3), (3, 1)),
        (8, 7, (2,), (1,)),
        (8, 0, (2, 2), (7, 7)),
        (9, 0, (9,), (1,)),  # more than the archive has
        (1 << 60, 0, (1,), (1,)),
    ],
)
def test_tensors_lie_in_their_storage(
    count: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], tmp_path: Path
) -> None:
    program = tensor_program(count, offset, shape, stride)
    with pytest.raises(InputError, match="stored|damaged"):
        load_restricted(written(tmp_path / "a.ckpt", program))


def test_a_part_of_a_storage(tmp_path: Path) -> None:
    program = tensor_program(8, 1, (2, 3), (1, 2))
    loaded = load_restricted(written(tmp_path / "a.ckpt", program))
    tensor = read_tensor(loaded.path, loaded.content)
    assert tensor.tolist() == [[1, 3, 5], [2, 4, 6]]


def test_archives(tmp_path: Path) -> None:
    program = pickle.dumps({}, 2)
    whole = written(tmp_path / "a.ckpt", program)
    assert load_restricted(whole).content == {}
    packed = written(tmp_path / "b.ckpt", program, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed"):
        load_restricted(packed)
    content = whole.read_bytes()
    for name, part in {"c": content[: len(content) // 2], "d": b"", "e": b"\x80\x02}."}.items():
        (tmp_path / name).write_bytes(part)
        with pytest.raises(InputError, match=r"torch\.save"):
            load_restricted(tmp_path / name)
    with pytest.raises(InputError, match="nothing"):
        load_restricted(tmp_path / "absent")


def test_what_torch_saves(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    half = torch.arange(6, dtype=torch.float16).view(2, 3)
    content = {
        "weights": module.state_dict(),
        "views": [half, half.t(), half[1:], torch.empty(0), torch.tensor(3)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "bytes": b"\xff\x00",
        "numbers": (1, -2.5, 1 << 70, None, True),
        "default": collections.defaultdict(list, {"a": [1]}),
    }
    torch.save(content, tmp_path / "a.pt")
    loaded = load_restricted(tmp_path / "a.pt")
    for name, tensor in module.state_dict().items():
        found = read_tensor(loaded.path, loaded.content["weights"][name])
        assert torch.equal(found, tensor) and found.dtype == tensor.dtype
    for found, tensor in zip(loaded.content["views"], content["views"], strict=True):
        assert torch.equal(read_tensor(loaded.path, found), tensor)  # type: ignore[arg-type]
    assert read_tensor(loaded.path, loaded.content["parameter"]).tolist() == [1, 1]
    for key in ("bytes", "numbers", "default"):
        assert loaded.content[key] == content[key]


def test_configurations_that_never_end() -> None:
    inside: dict[str, Any] = {}
    inside["again"] = inside
    with pytest.raises(InputError, match="levels deep"):
        plain(inside, "cfg")
    with pytest.raises(InputError, match="without a value"):
        plain({"a": Node("omegaconf.nodes.AnyNode")}, "cfg")
    node = Node("omegaconf.nodes.AnyNode", {"_val": 3})
    many = Node("omegaconf.listconfig.ListConfig", {"_content": [node, node]})
    assert plain(Node("omegaconf.dictconfig.DictConfig", {"_content": {"a": many}}), "cfg") == {
        "a": [3, 3]
    }


def test_the_programs_are_what_they_say() -> None:
    for program, message in HOSTILE.values():
        if message != "damaged":
            assert list(pickletools.genops(program))
