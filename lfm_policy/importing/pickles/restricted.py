"""Files of `torch.save`, read as data: nothing that they name is ever imported or called.

A pickle is a program for a small machine, which may call anything that can be imported. This is
another machine for the same programs. It knows tensors, plain containers and numbers, and the
configuration nodes of omegaconf; what else a file asks for is named in an error. Tensors are read
when they are asked for.
"""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lfm_policy.errors import InputError
from lfm_policy.importing.pickles.pickled import (
    STORAGES,
    Built,
    Global,
    Node,
    Reduced,
    Storage,
    StoredTensor,
)
from lfm_runtime.disk.input_files import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

MAXIMUM_PICKLE_BYTES = 64_000_000
"""Of the program; tensors are beside it."""
MAXIMUM_OPERATIONS = 20_000_000
SHOWN_GLOBALS = 8

_SCALARS = (str, int, float, bool, bytes, type(None))


@dataclass(frozen=True)
class Loaded:
    """What a file of `torch.save` holds; its tensors are `StoredTensor`."""

    path: Path
    content: Any


def load_restricted(path: Path) -> Loaded:
    """Read a file of ``torch.save``, of the zip format that it has had since torch 1.6.

    Raises:
        InputError: it is none, is damaged or truncated, or names a global that is neither a
            tensor, a plain container nor a configuration node; the message lists all of these.
    """
    with _archive(path) as archive:
        names = [name for name in archive.namelist() if name.count("/") == 1]
        programs = [name for name in names if name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise InputError(f"{path}: expected one data.pkl as of torch.save, found {names[:5]}")
        folder = programs[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in names and _read(archive, order, 16) != b"little":
            raise InputError(f"{path}: its numbers are not little-endian, as they have to be")
        program = _read(archive, programs[0], MAXIMUM_PICKLE_BYTES)
        sizes = {info.filename: info.file_size for info in archive.infolist()}

    def storage(persistent_id: Any) -> Storage:
        return _storage(persistent_id, f"{folder}data/", sizes)

    try:
        return Loaded(path, Machine(storage).run(program))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_tensor(path: Path, tensor: StoredTensor) -> Any:
    """Return the numbers of a stored tensor as a `torch.Tensor` of its own.

    Raises:
        InputError: the file is damaged.
    """
    with _archive(path) as archive:
        content = _read(archive, tensor.storage.file, tensor.storage.n_bytes)
    return tensor.made_of(content)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED:
                    raise InputError(
                        f"{path}: '{info.filename[:100]}' is compressed, which torch.save never "
                        "does"
                    )
            yield archive
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
        raise InputError(
            f"{path}: not a whole file of torch.save (a zip archive, since torch 1.6): "
            f"{str(error)[:200]}"
        ) from None


def _read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > most:
        raise InputError(f"'{name}' has {size:,} bytes, expected at most {most:,}")
    file: IO[bytes]
    with archive.open(name) as file:
        return file.read()


def _storage(persistent_id: Any, folder: str, sizes: dict[str, int]) -> Storage:
    """Return what a persistent id of torch means: ("storage", type, key, device, numbers)."""
    if not (isinstance(persistent_id, tuple) and len(persistent_id) == 5):
        raise InputError("it refers to something outside it that is no storage of torch")
    kind, dtype, key, _, count = persistent_id
    file = f"{folder}{key}"
    known = isinstance(dtype, Global) and str(dtype) in STORAGES
    if kind != "storage" or not known or type(count) is not int or type(key) is not str:
        raise InputError(f"it refers to a storage of torch that is not known: {str(dtype)[:100]}")
    name, width = STORAGES[str(dtype)]
    if file not in sizes or sizes[file] < count * width or count < 0:
        raise InputError(
            f"storage {key[:20]!r} has {sizes.get(file, 0):,} bytes, expected {count * width:,}: "
            "the file is damaged"
        )
    return Storage(file, name, count, sizes[file])


class Machine:
    """Runs pickle programs that build data.

    Calls (``REDUCE``, ``NEWOBJ``) are looked up in `pickled.Reduced`, a table from names to
    functions of this package; names that are not there are collected, what they would have made is
    an empty `Built`, and an error names all of them in the end.
    """

    def __init__(self, storage: Callable[[Any], Storage]) -> None:
        self._storage = storage
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._unknown: dict[str, None] = {}

    def run(self, program: bytes) -> Any:
        """Return what the program builds.

        Raises:
            InputError: it is no pickle, is truncated, has operations that no file of torch.save
                has, or names globals that are not known.
        """
        finished = False
        try:
            for count, (code, argument, _) in enumerate(pickletools.genops(program)):
                if count > MAXIMUM_OPERATIONS:
                    raise InputError(f"its pickle has more than {MAXIMUM_OPERATIONS:,} operations")
                if code.name == "STOP":
                    finished = True
                    break
                self._do(code.name, argument)
        except InputError:
            raise
        except (
            ValueError,
            IndexError,
            KeyError,
            TypeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise InputError(f"its pickle is damaged: {str(error)[:200]}") from None
        if self._unknown:
            names = [repr(name[:80]) for name in self._unknown]
            more = len(names) - SHOWN_GLOBALS
            raise InputError(
                f"its pickle asks for {', '.join(names[:SHOWN_GLOBALS])}"
                f"{f' and {more} more' if more > 0 else ''}, which nothing here imports or calls: "
                "expected tensors, plain containers and configuration nodes"
            )
        if not finished or len(self._stack) != 1:
            raise InputError("its pickle is damaged: it does not end with one object")
        return self._stack[0]

    # -- operations ----------------------------------------------------------------------------

    def _do(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            n = _TUPLES[name]
            if len(stack) < n:
                raise ValueError("the stack is empty")
            stack[len(stack) - n :] = [tuple(stack[len(stack) - n :])]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name in ("PROTO", "FRAME"):
            return
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise InputError(f"its pickle has the operation {name}, which no checkpoint needs")

    def _items(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        begin = self._marks.pop()
        items = self._stack[begin:]
        del self._stack[begin:]
        return items

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._items()))

    def _list(self, _: Any) -> None:
        self._stack.append(self._items())

    def _dict(self, _: Any) -> None:
        made: dict[Any, Any] = {}
        _set_items(made, self._items())
        self._stack.append(made)

    def _append(self, _: Any) -> None:
        _extend(self._stack[-2], [self._stack.pop()])

    def _appends(self, _: Any) -> None:
        items = self._items()
        _extend(self._stack[-1], items)

    def _set_item(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        _set_items(self._stack[-1], [key, value])

    def _set_items(self, _: Any) -> None:
        items = self._items()
        _set_items(self._stack[-1], items)

    def _global(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self._named(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a global without a name")
        self._named(module, name)

    def _named(self, module: str, name: str) -> None:
        found = Global("builtins" if module == "__builtin__" else module, name)  # of Python 2
        if not found.known:
            self._unknown[str(found)] = None
        self._stack.append(found)

    def _persistent(self, _: Any) -> None:
        self._stack.append(self._storage(self._stack.pop()))

    def _call(self, _: Any) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(arguments, tuple):
            raise ValueError("a call without arguments")
        if isinstance(called, Global) and called.known:
            self._stack.append(Reduced.of(called, arguments))
            return
        if isinstance(called, Global):  # also one that dill has named
            self._unknown[str(called)] = None
        elif not isinstance(called, Built):
            raise ValueError(f"a call of {type(called).__name__}")
        self._stack.append(Built())

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        made = self._stack[-1]
        if isinstance(made, Node):
            made.state = state
        elif not isinstance(made, (dict, StoredTensor, Built)):
            # Attributes of containers (a state dict has `_metadata`) are not needed.
            raise ValueError(f"a state of {type(made).__name__}")


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Built):
        raise ValueError(f"items of {type(target).__name__}")


def _set_items(target: Any, items: list[Any]) -> None:
    if isinstance(target, Built):
        return
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError(f"items of {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Nothing whose hash could take long: tuples may be nested, with parts in common.
        parts = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, _SCALARS) for part in parts):
            raise InputError(f"its pickle has a key that is a {type(key).__name__}")
        target[key] = value


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    ]
)
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "TUPLE": Machine._tuple,
    "LIST": Machine._list,
    "DICT": Machine._dict,
    "APPEND": Machine._append,
    "APPENDS": Machine._appends,
    "SETITEM": Machine._set_item,
    "SETITEMS": Machine._set_items,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "BINPERSID": Machine._persistent,
    "REDUCE": Machine._call,
    "NEWOBJ": Machine._call,
    "BUILD": Machine._build,
}
