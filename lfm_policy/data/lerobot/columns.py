"""Columns of LeRobot's parquet files, made of arrays."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


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


def to_arrow(array: np.ndarray, kind: Any) -> Any:
    """Return (n, ...) values as a column of type ``kind``, without a detour over Python objects."""
    shape = array.shape[1:]
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    if shape == (1,):
        return values
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(values, type=kind)
    for depth in reversed(range(len(shape))):
        count = math.prod(array.shape[: depth + 1])
        offsets = np.arange(count + 1, dtype=np.int32) * shape[depth]
        values = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)
    return values.cast(kind)


def write_tasks(path: Path, task: str) -> None:
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
            _pandas_column("task_index", "int64", "int64"),
            _pandas_column("task", "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array([0], pa.int64()), "task": [task]})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _pandas_column(name: str, pandas_type: str, numpy_type: str) -> dict[str, Any]:
    return {
        "name": name,
        "field_name": name,
        "pandas_type": pandas_type,
        "numpy_type": numpy_type,
        "metadata": None,
    }
