"""What is written, in which precision, and what cannot be."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.networks.mlp import MLP
from lfm_policy.policy import Policy, load_policy
from lfm_runtime import OnnxPolicy
from lfm_runtime.disk.input_files import sha256_of
from lfm_runtime.export.file import read_description, write_description

from .conftest import build_policy, random_batch

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


def test_the_folder(exported: tuple[Policy, Path]) -> None:
    policy, folder = exported
    assert {path.name for path in folder.iterdir()} == {"policy.onnx", "policy.json"}
    content = json.loads((folder / "policy.json").read_text())
    assert content["graph"]["inputs"] == {
        "agent_pos": {"dtype": "float32", "shape": ["batch", 2, 2]},
        "pose": {"dtype": "float32", "shape": ["batch", 2, 4]},
        "noise": {"dtype": "float32", "shape": ["batch", 6, 3]},
    }
    assert content["graph"]["outputs"]["action"]["shape"] == ["batch", 6, 3]
    assert content["checkpoint_sha256"] == "1" * 64
    assert content["sampler"] == {
        "nfe": 4,
        "solver": "euler",
        "noise_scale": 0.6,
        "renoise": 0.0,
        "guidance": 1.0,
        "nfe_per_block": [2, 2],
        "block_times": [[], []],
    }
    description = read_description(folder)
    assert description.spec.obs_shapes == policy.spec.obs_shapes
    assert description.parameters == policy.parameter_counts()
    low, high = description.ranges["action"]
    np.testing.assert_array_equal(low, policy.normalizer["action"].min.numpy())
    np.testing.assert_array_equal(high, policy.normalizer["action"].max.numpy())


def test_what_it_was_also_trained_on_is_told(exported: tuple[Policy, Path], tmp_path: Path) -> None:
    from lfm_policy.evaluation.exported import ExportedPolicy
    from lfm_policy.exporting.export import _description

    policy, folder = exported
    assert "also_trained_on" not in json.loads((folder / "policy.json").read_text())
    assert "also_trained_on" not in ExportedPolicy(folder).info
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    policy.info["also_trained_on"] = ["goal"]
    try:
        digest = sha256_of(copy / "policy.onnx")
        write_description(copy, _description(policy, "fp32", digest))
    finally:
        del policy.info["also_trained_on"]
    assert read_description(copy).also_trained_on == ("goal",)
    assert ExportedPolicy(copy).info["also_trained_on"] == ["goal"]


@pytest.mark.parametrize(
    "network", [{"name": "mlp", "width": 16}, {"name": "unet1d", "channels": [16, 32]}]
)
def test_a_graph_of_many_evaluations_does_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, network: dict[str, Any]
) -> None:
    from lfm_policy.evaluation.exported import ExportedPolicy
    from lfm_policy.exporting import export_policy, graph

    policy = build_policy(network=network, sampler={"nfe": 6, "noise_scale": 1.0})
    monkeypatch.setattr(graph, "REWRITTEN_EVALUATIONS", 5)
    exported = ExportedPolicy(export_policy(policy, tmp_path / "exported"))
    batch, noise = random_batch(policy, 4), torch.randn(4, *policy.chunk_shape)
    found = exported.sample(batch, noise=noise).chunk
    torch.testing.assert_close(found, policy.sample(batch, noise=noise).chunk, rtol=1e-4, atol=1e-2)


def test_a_graph_has_the_steps_of_each_block(tmp_path: Path) -> None:
    """Of as many evaluations, those that the policy has, and they end where its steps do."""
    from lfm_policy.evaluation.exported import ExportedPolicy
    from lfm_policy.exporting import export_policy

    uneven = {"block_nfe": [1, 1, 3], "block_times": [[], [], [0.6, 0.2]], "noise_scale": 1.0}
    policy = build_policy(n_blocks=3, sampler=uneven)
    exported = ExportedPolicy(export_policy(policy, tmp_path / "out"))
    described = exported.policy.description.sampler.to_dict()
    assert (described["nfe"], described["nfe_per_block"]) == (5, [1, 1, 3])
    assert described["block_times"] == [[], [], [0.6, 0.2]]
    for key in ("nfe", "nfe_per_block", "block_times"):
        assert exported.policy.metadata[key] == policy.metadata[key] == described[key]
    batch, noise = random_batch(policy, 4), torch.randn(4, *policy.chunk_shape)
    found = exported.sample(batch, noise=noise).chunk
    torch.testing.assert_close(found, policy.sample(batch, noise=noise).chunk, rtol=1e-4, atol=1e-2)
    policy.set_sampler(nfe=5)
    evenly = policy.sample(batch, noise=noise).chunk
    assert float((evenly - found).abs().mean()) > 0.1

    exported.set_sampler(nfe=[1, 1, 3], times=[[], [], [0.6, 0.2]])
    exported.set_sampler(nfe=5)
    with pytest.raises(InputError, match=r"nfe is \[1, 2, 2\], but it was exported with \[1, 1, 3"):
        exported.set_sampler(nfe=[1, 2, 2])
    with pytest.raises(InputError, match=r"times is \[0.5\], but it was exported with \[\[\], \["):
        exported.set_sampler(times=[0.5])
    with pytest.raises(InputError, match="times is "):
        exported.set_sampler(times=[])


def test_nothing_of_the_machine_that_exported_is_in_the_graph(
    exported: tuple[Policy, Path],
) -> None:
    data = (exported[1] / "policy.onnx").read_bytes()
    for trace in (b"site-packages", b".py", str(Path.home()).encode() + b"/"):
        assert trace not in data


def test_weights_are_there_once_however_many_steps() -> None:
    from lfm_policy.exporting import policy_graph

    policy = build_policy()
    numbers = []
    for nfe in (2, 4):
        policy.set_sampler(nfe=nfe)
        sizes = [int(np.prod(tensor.dims)) for tensor in policy_graph(policy).graph.initializer]
        numbers.append(sum(sizes))
    # One bias of the width for each of two more evaluations, and a few step sizes.
    assert numbers[1] - numbers[0] <= 2 * 16 + 10
    assert numbers[0] <= policy.parameter_counts()["total"] + 100


def test_an_export_is_not_written_over(exported: tuple[Policy, Path]) -> None:
    from lfm_policy.exporting import export_policy

    policy, folder = exported
    with pytest.raises(InputError, match="exists already"):
        export_policy(policy, folder)


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    from lfm_policy.exporting import export_policy

    policy = build_policy(sampler={"solver": "dopri5"})
    with pytest.raises(InputError, match="'dopri5' chooses its steps itself"):
        export_policy(policy, tmp_path / "out")
    steps = {"solver": "ddpm", "nfe": 100}
    random = build_policy(1, flow={"n_blocks": 1, "method": "diffusion"}, sampler=steps)
    with pytest.raises(InputError, match="'ddpm' draws noise in every step .* --solver ddim or"):
        export_policy(random, tmp_path / "out")
    with pytest.raises(InputError, match="precision is 'fp8', expected one of fp32, fp16, int8"):
        export_policy(build_policy(), tmp_path / "out", precision="fp8")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Path]:
    """Return a policy with weights that are worth making smaller."""
    from lfm_policy.exporting import export_policy

    network = {"name": "mlp", "width": 64, "n_layers": 1, "time_embed_dim": 8}
    policy = build_policy(n_blocks=1, network=network)
    return policy, export_policy(policy, tmp_path_factory.mktemp("wide") / "fp32")


def test_a_network_that_looks_at_values_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from lfm_policy.exporting import export_policy

    forward = MLP.forward

    def looks(self: MLP, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        velocity = forward(self, x, *others)
        return 2 * velocity if float(velocity.sum()) > 0 else velocity

    monkeypatch.setattr(MLP, "forward", looks)
    message = r"trace it \(network .mlp., encoder .state.\).*test_export.py, line \d+: return 2"
    with pytest.raises(InputError, match=message) as error:
        export_policy(build_policy(), tmp_path / "exported")
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "exported").exists()


def test_a_network_that_makes_a_number_of_its_rows_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfm_policy.exporting import export_policy

    forward = MLP.forward

    def counts(self: MLP, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return forward(self, x.reshape(len(x), *x.shape[1:]), *others)

    monkeypatch.setattr(MLP, "forward", counts)
    message = r"cannot be exported \(network 'mlp'.* rows and no other number.*write x\.shape\[0\]"
    with pytest.raises(InputError, match=message):
        export_policy(build_policy(), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("precision", "largest_share", "tolerance"), [("fp16", 0.6, 0.02), ("int8", 0.6, 0.2)]
)
def test_smaller_numbers(
    wide: tuple[Policy, Path],
    tmp_path: Path,
    precision: str,
    largest_share: float,
    tolerance: float,
) -> None:
    from lfm_policy.exporting.precision import with_precision

    policy, folder = wide
    (tmp_path / "small").mkdir()
    path = tmp_path / "small" / "policy.onnx"
    model = onnx.load_model(str(folder / "policy.onnx"))
    before = model.SerializeToString()
    onnx.save_model(with_precision(model, precision), str(path))
    assert model.SerializeToString() == before
    description = dataclasses.replace(
        read_description(folder), precision=precision, graph_sha256=sha256_of(path)
    )
    write_description(path.parent, description)
    assert path.stat().st_size < largest_share * (folder / "policy.onnx").stat().st_size

    small = OnnxPolicy(path.parent)
    assert small.metadata["precision"] == precision
    batch = random_batch(policy, 3)
    noise = np.random.default_rng(0).standard_normal((3, *policy.chunk_shape), dtype=np.float32)
    found = small.sample(batch, noise=noise).chunk
    expected = policy.sample(batch, noise=torch.from_numpy(noise)).chunk.numpy()
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < error < tolerance
    # Also in 8 bits, whose scale depends on what is computed at once, a row is its own.
    for row in range(3):
        own = {key: value[row : row + 1] for key, value in batch.items()}
        alone = small.sample(own, noise=noise[row : row + 1]).chunk
        np.testing.assert_allclose(alone[0], found[row], rtol=1e-5)


def test_a_weight_that_half_precision_cannot_hold() -> None:
    from onnx import helper, numpy_helper

    from lfm_policy.exporting.precision import with_precision

    tensor = numpy_helper.from_array(np.full(300, 1e5, np.float32), "w")
    model = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
    with pytest.raises(InputError, match="'w' have numbers beyond 65504"):
        with_precision(model, "fp16")


@pytest.mark.parametrize(("solver", "nfe"), [("euler", 4), ("heun", 4)])
def test_8_bits_with_several_evaluations_per_block(tmp_path: Path, solver: str, nfe: int) -> None:
    from lfm_policy.exporting import export_policy

    policy = load_policy("pusht-state")
    policy.set_sampler(solver=solver, nfe=nfe)
    small = OnnxPolicy(export_policy(policy, tmp_path / "out", precision="int8"))
    batch = random_batch(policy, 4)
    noise = np.random.default_rng(0).standard_normal((4, *policy.chunk_shape), dtype=np.float32)
    found = small.sample(batch, noise=noise).chunk
    expected = policy.sample(batch, noise=torch.from_numpy(noise)).chunk.numpy()
    error = np.abs(found - expected).mean() / np.abs(expected - expected.mean()).mean()
    assert 0 < error < 0.05
    # Weights are there once, however often they are used.
    parameters = policy.parameter_counts()["total"]
    assert (tmp_path / "out" / "policy.onnx").stat().st_size < 1.2 * parameters


def product_graph(*inputs: str, **options: object) -> onnx.ModelProto:
    """Return the graph of one Gemm of x with a weight w and a bias b."""
    from onnx import TensorProto, helper, numpy_helper

    numbers = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    weights = [numpy_helper.from_array(numbers, "w"), numpy_helper.from_array(numbers[0], "b")]
    node = helper.make_node("Gemm", list(inputs), ["y"], "product", **options)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], weights[: len(inputs) - 1])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_a_product_of_another_form_does_not_become_8_bits_silently() -> None:
    from lfm_policy.exporting.precision import with_precision

    with pytest.raises(ValueError, match="'product' is a Gemm with {'alpha': 2.0"):
        with_precision(product_graph("x", "w", "b", alpha=2.0, transB=1), "int8")


@pytest.mark.parametrize("inputs", [("x", "w", "b"), ("x", "w")])
def test_products_become_8_bits_with_and_without_a_bias(inputs: tuple[str, ...]) -> None:
    import onnxruntime

    from lfm_policy.exporting.precision import with_precision

    plain = product_graph(*inputs, transB=1)
    x = {"x": np.linspace(-1, 1, 4, dtype=np.float32)[None]}
    exact, rounded = (
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, x)[0]
        for model in (plain, with_precision(plain, "int8"))
    )
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(exact, rounded, atol=0.05)
