"""Exported folders that are damaged, exchanged or hostile: one clear error, nothing opened."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.policy import Policy
from lfm_runtime import InputError, OnnxPolicy
from lfm_runtime.disk.input_files import content_digest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(exported: tuple[Policy, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[1], tmp_path / "copy"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object], *, sign: bool = True) -> None:
    """Change policy.json, with its checksum unless ``sign`` is false."""
    path = folder / "policy.json"
    content = json.loads(path.read_text())
    stated = content.pop("sha256")
    change(content)
    digest = content_digest(content) if sign else stated
    path.write_text(json.dumps({**content, "sha256": digest}))


def put_graph(folder: Path, data: bytes) -> None:
    """Exchange policy.onnx as somebody would who can sign too."""
    (folder / "policy.onnx").write_bytes(data)
    edit(folder, lambda c: c["graph"].update(sha256=hashlib.sha256(data).hexdigest()))


def set_key(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not an exported policy: expected 'policy\.json'"):
        OnnxPolicy(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_key("format", value="other"), "format: found 'other', expected 'lfm-policy-export'"),
        (set_key("format_version", value=2), "reads up to 1: upgrade lfm-policy-runtime"),
        (set_key("format_version", value="1"), "format_version: found '1', expected a number"),
        (set_key("horizon", value=10**12), "horizon: found '1000000000000', expected a number fro"),
        (set_key("horizon", value=True), "horizon: found 'True'"),
        (set_key("n_action_steps", value=6), "n_action_steps: found '6', expected at most horizon"),
        (set_key("n_obs_steps", value=None), "n_obs_steps: found 'None'"),
        (set_key("max_prefix", value=-1), "max_prefix: found '-1'"),
        (set_key("also_trained_on", value="goal"), "also_trained_on: found 'goal', expected names"),
        (set_key("max_prefix", value=3), r"has the inputs .* do not belong together"),
        (set_key("data", "action_dim", value=2), "ranges.action"),
        (set_key("data", "obs_shapes", "pose", value=[5]), r"ranges\.pose: .*low and high of 5"),
        (set_key("data", "obs_shapes", value={"image": [9_999_999, 9_999_999, 3]}), "one row of"),
        (set_key("data", "obs_shapes", value={"pose": [4]}), r"has the inputs .* do not belong"),
        (set_key("ranges", value={}), "ranges.agent_pos"),
        (set_key("ranges", "pose", "low", value=[1e9] * 4), "ranges.pose: .*low at most high"),
        (set_key("sampler", "nfe", value=0), "sampler.nfe: found '0', expected a positive number"),
        (set_key("sampler", "nfe_per_block", value=["x"]), "sampler.nfe_per_block"),
        (set_key("sampler", "block_times", value=[0.3]), "sampler.block_times"),
        (set_key("precision", value="fp4"), "precision: found 'fp4', expected one of fp32"),
        (set_key("env", value=[]), "env: found"),
        (set_key("graph", value=None), "graph: found 'None'"),
        (set_key("parameters", value={"total": "many"}), "parameters: found"),
        (set_key("training", value={"steps": "many"}), "training: found"),
        (set_key("clips_actions", value=1), "clips_actions: found '1', expected true or false"),
    ],
)
def test_descriptions_that_cannot_be(
    folder: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(InputError, match=message) as error:
        OnnxPolicy(folder)
    assert str(folder) in str(error.value)


def test_an_edited_description(folder: Path) -> None:
    edit(folder, set_key("n_action_steps", value=1), sign=False)
    with pytest.raises(InputError, match="does not match its checksum: it is damaged or was edit"):
        OnnxPolicy(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_description_that_is_no_json_object(folder: Path, content: bytes) -> None:
    (folder / "policy.json").write_bytes(content)
    with pytest.raises(InputError, match=r"policy\.json: "):
        OnnxPolicy(folder)


def test_a_graph_that_is_missing_a_pipe_or_truncated(folder: Path) -> None:
    path = folder / "policy.onnx"
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(InputError, match="expected a file, found nothing"):
        OnnxPolicy(folder)
    os.mkfifo(path)
    with pytest.raises(InputError, match="not a regular file"):
        OnnxPolicy(folder)
    path.unlink()
    for end in (0, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=r"does not match the checksum in policy\.json"):
            OnnxPolicy(folder)
        put_graph(folder, data[:end])
        with pytest.raises(InputError, match=r"policy\.onnx: (not an ONNX model|ONNX Runtime)"):
            OnnxPolicy(folder)


def test_random_bytes_are_no_graph(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for size in range(0, 400, 7):
        put_graph(folder, generator.bytes(size))
        with pytest.raises(InputError, match=r"policy\.onnx: (not an ONNX model|ONNX Runtime|has)"):
            OnnxPolicy(folder)


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_bad_threads(folder: Path, threads: int) -> None:
    with pytest.raises(InputError, match=f"threads is {threads}, expected 1 to 1024"):
        OnnxPolicy(folder, threads=threads)


# -- graphs of somebody else -----------------------------------------------------------------------


def graph(folder: Path) -> Any:
    return onnx.load_model(str(folder / "policy.onnx"))


def refused(folder: Path, model: Any, message: str) -> None:
    put_graph(folder, model.SerializeToString())
    with pytest.raises(InputError, match=message) as error:
        OnnxPolicy(folder)
    assert "policy.onnx" in str(error.value)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "weights.bin"])
def test_numbers_in_other_files(folder: Path, location: str) -> None:
    (folder / "weights.bin").write_bytes(bytes(1 << 16))
    model = graph(folder)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    name = tensor.name
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    refused(folder, model, f"keeps the numbers of '{name}' in another file")


def test_numbers_in_other_files_within_an_operation(folder: Path) -> None:
    model = graph(folder)
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))
    refused(folder, model, "keeps the numbers of 't' in another file")


def test_custom_operations_functions_and_graphs_within_graphs(folder: Path) -> None:
    whole = graph(folder)

    def changed() -> Any:
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        return model

    model = changed()
    model.graph.node[0].domain = "my.company"
    refused(folder, model, "uses the custom operation '.*' of 'my.company'")

    model = changed()
    model.functions.append(
        helper.make_function("d", "f", ["x"], ["y"], [], [helper.make_opsetid("", 20)])
    )
    refused(folder, model, "brings functions of its own")

    model = changed()
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node.append(
        helper.make_node("If", ["c"], ["unused"], then_branch=inner, else_branch=inner)
    )
    refused(folder, model, "has a graph within an operation")

    model = changed()
    model.graph.sparse_initializer.append(onnx.SparseTensorProto())
    refused(folder, model, "has sparse numbers")


def test_an_unknown_operation(folder: Path) -> None:
    model = graph(folder)
    model.graph.node[0].op_type = "Telepathy"
    refused(folder, model, "ONNX Runtime cannot run it")


def test_shapes_without_numbers(folder: Path) -> None:
    model = graph(folder)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.dims[0] = 1 << 40
    refused(folder, model, "ONNX Runtime cannot run it")


def test_more_memory_than_there_is(folder: Path) -> None:
    model = graph(folder)
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["inner" if name == output else name for name in node.output]
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([1 << 46], np.int64), "huge_shape")
    )
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["zero"], keepdims=0),
            helper.make_node("Add", ["inner", "zero"], [output]),
        ]
    )
    refused(folder, model, "ONNX Runtime cannot run it")


def test_a_graph_of_another_policy(folder: Path) -> None:
    model = graph(folder)
    pose = next(value for value in model.graph.input if value.name == "pose")
    pose.type.tensor_type.shape.dim[2].dim_value = 5
    del model.graph.value_info[:]
    refused(folder, model, r"ONNX Runtime cannot run it|do not belong together")

    model = graph(folder)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    refused(folder, model, "do not belong together|ONNX Runtime cannot run it")
