"""Files of pretrained backbones: where they are looked for, and what is read of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants, errors
from safetensors.torch import save_file
from torch import Tensor

from lfm_policy.encoders.pretrained.files import find_file, load_weights, read_options
from lfm_policy.errors import InputError

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    cache = tmp_path / "hub cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def folder_with(folder: Path, config: Any = None, tensors: dict[str, Tensor] | None = None) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if tensors is not None:
        save_file(tensors, str(folder / "model.safetensors"))
    return str(folder)


def cached(cache: Path, model: str, **content: Any) -> None:
    repository = cache / f"models--{model.replace('/', '--')}"
    folder_with(repository / "snapshots" / REVISION, **content)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION, encoding="utf-8")


def targets(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


def test_a_folder_is_read(tmp_path: Path) -> None:
    model = folder_with(tmp_path / "vit", {"model_type": "vit", "hidden_size": 192})
    assert read_options(model)["hidden_size"] == 192


def test_weights_are_found_by_any_name_that_they_have_had(tmp_path: Path) -> None:
    tensors = {
        "vit.layers.0.attention.q_proj.weight": torch.rand(2, 2),
        "vit.layernorm.bias": torch.rand(2).to(torch.float16),
        "classifier.weight": torch.full((9,), torch.nan),
    }
    model = folder_with(tmp_path / "vit", tensors=tensors)
    found = targets(encoder__layer__0__attention__attention__query__weight=(2, 2))
    found |= targets(layernorm__bias=(2,))
    load_weights(model, found)
    for target, value in zip(found.values(), tensors.values(), strict=False):
        assert torch.equal(target, value.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    weight = torch.rand(3, 2).to(dtype)
    model = folder_with(tmp_path / "m", tensors={"layernorm.weight": weight})
    found = targets(layernorm__weight=(3, 2))
    load_weights(model, found)
    assert torch.equal(found["layernorm.weight"], weight.float())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"b": torch.ones(2)}, "weight 'a' is missing: the file does not belong"),
        ({"a": torch.ones(3), "b": torch.ones(2)}, r"'a' has shape \(3,\) and .*expected \(2,\)"),
        ({"a": torch.ones(2, dtype=torch.int64), "b": torch.ones(2)}, "dtype I64, expected"),
        ({"a": torch.ones(2), "b": torch.tensor([1, torch.inf])}, "'b' holds NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(
    tmp_path: Path, tensors: dict[str, Tensor], message: str
) -> None:
    model = folder_with(tmp_path / "m", tensors=tensors)
    found = targets(a=(2,), b=(2,))
    with pytest.raises(InputError, match=f"model.safetensors: .*{message}"):
        load_weights(model, found)
    assert not found["a"].any() and not found["b"].any()


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04evil pickle", b"\xff\xff"])
def test_a_damaged_file_of_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    model = folder_with(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model.safetensors: not a readable safetensors file"):
        load_weights(model, targets(a=(2,)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[]", "expected an object, found a list"),
        (b" " * 1_000_001, "is larger than 1,000,000 bytes"),
        (b'{"model_type": "llama"}', "unknown vision backbone 'llama'"),
        (b'{"model_type": "vit", "layer_norm_eps": NaN}', "layer_norm_eps is nan"),
    ],
)
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    model = folder_with(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=f"config.json: {message}"):
        read_options(model)


def test_a_folder_without_the_file_is_named(tmp_path: Path) -> None:
    model = folder_with(tmp_path / "m")
    with pytest.raises(InputError, match="m: expected a folder with 'config.json', and there is"):
        read_options(model)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: expected a folder with 'config.json', found some"):
        read_options(str(tmp_path / "file"))
    with pytest.raises(InputError, match="there is no such folder, and it is no name on"):
        read_options(str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="there is no such folder"):
        read_options("x" * 5000 + "/../y")


@pytest.mark.parametrize("other", ["pytorch_model.bin", "model.safetensors.index.json"])
def test_formats_that_can_run_code_are_refused_with_the_way_out(tmp_path: Path, other: str) -> None:
    model = folder_with(tmp_path / "m", {"model_type": "vit"})
    (tmp_path / "m" / other).touch()
    with pytest.raises(InputError) as caught:
        load_weights(model, targets(a=(2,)))
    message = str(caught.value)
    assert f"found {other} only" in message and "can run code" in message
    assert f"AutoModel.from_pretrained('{model}').save_pretrained('FOLDER'" in message


def test_the_cache_of_the_hub_is_enough(hub_cache: Path) -> None:
    cached(hub_cache, "some/vit", config={"model_type": "vit"}, tensors={"a": torch.ones(2)})
    assert read_options("some/vit")["model_type"] == "vit"
    found = targets(a=(2,))
    load_weights("some/vit", found)
    assert bool(found["a"].all())


def test_a_folder_wins_over_the_hub(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(hub_cache, "some/vit", config={"model_type": "vit"})
    folder_with(tmp_path / "some" / "vit", {"model_type": "resnet"})
    monkeypatch.chdir(tmp_path)
    assert read_options("some/vit")["model_type"] == "resnet"


def test_what_is_nowhere_is_said_with_all_places_and_the_way_out(hub_cache: Path) -> None:
    cached(hub_cache, "some/vit", config={"model_type": "vit"})
    for model, name in (("no/such-model", "config.json"), ("some/vit", "model.safetensors")):
        with pytest.raises(InputError) as caught:
            find_file(model, name)
        message = str(caught.value)
        assert message.startswith(f"{model}: '{name}' was not found")
        for part in (str(Path.cwd()), str(hub_cache), "hub did not give it", "Without network"):
            assert part in message
        assert f"hf download {model} config.json model.safetensors" in message


def test_a_model_on_the_hub_without_the_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(model: str, name: str, **options: Any) -> str:
        raise errors.EntryNotFoundError("404", **response)

    # Before version 1 of the hub's library this was an answer of the server, with its response.
    response: dict[str, Any] = {}
    if issubclass(errors.EntryNotFoundError, OSError):
        import requests

        response = {"response": requests.Response()}
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)
    with pytest.raises(InputError, match=r"some/vit: has no 'model.safetensors' .*convert it"):
        find_file("some/vit", "model.safetensors")
    with pytest.raises(InputError, match="has no 'config.json' .* It is no model of transformers"):
        find_file("some/vit", "config.json")
