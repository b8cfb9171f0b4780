"""Checkpoints: round trip, and a message for everything that can be wrong with one."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lfm_policy import Policy, load_policy
from lfm_policy.checkpoint_folders import CONFIG_FILE, run_of_checkpoint
from lfm_policy.config import config_to_dict
from lfm_policy.errors import InputError
from lfm_policy.policy import find_checkpoint, read_header, write_checkpoint
from lfm_policy.policy.checkpoint import (
    FORMAT_VERSION,
    MODEL_FILE,
    NORMALIZER_FILE,
    read_model_state,
    read_normalizer,
)
from lfm_policy.policy.tensors import sha256_of
from lfm_runtime.disk.input_files import content_digest

MakeCheckpoint = Callable[..., Path]


def actions_of(policy: Policy) -> Tensor:
    policy.sample_seed(0)
    batch = {key: value[None, None].repeat(2, 1) for key, value in policy.fake_obs().items()}
    return policy.predict_action_chunk(batch)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change config.json as somebody would who knows how to make it valid again."""
    path = folder / CONFIG_FILE
    content = json.loads(path.read_text())
    change(content)
    content["files"] = {name: sha256_of(folder / name) for name in content["files"]}
    content.pop("sha256")
    path.write_text(json.dumps({**content, "sha256": content_digest(content)}))


def edit_tensors(folder: Path, name: str, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)
    edit(folder, lambda content: None)


# -- what is right --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "encoder"),
    [
        ({"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8}, {"name": "state"}),
        (
            {"name": "unet1d", "channels": [8, 16], "embed_dim": 8, "time_embed_dim": 8},
            {"name": "state", "hidden": [8], "output_dim": 4},
        ),
        (
            {"name": "transformer", "width": 16, "n_layers": 1, "n_heads": 2, "time_embed_dim": 8},
            {"name": "state", "hidden": [8]},
        ),
    ],
)
def test_round_trip_gives_bitwise_the_same_actions(
    make_policy: Callable[..., Policy],
    tmp_path: Path,
    network: dict[str, Any],
    encoder: dict[str, Any],
) -> None:
    policy = make_policy(3, network=network, encoder=encoder)
    training = {
        "complete": True,
        "block_steps": [1, 2, 3],
        "blocks": [{"steps": n, "train_seconds": 1.0, "push_seconds": 0.0} for n in (1, 2, 3)],
        "steps": 6,
        "train_seconds": 3.0,
        "push_seconds": 0.0,
        "parameters": policy.model.parameter_counts(),
    }
    write_checkpoint(
        tmp_path,
        config=policy.config,
        spec=policy.spec,
        model_state=policy.model.state_dict(),
        normalizer=policy.normalizer,
        training=training,
    )
    loaded = load_policy(tmp_path)
    assert torch.equal(actions_of(loaded), actions_of(policy))
    assert loaded.config == policy.config
    assert loaded.spec == policy.spec
    assert loaded.info["steps"] == 6
    for key, value in policy.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value)


def test_files_of_a_checkpoint(checkpoint: Path) -> None:
    assert {p.name for p in checkpoint.iterdir()} == {CONFIG_FILE, MODEL_FILE, NORMALIZER_FILE}
    content = json.loads((checkpoint / CONFIG_FILE).read_text())
    assert content["format"] == "lfm-policy"
    assert content["format_version"] == FORMAT_VERSION
    assert content["files"].keys() == {MODEL_FILE, NORMALIZER_FILE}
    assert content["config"] == config_to_dict(read_header(checkpoint).config)


def test_header(checkpoint: Path) -> None:
    header = read_header(checkpoint)
    assert header.folder == checkpoint
    assert header.complete
    assert header.config.flow.n_blocks == 2
    assert header.spec.obs_shapes == {"agent_pos": (2,), "pose": (4,)}
    assert header.spec.action_dim == 3
    assert len(header.sha256) == 64
    assert read_model_state(header).keys() == load_policy(checkpoint).model.state_dict().keys()
    assert set(read_normalizer(header).keys()) == {"action", "agent_pos", "pose"}


def test_info_names_the_checkpoint(checkpoint: Path) -> None:
    edit(checkpoint, lambda c: c["training"].update(checkpoint="another", sha256="0"))
    info = load_policy(checkpoint).info
    assert info["checkpoint"] == str(checkpoint)
    assert info["sha256"] == read_header(checkpoint).sha256


