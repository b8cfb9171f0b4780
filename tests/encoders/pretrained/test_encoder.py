"""Image encoders on pretrained backbones of the transformers library."""

from __future__ import annotations

import copy
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lfm_policy.config.load import config_from_dict, config_to_dict, load_config
from lfm_policy.encoders.cameras import CamerasEncoder
from lfm_policy.encoders.options import CamerasConfig
from lfm_policy.encoders.pretrained.backbones import pooled_features
from lfm_policy.encoders.pretrained.encoder import PretrainedConfig, PretrainedEncoder
from lfm_policy.errors import InputError

pytestmark = pytest.mark.slow

transformers = pytest.importorskip(
    "transformers",
    reason="the transformers library is absent: pip install 'lfm-policy[pretrained]'",
)

STAGES = {"hidden_sizes": [8, 16], "depths": [1, 2]}
PATCHES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
WIDE = {**PATCHES, "intermediate_size": 48}
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 50,
}
TOWERS = {"text_config": TEXT, "vision_config": WIDE}

# What is saved: the class of the library, and its options.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("ResNetModel", {**STAGES, "embedding_size": 8, "layer_type": "basic"}),
    "resnet classifier": ("ResNetForImageClassification", {**STAGES, "embedding_size": 8}),
    "convnext": ("ConvNextModel", {**STAGES, "num_stages": 2, "drop_path_rate": 0.1}),
    "convnextv2": ("ConvNextV2Model", {**STAGES, "num_stages": 2}),
    "vit": ("ViTModel", WIDE),
    "vit classifier": ("ViTForImageClassification", WIDE),
    "dinov2": ("Dinov2Model", PATCHES),
    "dinov2 with registers": ("Dinov2WithRegistersModel", PATCHES),
    "siglip": ("SiglipVisionModel", WIDE),
    "siglip towers": ("SiglipModel", TOWERS),
    "clip": ("CLIPVisionModel", WIDE),
    "clip towers": ("CLIPModel", TOWERS),
}
SIZE = 32


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, nn.Module]]:
    """Return the folder of a tiny random model and the model, in evaluation mode."""
    root = tmp_path_factory.mktemp("models")
    made: dict[str, tuple[Path, nn.Module]] = {}
    transformers.utils.logging.disable_progress_bar()

    def save(name: str) -> tuple[Path, nn.Module]:
        if name not in made:
            class_name, options = MODELS[name]
            model_class = getattr(transformers, class_name)
            with torch.random.fork_rng():
                torch.manual_seed(7)
                model = model_class(model_class.config_class(**options)).eval()
                for module in model.modules():
                    if isinstance(module, nn.BatchNorm2d):
                        module.running_mean.uniform_(-0.1, 0.1)
                        module.running_var.uniform_(0.5, 1.5)
            model.save_pretrained(root / name)
            made[name] = (root / name, model)
        return made[name]

    return save


@pytest.fixture
def folder(saved: Callable[[str], tuple[Path, nn.Module]], tmp_path: Path) -> Callable[[str], Path]:
    """Return a copy of the folder of a tiny random model, to be changed at will."""

    def copied(name: str) -> Path:
        target = tmp_path / "models" / name
        if not target.exists():
            shutil.copytree(saved(name)[0], target)
        return target

    return copied


