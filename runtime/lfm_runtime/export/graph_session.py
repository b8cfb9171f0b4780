"""A graph in ONNX Runtime, opened only when it is what it has to be."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from lfm_runtime.disk.input_files import read_bounded, require_file
from lfm_runtime.errors import InputError
from lfm_runtime.export.graph_file import MAXIMUM_BYTES, check_graph

MAXIMUM_THREADS = 1024


class GraphSession:
    """Runs a graph of one output on the CPU."""

    def __init__(
        self,
        path: Path,
        *,
        inputs: Mapping[str, tuple[str, tuple[int, ...]]],
        outputs: Mapping[str, tuple[str, tuple[int, ...]]],
        sha256: str,
        threads: int,
    ) -> None:
        """Open a graph.

        Args:
            path: the ONNX file.
            inputs: dtype and shape of one row of each, in their order.
            outputs: the same of the one output.
            sha256: of the file.
            threads: CPU threads.

        Raises:
            InputError: the file is missing, damaged or another one, reaches out of itself (see
                `check_graph`), or has other inputs or outputs.
        """
        if not 1 <= threads <= MAXIMUM_THREADS:
            raise InputError(f"threads is {threads}, expected 1 to {MAXIMUM_THREADS}")
        self._path = path
        require_file(path, maximum_bytes=MAXIMUM_BYTES)  # before any of it is in memory
        content = read_bounded(path, MAXIMUM_BYTES)
        # The bytes that are checked are the bytes that are opened.
        if hashlib.sha256(content).hexdigest() != sha256:
            raise InputError(
                f"{path}: its content does not match the checksum in policy.json: it is damaged or "
                "belongs to another export; copy the whole folder again"
            )
        check_graph(content, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised, and need not be printed too
        # What was checked is ONNX; nothing in it may make ONNX Runtime take it for something else.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own, of a dozen kinds without a common base
            raise self._unusable(error) from None
        self._check("input", self._session.get_inputs(), inputs)
        self._check("output", self._session.get_outputs(), outputs)
        (self._output,) = outputs

    def run(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the output for a batch."""
        result: np.ndarray = self._session.run([self._output], feed)[0]
        return result

    def try_out(self, feed: Mapping[str, np.ndarray]) -> None:
        """Run it once.

        Raises:
            InputError: it fails, or its output has another shape than described.
        """
        try:
            self.run(feed)
        except Exception as error:
            raise self._unusable(error) from None

    def _check(
        self, kind: str, found: list, expected: Mapping[str, tuple[str, tuple[int, ...]]]
    ) -> None:
        described = {name: (dtype, list(shape)) for name, (dtype, shape) in expected.items()}
        actual = {
            node.name: (_DTYPES.get(node.type, node.type), list(node.shape[1:])) for node in found
        }
        fixed = [node for node in found if isinstance(node.shape[0], int)]
        if fixed and actual == described:
            raise InputError(
                f"{self._path}: the {kind} '{fixed[0].name}' has {fixed[0].shape[0]} rows and no "
                "other number, so it cannot be asked about one robot: export it again"
            )
        if actual != described:
            raise InputError(
                f"{self._path}: has the {kind}s {_brief(actual)}, policy.json describes "
                f"{_brief(described)} after the batch: the files do not belong together"
            )

    def _unusable(self, error: Exception) -> InputError:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        return InputError(f"{self._path}: ONNX Runtime cannot run it: {reason}")


_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(uint8)": "uint8"}


def _brief(values: Mapping[str, tuple[str, list]]) -> str:
    return ", ".join(f"'{k}' {dtype} {shape}" for k, (dtype, shape) in values.items())[:500]