def test_formatting_of_the_json_does_not_matter(checkpoint: Path) -> None:
    path = checkpoint / CONFIG_FILE
    before = actions_of(load_policy(checkpoint))
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert torch.equal(actions_of(load_policy(checkpoint)), before)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert torch.equal(actions_of(load_policy(checkpoint)), before)


def test_loading_leaves_random_numbers_alone(checkpoint: Path) -> None:
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    load_policy(checkpoint)
    assert torch.equal(torch.randn(3), expected)


def test_a_run_folder_means_its_newest_checkpoint(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    older = make_checkpoint("run/checkpoints/step1", training={"steps": 1})
    newer = make_checkpoint("run/checkpoints/step2", training={"steps": 2})
    run = tmp_path / "run"
    (run / "latest").write_text("step1\n")
    assert find_checkpoint(run) == older
    (run / "latest").write_text("step2\n")
    assert find_checkpoint(run) == newer
    assert load_policy(run).info["steps"] == 2
    assert load_policy(str(run)).info["checkpoint"] == str(newer)


@pytest.mark.parametrize(
    "pointer",
    ["../../outside", "/outside", "..", "../..", ".", "", "\n", "missing", "x" * 300, "é" * 150,
     "a\0b"],
)  # fmt: skip
def test_the_pointer_cannot_lead_out_of_the_run(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, pointer: str
) -> None:
    outside = make_checkpoint("outside")
    make_checkpoint("run/checkpoints/inside")
    run = tmp_path / "run"
    (run / "latest").write_text(pointer.replace("/outside", str(outside)), encoding="utf-8")
    with pytest.raises(InputError, match=r"expected 'config\.json'|with a 'config\.json'"):
        load_policy(run)
    # A name is used without the folders before it.
    (run / "latest").write_text("../../outside/inside")
    assert find_checkpoint(run) == run / "checkpoints" / "inside"


def test_nothing_is_unpickled(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = actions_of(load_policy(checkpoint))

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a pickle was read")

    for name in ("load", "loads", "Unpickler", "_load", "_loads", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(np, "load", refuse)
    policy = load_policy(checkpoint)
    assert torch.equal(actions_of(policy), expected)


def test_memory_for_one_copy_of_the_weights(tmp_path: Path) -> None:
    """A large checkpoint loads in a process that cannot hold its weights twice."""
    done = subprocess.run(
        [sys.executable, "-c", _LOAD_WITH_LITTLE_MEMORY, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]


_LOAD_WITH_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from lfm_policy import load_policy
from lfm_policy.config import config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.policy import DataSpec, PolicyModel, write_checkpoint

network = {"name": "mlp", "width": 1280, "n_layers": 3}
config = config_from_dict({"network": network, "flow": {"n_blocks": 1}}, "test")
spec = DataSpec({"x": (2,)}, 2)
folder = Path(sys.argv[1])
model = PolicyModel(config, spec)
n_bytes = 4 * sum(tensor.numel() for tensor in model.state_dict().values())
assert n_bytes > 90e6
record = {"steps": 1, "train_seconds": 1.0, "push_seconds": 0.0}
write_checkpoint(
    folder, config=config, spec=spec, model_state=model.state_dict(),
    normalizer=Normalizer.fit({"x": np.eye(2), "action": np.eye(2)}),
    training={"complete": True, "block_steps": [1], "blocks": [record], "steps": 1,
              "train_seconds": 1.0, "push_seconds": 0.0, "parameters": {}},
)
del model
data_kb = next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmData"))
limit = int(data_kb) * 1024 + int(1.8 * n_bytes)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
load_policy(folder)
"""


# -- what is wrong --------------------------------------------------------------------------------


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_policy(folder)
    return str(caught.value)


@pytest.mark.parametrize("name", ["missing", "x" * 5000, "a\0b"])
def test_no_such_checkpoint(tmp_path: Path, name: str) -> None:
    assert "no such checkpoint or run folder" in refusal(tmp_path / name)


def test_not_a_checkpoint(tmp_path: Path) -> None:
    assert "not a checkpoint: expected 'config.json' in it (or 'latest'" in refusal(tmp_path)


def test_a_run_whose_newest_checkpoint_is_gone(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    make_checkpoint("run/checkpoints/older")
    run = tmp_path / "run"
    (run / "latest").write_text("newer")
    assert refusal(run) == (
        f"{run}: 'latest' names 'newer', but {run / 'checkpoints'} has no folder of this name with "
        f"a 'config.json': bring it back from a copy, or write older into {run / 'latest'}"
    )
    (run / "checkpoints" / "older" / "config.json").unlink()
    assert refusal(run).endswith("or train anew in another folder")


def test_newer_format_version(checkpoint: Path) -> None:
    edit(checkpoint, lambda c: c.update(format_version=FORMAT_VERSION + 1))
    message = refusal(checkpoint)
    assert f"format_version is {FORMAT_VERSION + 1}" in message
    assert f"reads up to {FORMAT_VERSION}: upgrade lfm-policy" in message


def test_newer_format_version_whose_checksum_is_made_in_another_way(checkpoint: Path) -> None:
    path = checkpoint / CONFIG_FILE
    content = json.loads(path.read_text()) | {"format_version": 99, "sha256": {"new": "way"}}
    path.write_text(json.dumps(content))
    assert "upgrade lfm-policy" in refusal(checkpoint)


@pytest.mark.parametrize("version", [None, 0, -1, 1.0, "1", True, [1]])
def test_absurd_format_version(checkpoint: Path, version: object) -> None:
    edit(checkpoint, lambda c: c.update(format_version=version))
    assert "format_version: found" in refusal(checkpoint)


def test_another_format(checkpoint: Path) -> None:
    edit(checkpoint, lambda c: c.update(format="other"))
    assert "format: found 'other', expected 'lfm-policy'" in refusal(checkpoint)


@pytest.mark.parametrize("name", [MODEL_FILE, NORMALIZER_FILE])
def test_tensors_of_another_checkpoint(make_checkpoint: MakeCheckpoint, name: str) -> None:
    first, second = make_checkpoint("a"), make_checkpoint("b")
    tensors = load_file(second / name)
    key = min(tensors)
    tensors[key] = tensors[key] + 0.1
    save_file(tensors, first / name)
    message = refusal(first)
    assert str(first / name) in message
    assert "does not match the checksum in config.json" in message


def test_edited_configuration(checkpoint: Path) -> None:
    path = checkpoint / CONFIG_FILE
    path.write_text(path.read_text().replace('"nfe": 4', '"nfe": 8'))
    assert "does not match its checksum: it is damaged or was edited" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.proj_out.bias"), "'blocks.1.proj_out.bias' is missing (1 of"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected tensor 'extra'"),
        (
            lambda t: t.update({"blocks.0.proj_in.weight": torch.zeros(16, 19)}),
            "'blocks.0.proj_in.weight' has shape (16, 19), the configuration expects (16, 18)",
        ),
        (
            lambda t: t.update({"blocks.0.proj_in.bias": torch.zeros(16, dtype=torch.float64)}),
            "'blocks.0.proj_in.bias' has dtype F64, expected F32",
        ),
        (
            lambda t: t["blocks.0.proj_in.bias"].fill_(float("nan")),
            "'blocks.0.proj_in.bias' holds NaN or infinity",
        ),
    ],
)
def test_weights_that_do_not_fit(
    checkpoint: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    edit_tensors(checkpoint, MODEL_FILE, change)
    found = refusal(checkpoint)
    assert str(checkpoint / MODEL_FILE) in found and message in found


def test_every_shape_of_the_weights_is_checked(checkpoint: Path) -> None:
    original = load_file(checkpoint / MODEL_FILE)
    for name, tensor in original.items():
        changed = dict(original)
        changed[name] = torch.cat([tensor, tensor[:1]])
        save_file(changed, checkpoint / MODEL_FILE)
        edit(checkpoint, lambda content: None)
        assert f"'{name}' has shape {tuple(changed[name].shape)}" in refusal(checkpoint)


def test_options_that_do_not_fit_the_weights(checkpoint: Path) -> None:
    edit(checkpoint, lambda c: c["config"]["network"].update(width=17))
    assert "the configuration expects" in refusal(checkpoint)
    edit(checkpoint, lambda c: c["config"]["network"].update(width=16, widht=3))
    message = refusal(checkpoint)
    assert "unknown key 'network.widht' of 'network': did you mean 'width'" in message
    assert str(checkpoint / CONFIG_FILE) in message


def test_networks_larger_than_anything_that_is_loaded(checkpoint: Path) -> None:
    edit(checkpoint, lambda c: c["config"]["network"].update(width=16384))
    message = refusal(checkpoint)
    assert "more than 400,000,000 parameters" in message and CONFIG_FILE in message


def test_networks_are_not_made_before_the_file_is_known_to_hold_them(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(checkpoint, lambda c: c["config"]["network"].update(width=4096, n_layers=1))

    def refuse(*arguments: object) -> None:
        raise AssertionError("a large model was made for a small file")

    monkeypatch.setattr("lfm_policy.policy.loading.PolicyModel", refuse)
    assert "the configuration expects" in refusal(checkpoint)


@pytest.mark.parametrize("key", ["action", "pose"])
def test_missing_statistics_are_named(checkpoint: Path, key: str) -> None:
    def remove(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(f"{key}/")]:
            del tensors[name]

    edit_tensors(checkpoint, NORMALIZER_FILE, remove)
    message = refusal(checkpoint)
    assert f"the normaliser has no statistics for '{key}'" in message
    assert str(checkpoint / NORMALIZER_FILE) in message


@pytest.mark.parametrize("part", ["scale", "offset", "min", "max", "mean", "std"])
def test_incomplete_statistics_are_named(checkpoint: Path, part: str) -> None:
    edit_tensors(checkpoint, NORMALIZER_FILE, lambda t: t.pop(f"pose/{part}"))
    assert f"'pose' lacks {part}" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.update({name: torch.ones(5) for name in t if name.startswith("pose/")}),
            "'pose' has statistics of shape (5,), expected (4,)",
        ),
        (lambda t: t["action/scale"].zero_(), "'action/scale' must be positive"),
        (lambda t: t["action/min"].fill_(float("inf")), "'action/min' holds NaN or infinity"),
        (lambda t: t.update({"pose/mean": torch.ones(4).double()}), "expected torch.float32"),
        (lambda t: t.update({"x" * 1000: torch.ones(4)}), "a name of 1,000 characters"),
    ],
)
def test_statistics_that_do_not_fit(
    checkpoint: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    edit_tensors(checkpoint, NORMALIZER_FILE, change)
    found = refusal(checkpoint)
    assert str(checkpoint / NORMALIZER_FILE) in found and message in found


@pytest.mark.parametrize("steps", [[10, 0, 0], [10, 7, 0]])
def test_a_chain_that_is_not_trained_to_its_end(
    make_checkpoint: MakeCheckpoint, steps: list[int]
) -> None:
    folder = make_checkpoint(n_blocks=3, training={"block_steps": steps, "complete": False})
    message = refusal(folder)
    block = steps.index(0) + 1
    assert f"training has not reached block {block} of 3 yet, so nothing can be sampled" in message
    assert "--resume" in message


def test_a_last_block_in_training_can_be_sampled(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint(training={"block_steps": [10, 3], "complete": False})
    policy = load_policy(folder)
    assert policy.info["complete"] is False
    assert actions_of(policy).shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("complete", 1),
        ("steps", "10"),
        ("train_seconds", None),
        ("push_seconds", True),
        ("block_steps", [10]),
        ("block_steps", [10, None]),
        ("block_steps", [10, -1]),
        ("blocks", []),
        ("blocks", [{"steps": 1}, {}]),
        ("parameters", {"block 3": 5}),
        ("parameters", {"total": "many"}),
    ],
)
def test_a_summary_of_the_training_that_makes_no_sense(
    checkpoint: Path, key: str, value: object
) -> None:
    edit(checkpoint, lambda c: c["training"].update({key: value}))
    assert f"config.json: training.{key}: found" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "data: expected an object, found NoneType"),
        ({"obs_shapes": [], "action_dim": 2}, "data.obs_shapes: expected an object"),
        ({"obs_shapes": {"a": 3}, "action_dim": 2}, "data.obs_shapes.a: expected a list"),
        ({"obs_shapes": {"a": [0]}, "action_dim": 2}, "data.obs_shapes.a: expected a list"),
        ({"obs_shapes": {"a": [True]}, "action_dim": 2}, "data.obs_shapes.a: expected a list"),
        ({"obs_shapes": {"a": [1] * 5}, "action_dim": 2}, "data.obs_shapes.a: expected a list"),
        ({"obs_shapes": {"a": [1 << 40]}, "action_dim": 2}, "data.obs_shapes.a: expected a list"),
        ({"obs_shapes": {"action": [2]}, "action_dim": 2}, "'action' cannot be the name"),
        ({"obs_shapes": {"": [2]}, "action_dim": 2}, "'' cannot be the name"),
        (
            {"obs_shapes": {str(n): [1] for n in range(65)}, "action_dim": 2},
            "data.obs_shapes: expected an object of at most 64",
        ),
        ({"obs_shapes": {}, "action_dim": 0}, "data.action_dim: expected a positive integer"),
        ({"obs_shapes": {}, "action_dim": 2, "fingerprint": 3}, "data.fingerprint: expected text"),
    ],
)
def test_shapes_of_data_that_make_no_sense(checkpoint: Path, data: object, message: str) -> None:
    edit(checkpoint, lambda c: c.update(data=data))
    found = refusal(checkpoint)
    assert str(checkpoint / CONFIG_FILE) in found and message in found


@pytest.mark.parametrize("key", ["config", "training", "files"])
def test_parts_of_config_json(checkpoint: Path, key: str) -> None:
    path = checkpoint / CONFIG_FILE
    content = json.loads(path.read_text()) | {key: [1]}
    content.pop("sha256")
    path.write_text(json.dumps({**content, "sha256": content_digest(content)}))
    assert f"{key}: expected an object, found list" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object, found list"),
        ('{"a": NaN, "format": "lfm-policy", "format_version": 1}', "contains NaN or infinity"),
        ('{"a": ' * 100_000, "not valid JSON"),
        ('{"a": ' * 50 + "1" + "}" * 50, "nested more than 20 deep"),
        ('{"a": "\\ud800"}', "control characters"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"a": ' + "9" * 50 + "}", "is a number of more than 63 bits"),
        ("[" + "1," * 600_000 + "1]", "more than 1,000,000 bytes"),
        ('{"a": [' + "1," * 20_000 + "1]}", "more than 10,000 values"),
    ],
)  # fmt: skip
def test_bad_json(checkpoint: Path, text: str, message: str) -> None:
    (checkpoint / CONFIG_FILE).write_text(text)
    found = refusal(checkpoint)
    assert str(checkpoint / CONFIG_FILE) in found and message in found
    assert len(found) < 1000


# -- something else in the place of a file --------------------------------------------------------


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", [CONFIG_FILE, MODEL_FILE, NORMALIZER_FILE])
@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "device", "loop"])
def test_no_regular_file(checkpoint: Path, name: str, kind: str) -> None:
    path = checkpoint / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    message = refusal(checkpoint)
    if name == CONFIG_FILE and kind in ("nothing", "loop"):
        assert "not a checkpoint: expected 'config.json'" in message
    else:
        assert f"{path}: expected a file, found " in message


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", [CONFIG_FILE, MODEL_FILE, NORMALIZER_FILE])
def test_a_file_that_pretends_to_be_huge(checkpoint: Path, name: str) -> None:
    os.truncate(checkpoint / name, 1 << 40)
    message = refusal(checkpoint)
    assert str(checkpoint / name) in message and "bytes" in message


@pytest.mark.timeout(20)
def test_a_pointer_that_is_no_file(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    make_checkpoint("run/checkpoints/inside")
    os.mkfifo(tmp_path / "run" / "latest")
    assert "not a checkpoint" in refusal(tmp_path / "run")
    (tmp_path / "run" / "latest").unlink()
    (tmp_path / "run" / "latest").write_text("inside" + " " * 300 + "\0" * 5000)
    assert find_checkpoint(tmp_path / "run").name == "inside"


def test_the_run_of_a_checkpoint(tmp_path: Path) -> None:
    assert run_of_checkpoint(tmp_path / "arm" / "checkpoints" / "final") == tmp_path / "arm"
    assert run_of_checkpoint(tmp_path / "arm") is None
