"""Columns of parquet files as arrays and back; what a file claims is checked first."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lfm_policy.data.lerobot.files import similar_names
from lfm_policy.data.lerobot.info import WITHOUT_IT
from lfm_policy.errors import InputError, reading

_BATCH_VALUES = 2**22
_BUFFER_BYTES = 2**20


class ColumnError(InputError):
    """A column is absent or of another type than expected, whatever its rows hold."""


@dataclass(frozen=True)
class Column:
    """What a column of numbers has to hold.

    Attributes:
        dtype: of the array that it becomes; values are converted where nothing is lost but
            precision.
        shape: of one row; (1,) stands for a column of plain numbers too.
        said_by: who expects that, for messages.
    """

    dtype: np.dtype
    shape: tuple[int, ...] = (1,)
    said_by: str = "as LeRobot writes it"


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file; every failure of pyarrow until it is closed becomes an :class:`InputError`.

    Columns are read through a small buffer, so that a large row group is never all in memory.
    """
    # pyarrow raises half a dozen kinds, and memory it was told to take is one of them.
    with (
        reading(
            f"{path}: the parquet file cannot be read",
            "it is cut off or damaged; download or copy the dataset again",
        ),
        pq.ParquetFile(path, buffer_size=_BUFFER_BYTES) as file,
    ):
        yield file