def frames(n: int = 2, steps: int = 2, channels: int = 3, size: int = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (n, steps, size, size, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def created(model: Path | str, *, channels: int = 3, load: bool = True, **options: Any) -> Any:
    config = PretrainedConfig(model=str(model), output_dim=5, **options).resolved()
    encoder = config.create("camera", (SIZE, SIZE, channels))
    assert isinstance(encoder, PretrainedEncoder)
    if load:
        encoder.load_pretrained()
    return encoder.eval()


@pytest.mark.parametrize("name", list(MODELS))
def test_features_are_those_of_the_library_and_then_a_linear_layer(
    saved: Callable[[str], tuple[Path, nn.Module]], name: str
) -> None:
    path, model = saved(name)
    encoder = created(path, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.1])
    images = frames()
    colours = images.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.1]))
    base = getattr(model, "vision_model", None) if "towers" in name else model.base_model
    with torch.no_grad():
        output = base(pixel_values=(colours - mean) / std)  # type: ignore[misc, operator]
        pooled = output.last_hidden_state[:, 0] if "vit" in name else output.pooler_output
        expected = encoder.output(pooled.flatten(1))
        torch.testing.assert_close(encoder(images).flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_stored_configuration_alone_rebuilds_the_network(
    folder: Callable[[str], Path], name: str
) -> None:
    path = folder(name)
    config = load_config(
        "pusht/fm",
        ["encoder.name=cameras", "encoder.image.name=pretrained", f"encoder.image.model={path}"],
    )
    config.encoder = config.encoder.resolved()
    shapes = {"camera": (SIZE, SIZE, 3), "pose": (4,)}
    encoder = config.encoder.create(shapes, 1).eval()
    encoder.load_pretrained()
    stored = json.dumps(config_to_dict(config))
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    assert all(value.dtype == torch.float32 for value in state.values())
    shutil.rmtree(path)

    again = config_from_dict(json.loads(stored), "stored").encoder
    assert again == config.encoder and again.resolved() == again
    with torch.device("meta"):
        empty = again.create(shapes, 1)
    assert {k: v.shape for k, v in empty.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    torch.manual_seed(99)
    rebuilt = again.create(shapes, 1).eval()
    rebuilt.load_state_dict(state)
    obs = {"camera": frames(3, 1), "pose": torch.rand(3, 1, 4)}
    expected = encoder(obs)
    assert expected is not None and torch.equal(rebuilt(obs), expected)
    # As `lfm_policy.policy.checkpoint` does: through the tensors of the state dict themselves.
    filled = copy.deepcopy(rebuilt)
    for value in filled.state_dict().values():
        value.zero_()
    for key, value in filled.state_dict().items():
        value.copy_(state[key])
    assert torch.equal(filled(obs), expected)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_frozen_backbone_stays_as_it_is_in_evaluation_mode(
    saved: Callable[[str], tuple[Path, nn.Module]], name: str
) -> None:
    encoder = created(saved(name)[0]).train()
    assert encoder.training and not any(m.training for m in encoder.backbone.modules())
    before = {key: value.clone() for key, value in encoder.backbone.state_dict().items()}
    modes: list[bool] = []
    encoder.backbone.register_forward_pre_hook(lambda *_: modes.append(torch.is_grad_enabled()))
    result = encoder(frames())
    assert torch.equal(result, encoder(frames()))
    assert modes == [False, False]
    result.square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in encoder.backbone.parameters())
    assert encoder.output.weight.grad is not None and encoder.output.bias.grad is not None
    frozen = {id(p) for p in encoder.frozen_parameters()}
    assert frozen == {id(p) for p in encoder.backbone.parameters()}
    after = encoder.backbone.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert not any(m.training for m in encoder.eval().modules())


@pytest.mark.parametrize("name", list(MODELS))
def test_a_fine_tuned_backbone_learns_in_all_its_weights(
    saved: Callable[[str], tuple[Path, nn.Module]], name: str
) -> None:
    torch.manual_seed(0)
    encoder = created(saved(name)[0], frozen=False).train()
    assert encoder.frozen_parameters() == []
    assert encoder.backbone.training
    buffers = {key: value.clone() for key, value in encoder.backbone.named_buffers()}
    for _ in range(3):  # stochastic depth may leave out a layer
        encoder(frames(4)).square().sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
    # Statistics of batch normalisation among them.
    for key, value in encoder.backbone.named_buffers():
        assert torch.equal(value, buffers[key]), key


def test_a_camera_encoder_trains_the_linear_layer_of_a_frozen_backbone(
    saved: Callable[[str], tuple[Path, nn.Module]],
) -> None:
    shapes = {"camera": (SIZE, SIZE, 3), "pose": (4,)}
    names = {}
    for frozen in (True, False):
        image = {"name": "pretrained", "model": str(saved("vit")[0]), "frozen": frozen}
        encoder = CamerasConfig(image=image, hidden=[3]).resolved().create(shapes, 1)
        names[frozen] = set(encoder.trained_parameters())
    own = "image_encoders.camera0"
    rest = {f"{own}.output.weight", f"{own}.output.bias", "layers.0.weight", "layers.0.bias"}
    assert names[True] == rest
    assert names[False] == set(encoder.state_dict()) > rest
    assert f"{own}.backbone.encoder.layer.0.attention.attention.query.weight" in names[False]


def test_every_camera_is_resolved_for_itself(folder: Callable[[str], Path]) -> None:
    vit, resnet = folder("vit"), folder("resnet")
    config = CamerasConfig(
        image={"name": "pretrained", "model": str(vit)},
        cameras={
            "same": {"output_dim": 3},
            "other": {"model": str(resnet)},
            "own": {"name": "compact"},
        },
    )
    resolved = config.resolved()
    assert config.image == {"name": "pretrained", "model": str(vit)}, "the options are a copy"
    kinds = {
        key: resolved.image_config(key).architecture["model_type"]  # type: ignore[attr-defined]
        for key in ("", "same", "other")
    }
    assert kinds == {"": "vit", "same": "vit", "other": "resnet"}
    assert resolved.cameras["own"] == {"name": "compact"}
    shapes = {key: (SIZE, SIZE, 3) for key in config.cameras}
    encoder = resolved.create(shapes, 1)
    assert isinstance(encoder, CamerasEncoder)
    encoder.load_pretrained()
    same = encoder.image_encoder("same")
    assert isinstance(same, PretrainedEncoder)
    state = created(vit).backbone.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in same.backbone.state_dict().items())
    shutil.rmtree(vit)
    shutil.rmtree(resnet)
    assert resolved.resolved() == resolved
    resolved.create(shapes, 1)


