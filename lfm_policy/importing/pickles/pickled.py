"""What pickles of checkpoints are made of, as data; see `restricted`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lfm_policy.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

STORAGES = {
    "torch.FloatStorage": ("float32", 4),
    "torch.DoubleStorage": ("float64", 8),
    "torch.HalfStorage": ("float16", 2),
    "torch.BFloat16Storage": ("bfloat16", 2),
    "torch.LongStorage": ("int64", 8),
    "torch.IntStorage": ("int32", 4),
    "torch.ShortStorage": ("int16", 2),
    "torch.ByteStorage": ("uint8", 1),
    "torch.BoolStorage": ("bool", 1),
}
"""dtype and bytes per number."""

CONFIG_NODES = frozenset(
    {
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        "omegaconf.nodes.AnyNode",
        "omegaconf.nodes.BooleanNode",
        "omegaconf.nodes.FloatNode",
        "omegaconf.nodes.IntegerNode",
        "omegaconf.nodes.StringNode",
        "omegaconf.base.ContainerMetadata",
        "omegaconf.base.Metadata",
    }
)
MARKERS = frozenset({"typing.Any", "builtins.dict", "builtins.list", "builtins.int"})
"""Named in files beside data, to say of which type these are; they mean nothing here."""

DEEPEST = 64
"""Levels of a configuration."""


@dataclass(frozen=True)
class Global:
    """The name of something in a module; never more than the name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def known(self) -> bool:
        """Whether there is data that it stands for."""
        text = str(self)
        return text in STORAGES or text in CONFIG_NODES or text in MARKERS or text in _MADE


@dataclass
class Node:
    """A configuration node of omegaconf: its kind and the state it was pickled with."""

    kind: str
    state: Any = None


class Built:
    """In place of what an unknown global would have made; a file with one is refused."""


@dataclass(frozen=True)
class Storage:
    """Numbers of a tensor in the archive.

    Attributes:
        file: its name there.
        dtype: as torch calls it.
        count: numbers.
        n_bytes: of the file, at least ``count`` numbers.
    """

    file: str
    dtype: str
    count: int
    n_bytes: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that has not been read."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def made_of(self, content: bytes) -> Tensor:
        """Return the tensor, given the bytes of its storage."""
        import torch

        if not self.storage.count:
            return torch.empty(self.shape, dtype=getattr(torch, self.storage.dtype))
        numbers = torch.frombuffer(
            bytearray(content), dtype=getattr(torch, self.storage.dtype), count=self.storage.count
        )
        return numbers.as_strided(self.shape, self.stride, self.offset).clone()


class Reduced:
    """What known names make of their arguments."""

    @staticmethod
    def of(called: Global, arguments: tuple[Any, ...]) -> Any:
        """Return what a call of ``called`` means.

        Raises:
            InputError: the arguments are none that a file of torch.save has.
        """
        name = str(called)
        if name in CONFIG_NODES:
            return Node(name)
        if name not in _MADE:
            raise InputError(f"its pickle calls {name}, which is data")
        return _MADE[name](*arguments)


def plain(value: Any, label: str, depth: int = 0) -> Any:
    """Return a configuration as dicts, lists and scalars.

    Raises:
        InputError: it is nested too deeply, or holds something else; ``label`` says where.
    """
    if depth > DEEPEST:
        raise InputError(f"{label}: is nested more than {DEEPEST} levels deep")
    if isinstance(value, Node):
        state = value.state if isinstance(value.state, dict) else {}
        key = "_content" if value.kind.endswith("Config") else "_val"
        if key not in state:
            raise InputError(f"{label}: is a configuration node ({value.kind}) without a value")
        return plain(state[key], label, depth + 1)
    if isinstance(value, dict):
        return {k: plain(v, f"{label}.{str(k)[:60]}", depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, f"{label}[{n}]", depth + 1) for n, v in enumerate(value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise InputError(f"{label}: expected plain values, found {type(value).__name__}")


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """Return a tensor of torch._utils._rebuild_tensor_v2; its numbers lie in its storage."""
    sizes_ok = all(
        isinstance(part, tuple) and all(type(n) is int and n >= 0 for n in part)
        for part in (shape, stride)
    )
    if not (isinstance(storage, Storage) and type(offset) is int and offset >= 0 and sizes_ok):
        raise InputError("its pickle has a tensor without storage, offset, shape and stride")
    if len(shape) != len(stride) or len(shape) > 8:
        raise InputError(f"its pickle has a tensor of shape {shape[:9]} and stride {stride[:9]}")
    numbers = 1
    for size in shape:
        numbers *= size
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    # Not more than are stored: a stride of 0 could make any number of them.
    if numbers > storage.count or (numbers and last >= storage.count):
        raise InputError(
            f"its pickle has a tensor of shape {shape} with only {storage.count:,} numbers stored"
        )
    return StoredTensor(storage, offset, shape, stride)


def _parameter(tensor: Any, *_: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise InputError("its pickle has a parameter that is no tensor")
    return tensor


def _mapping(*arguments: Any) -> dict[Any, Any]:
    """Return an ordered or default dict; the latter's default is never asked for."""
    if not arguments or isinstance(arguments[0], Global):
        return {}
    pairs = arguments[0]
    if not isinstance(pairs, (list, tuple)):
        raise InputError("its pickle has a dict made of something else than pairs")
    made: dict[Any, Any] = {}
    for pair in pairs:
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)):
            raise InputError("its pickle has a dict made of something else than pairs")
        made[pair[0]] = pair[1]
    return made


def _encoded(text: Any, encoding: Any = "", *_: Any) -> bytes:
    """Return bytes, which old protocols write as text in Latin 1."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise InputError("its pickle encodes something else than bytes as Latin 1")
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise InputError("its pickle encodes text that is not Latin 1") from None


def _type(name: Any, *_: Any) -> Global:
    """Return a builtin type that dill names; only ever its name."""
    return Global("builtins", str(name)[:40])


_MADE: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "_codecs.encode": _encoded,
    "dill._dill._load_type": _type,
}