def read_columns(
    file: pq.ParquetFile, path: Path, columns: Mapping[str, Column], n_rows: int
) -> dict[str, np.ndarray]:
    """Return the first ``n_rows`` rows of ``columns``.

    Args:
        file: opened by :func:`open_parquet`.
        path: its name, for messages.
        columns: what to read.
        n_rows: at most as many as the file says it has.

    Returns:
        column -> C-contiguous array (n_rows, *shape) of its dtype.

    Raises:
        InputError: a column is absent, holds other numbers than expected, or an empty value.
    """
    for name, column in columns.items():
        check_type(file, path, name, column)
    parts: dict[str, list[np.ndarray]] = {
        name: [np.zeros((0, *column.shape), column.dtype)] for name, column in columns.items()
    }
    largest = max(math.prod(column.shape) for column in columns.values())
    batch_size = min(max(_BATCH_VALUES // largest, 16), 2**16)
    done = 0
    for batch in file.iter_batches(batch_size=batch_size, columns=list(columns)):
        batch = batch.slice(0, n_rows - done)
        for name, column in columns.items():
            values = batch.column(batch.schema.get_field_index(name))
            parts[name].append(_to_numpy(values, column, f"{path}: column '{name}'", done))
        done += batch.num_rows
        if done >= n_rows:
            break
    if done < n_rows:
        raise InputError(f"{path}: holds {done} rows, but says it has {n_rows}: it is damaged")
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def check_column(file: pq.ParquetFile, path: Path, name: str) -> pa.DataType:
    """Return the type of a column.

    Raises:
        ColumnError: it is not there exactly once.
    """
    names = file.schema_arrow.names
    if names.count(name) != 1:
        found = f"there are {names.count(name)} columns" if name in names else "there is no column"
        raise ColumnError(f"{path}: {found} '{name}': {similar_names(name, names)}")
    return file.schema_arrow.field(name).type


def check_type(file: pq.ParquetFile, path: Path, name: str, column: Column) -> None:
    """Compare the type of a column with what is expected; no value is read.

    Not its statistics in the footer: where they are damaged, pyarrow ends the whole process.

    Raises:
        ColumnError: it is not there, holds no numbers, or lists of another depth.
    """
    source = f"{path}: column '{name}'"
    leaf, depth = _unwrap(check_column(file, path, name))
    if not (pa.types.is_floating(leaf) or pa.types.is_integer(leaf) or pa.types.is_boolean(leaf)):
        raise ColumnError(
            f"{source} has type {str(leaf)[:200]}; expected numbers, {column.dtype} of shape "
            f"{list(column.shape)} per row"
        )
    found = np.dtype(leaf.to_pandas_dtype())
    is_flag = column.dtype.kind == "b" and found.kind in "iu"  # 0 and 1 stand for no and yes
    if not (is_flag or np.can_cast(found, column.dtype, "same_kind")):
        raise ColumnError(f"{source} holds {found}; expected {column.dtype}, {column.said_by}")
    if depth != len(column.shape) and (depth, column.shape) != (0, (1,)):
        raise ColumnError(
            f"{source} holds {f'lists of depth {depth}' if depth else 'plain numbers'}; expected "
            f"shape {list(column.shape)} per row, {column.said_by}"
        )


def _to_numpy(array: Any, column: Column, source: str, first_row: int) -> np.ndarray:
    """Return an Arrow array as (rows, *shape)."""
    n_rows, rows_per_value = len(array), 1
    for size in column.shape:
        array = _without_extension(array)
        if not _is_list(array.type):
            break  # plain numbers, which stand for shape (1,)
        _check_no_nulls(array, source, first_row, rows_per_value)
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        if (lengths != size).any():
            wrong = int(np.argmax(lengths != size))
            raise InputError(
                f"{source} holds a list of {lengths[wrong]} in row "
                f"{first_row + wrong // rows_per_value}; expected {size}: shape "
                f"{list(column.shape)} per row, {column.said_by}; repair it, or {WITHOUT_IT}"
            )
        array = array.flatten()
        rows_per_value *= size
    array = _without_extension(array)
    _check_no_nulls(array, source, first_row, rows_per_value)
    values = array.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # a float beyond the dtype becomes infinite, which is refused
        converted = values.astype(column.dtype)
    if values.dtype.kind in "iu" and not (converted == values).all():  # bool: 0 and 1
        wrong = int(np.argmax(converted != values))
        raise InputError(
            f"{source} holds {values[wrong]} in row {first_row + wrong // rows_per_value}; "
            f"expected values of {column.dtype}, {column.said_by}"
        )
    return converted.reshape(n_rows, *column.shape)


def _check_no_nulls(array: Any, source: str, first_row: int, rows_per_value: int) -> None:
    if array.null_count:
        wrong = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(
            f"{source} is empty (null) in row {first_row + wrong // rows_per_value}; expected a "
            "value in every row: repair or drop this episode"
        )


def _unwrap(kind: Any) -> tuple[Any, int]:
    """Return the innermost type and how many lists are around it."""
    depth = 0
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif _is_list(kind):
            kind, depth = kind.value_type, depth + 1
        else:
            return kind, depth


def _without_extension(array: Any) -> Any:
    # LeRobot's matrices are of an extension type where the package `datasets` is imported.
    return array.storage if isinstance(array.type, pa.BaseExtensionType) else array


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def arrow_type(array: np.ndarray) -> Any:
    """Return the type of a column; LeRobot has plain values where a step is one number."""
    kind = pa.from_numpy_dtype(array.dtype)
    shape = array.shape[1:]
    if shape == (1,):
        return kind
    if len(shape) == 1:
        return pa.list_(kind, shape[0])
    for _ in shape:
        kind = pa.list_(kind)
    return kind


def to_arrow(array: np.ndarray) -> Any:
    """Return (n, ...) values as a column of `arrow_type`, without a detour over Python objects."""
    kind, shape = arrow_type(array), array.shape[1:]
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    if shape == (1,):
        return values
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(values, type=kind)
    for depth in reversed(range(len(shape))):
        count = math.prod(array.shape[: depth + 1])
        offsets = np.arange(count + 1, dtype=np.int32) * np.int32(shape[depth])
        values = pa.ListArray.from_arrays(pa.array(offsets), values)
    return values.cast(kind)


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write the table of tasks: LeRobot reads it with pandas and expects them as its index."""
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": pandas_type,
                "numpy_type": numpy_type,
                "metadata": None,
            }
            for name, pandas_type, numpy_type in (
                ("task_index", "int64", "int64"),
                ("task", "unicode", "object"),
            )
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    numbers = pa.array(range(len(tasks)), pa.int64())
    table = pa.table({"task_index": numbers, "task": pa.array(tasks, pa.string())})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)