def test_shared_weights_are_loaded_once(
    saved: Callable[[str], tuple[Path, nn.Module]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = {"name": "pretrained", "model": str(saved("resnet")[0])}
    config = CamerasConfig(image=image, shared=True).resolved()
    encoder = config.create({key: (SIZE, SIZE, 3) for key in "abc"}, 1)
    loaded = []
    monkeypatch.setattr(PretrainedEncoder, "load_pretrained", lambda self: loaded.append(self))
    encoder.load_pretrained()
    assert len(loaded) == 1


def test_another_model_is_resolved_again(folder: Callable[[str], Path]) -> None:
    config = PretrainedConfig(model=str(folder("vit"))).resolved()
    assert config.resolved() is config
    moved = PretrainedConfig(model=str(folder("resnet")), architecture=config.architecture)
    with pytest.raises(InputError, match="architecture does not describe the model"):
        moved.create("camera", (SIZE, SIZE, 3))
    assert moved.resolved() == PretrainedConfig(model=moved.model).resolved()


def test_weights_of_another_model_at_the_same_place_are_refused(
    folder: Callable[[str], Path],
) -> None:
    path = folder("vit")
    encoder = created(path, load=False)
    config = json.loads((path / "config.json").read_text())
    # The same shapes, another network.
    (path / "config.json").write_text(json.dumps({**config, "num_attention_heads": 4}))
    with pytest.raises(InputError, match="its config.json is not the one that 'architecture'"):
        encoder.load_pretrained()


def test_without_a_resolved_architecture_nothing_is_made(folder: Callable[[str], Path]) -> None:
    config = PretrainedConfig(model=str(folder("vit")))
    with pytest.raises(InputError, match=r"filled in from the model's config.json when a training"):
        config.create("camera", (SIZE, SIZE, 3))
    with pytest.raises(InputError, match=r"model is empty, expected a folder with config.json"):
        PretrainedConfig().resolved()
    with pytest.raises(InputError, match=r"encoder.image.model is empty"):
        CamerasConfig(image={"name": "pretrained"}).resolved()


def test_a_missing_model_is_named_with_its_camera(tmp_path: Path) -> None:
    image = {"name": "compact"}
    cameras = {"wrist": {"name": "pretrained", "model": str(tmp_path / "nothing")}}
    with pytest.raises(InputError, match=r"encoder.cameras.wrist: .*there is no such folder"):
        CamerasConfig(image=image, cameras=cameras).resolved()
    with pytest.raises(InputError, match=r"org/model: 'config.json' was not found: .*Without net"):
        PretrainedConfig(model="org/model").resolved()


def test_weights_that_are_missing_or_damaged_are_named(folder: Callable[[str], Path]) -> None:
    path = folder("dinov2")
    weights = path / "model.safetensors"
    encoder = created(path, load=False)
    tensors = load_file(weights)
    name = next(name for name in tensors if name.endswith("norm2.weight"))
    save_file({key: value for key, value in tensors.items() if key != name}, weights)
    with pytest.raises(InputError, match=r"weight 'encoder.layer.\d.norm2.weight' is missing"):
        encoder.load_pretrained()
    save_file({**tensors, name: torch.ones(7)}, weights)
    with pytest.raises(InputError, match=r"norm2.weight' has shape \(7,\) .*expected \(32,\)"):
        encoder.load_pretrained()
    weights.write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        encoder.load_pretrained()
    weights.unlink()
    with pytest.raises(InputError, match="expected a folder with 'model.safetensors'"):
        encoder.load_pretrained()


def test_pickled_weights_are_never_read(folder: Callable[[str], Path]) -> None:
    path = folder("resnet")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    encoder = created(path, load=False)
    with pytest.raises(InputError, match=r"found pytorch_model.bin only.*can run code"):
        encoder.load_pretrained()


def test_a_model_of_an_unknown_kind_is_refused(folder: Callable[[str], Path]) -> None:
    path = folder("resnet")
    (path / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}')
    with pytest.raises(InputError, match=r"config.json: unknown vision backbone 'bert': known: re"):
        PretrainedConfig(model=str(path)).resolved()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 10**12}, "hidden_size is 1000000000000, expected an integer from 1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"model_type": "llama"}, "model_type: unknown vision backbone 'llama'"),
        ({"model_type": None}, "model_type: unknown vision backbone"),
        ({"patch_size": None}, "patch_size: found None"),
        ({"hidden_act": {"a": [1]}}, "hidden_act: found {'a'"),
    ],
)
def test_a_hostile_architecture_is_refused(
    saved: Callable[[str], tuple[Path, nn.Module]], change: dict[str, Any], message: str
) -> None:
    config = PretrainedConfig(model=str(saved("vit")[0])).resolved()
    with pytest.raises(InputError, match=f"architecture.{message}"):
        PretrainedConfig(model=config.model, architecture={**config.architecture, **change})
    image = {"name": "pretrained", "architecture": {**config.architecture, **change}}
    with pytest.raises(InputError, match=f"image.architecture.{message}"):
        CamerasConfig(image=image)


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        (
            "dinov2 with registers",
            {
                "hidden_size": 8192,
                "num_hidden_layers": 64,
                "image_size": 4096,
                "mlp_ratio": 16,
                "num_register_tokens": 256,
            },
        ),
        ("resnet", {"hidden_sizes": [8192] * 8, "depths": [16] * 8, "embedding_size": 8192}),
        ("convnext", {"hidden_sizes": [8192] * 8, "depths": [16] * 8}),
    ],
)
def test_the_largest_allowed_architecture_costs_nothing_without_its_numbers(
    saved: Callable[[str], tuple[Path, nn.Module]], name: str, largest: dict[str, Any]
) -> None:
    config = PretrainedConfig(model=str(saved(name)[0])).resolved()
    config.architecture.update(largest)
    config.resize = [4096, 4096]
    began = time.monotonic()
    with torch.device("meta"):
        encoder = config.create("camera", (SIZE, SIZE, 3))
    assert time.monotonic() - began < 20
    assert all(tensor.is_meta for tensor in encoder.state_dict().values())
    assert sum(tensor.numel() for tensor in encoder.state_dict().values()) > 10**9


@pytest.mark.parametrize("name", ["vit", "dinov2", "siglip", "clip"])
def test_position_embeddings_are_interpolated_for_other_sizes(
    saved: Callable[[str], tuple[Path, nn.Module]], name: str
) -> None:
    encoder = created(saved(name)[0], resize=[48, 64])
    features = encoder(frames())
    assert features.shape == (2, 2, 5) and bool(features.isfinite().all())
    own = created(saved(name)[0])
    images = torch.rand(2, 3, SIZE, SIZE)
    larger = nn.functional.interpolate(images, scale_factor=2)
    with torch.no_grad():
        small, large = (pooled_features(own._options, own.backbone, x) for x in (images, larger))
    assert small.shape == large.shape and not torch.allclose(small, large)
    with pytest.raises(InputError, match=r"it sees 32 x 20 pixels, but this .* 16 x 16"):
        created(saved(name)[0], crop=[32, 20])


def test_too_small_images_are_refused(saved: Callable[[str], tuple[Path, nn.Module]]) -> None:
    for name in ("resnet", "convnext"):
        with pytest.raises(InputError, match="sees 7 x 32 pixels, .*needs at least 8 x 8"):
            created(saved(name)[0], crop=[7, 32])
        created(saved(name)[0], crop=[8, 9])(frames())


def test_grey_images_are_seen_in_three_channels_and_others_refused(
    saved: Callable[[str], tuple[Path, nn.Module]],
) -> None:
    path = saved("resnet")[0]
    grey = frames(channels=1)
    encoder = created(path, channels=1)
    coloured = created(path)
    coloured.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder(grey), coloured(grey.expand(-1, -1, -1, -1, 3)))
    with pytest.raises(InputError, match="sees 1 or 3 channels, the images have 4"):
        created(path, channels=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.5]}, r"mean has 1 elements, expected 3"),
        ({"mean": [0.5, 0.5, float("nan")]}, r"mean\[2\] is nan"),
        ({"std": [0.2, 0.2, 0.0]}, r"std\[2\] is 0.0, expected a number from 0.001"),
        ({"output_dim": 0}, "output_dim is 0"),
        ({"architecture": {"resolved_from": ""}}, "architecture.model_type: unknown vision"),
    ],
)
def test_bad_options_print_their_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PretrainedConfig(**options)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_it_exports_as_one_graph_with_a_free_batch(
    saved: Callable[[str], tuple[Path, nn.Module]], name: str
) -> None:
    encoder = created(saved(name)[0])
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(encoder, (frames(3),), dynamic_shapes=dynamic, strict=False)
    for batch in (1, 5):
        images = frames(batch)
        torch.testing.assert_close(program.module()(images), encoder(images))


def test_the_same_seed_gives_the_same_weights(
    saved: Callable[[str], tuple[Path, nn.Module]],
) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        states.append(created(saved("vit")[0], load=False).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_without_the_library_the_command_that_installs_it_is_named(
    saved: Callable[[str], tuple[Path, nn.Module]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PretrainedConfig(model=str(saved("vit")[0])).resolved()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'transformers>=4.48,<6'"):
        config.create("camera", (SIZE, SIZE, 3))
