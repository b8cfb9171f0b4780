"""Several cameras, with one encoder each or one for all, and cameras of Diffusion Policy."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lfm_policy.importing.diffusion_policy import HYBRID
from lfm_policy.importing.run import import_policy
from lfm_policy.policy import Policy, load_policy

from .test_cameras import FEATURES, Foreign, foreign
from .test_lerobot_errors import put, statistics, unet, written
from .test_torch_files import POLICY, SCHEDULER, original

HEIGHT, WIDTH = 64, 72
IMAGE = {"type": "VISUAL", "shape": [3, HEIGHT, WIDTH]}
CAMERAS = ["observation.images.top", "observation.images.front"]
MEAN, STD = 0.4, 0.25


def encoders(n: int) -> list[Foreign]:
    made = [foreign("group") for _ in range(n)]
    for number, encoder in enumerate(made):
        with torch.no_grad():
            encoder.out.bias.add_(number)
    return made


def frames(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, 2, HEIGHT, WIDTH, 3), dtype=np.uint8)


def features(encoder: Foreign, images: np.ndarray, scale: float, shift: float) -> torch.Tensor:
    """Return (2, 2, FEATURES) of images (2, 2, h, w, 3)."""
    flat = torch.from_numpy(images).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return encoder(flat * scale + shift).unflatten(0, (2, 2))


def answer(weights: dict[str, torch.Tensor], foreign_cond: torch.Tensor) -> torch.Tensor:
    """Return what the first block of the original adds and multiplies, without the time."""
    weight = weights["diffusion.unet.down_modules.0.0.cond_encoder.1.weight"][:, 8:]
    return torch.nn.functional.mish(foreign_cond.flatten(1)) @ weight.T


def own_answer(policy: Policy, batch: dict[str, np.ndarray], size: int) -> torch.Tensor:
    cond = policy.encode(batch)
    assert cond is not None
    with torch.no_grad():
        film: Any = policy.model.blocks[0].film_cond
        return film(torch.nn.functional.mish(cond))[:, :size]


@pytest.mark.parametrize(
    ("separate", "others"), [(True, (MEAN, STD)), (False, (MEAN, STD)), (False, (0.2, 0.1))]
)
def test_cameras_of_lerobot(separate: bool, others: tuple[float, float], tmp_path: Path) -> None:
    made = encoders(2 if separate else 1)
    inputs = {CAMERAS[0]: IMAGE, "observation.state": {"type": "STATE", "shape": [3]}}
    modes = {"STATE": "MIN_MAX", "ACTION": "MIN_MAX", "VISUAL": "MEAN_STD"}
    stats = statistics()
    scalings = [(MEAN, STD), others]
    for key, (mean, std) in zip(CAMERAS, scalings, strict=True):
        stats[f"{key}.mean"] = torch.full((3, 1, 1), mean)
        stats[f"{key}.std"] = torch.full((3, 1, 1), std)

    def change(settings: dict[str, Any]) -> None:
        put("input_features", {**inputs, CAMERAS[1]: IMAGE})(settings)
        put("use_separate_rgb_encoder_per_camera", separate)(settings)
        put("crop_shape", None)(settings)

    folder = written(tmp_path / "policy", change=change, modes=modes, stats=stats)
    weights = unet(2 * (3 + 2 * FEATURES))
    for n, encoder in enumerate(made):
        prefix = f"diffusion.rgb_encoder.{n}." if separate else "diffusion.rgb_encoder."
        weights |= {prefix + name: w.clone() for name, w in encoder.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    # The one that comes first there comes last here.
    import_policy(folder, tmp_path / "out", rename={CAMERAS[0]: "zenith"})
    policy = load_policy(tmp_path / "out")
    assert policy.spec.obs_shapes["zenith"] == (HEIGHT, WIDTH, 3)
    state = np.random.default_rng(3).normal(size=(2, 2, 3)).astype(np.float32)
    images = frames(0), frames(1)
    batch = {"observation.state": state, "zenith": images[0], CAMERAS[1]: images[1]}
    scaled = policy.normalizer.normalize("observation.state", torch.from_numpy(state))
    seen = [
        features(encoder, image, 1 / std, -mean / std)
        for encoder, image, (mean, std) in zip(made * 2, images, scalings, strict=False)
    ]
    expected = answer(weights, torch.cat([scaled, *seen], dim=-1))
    found = own_answer(policy, batch, expected.shape[1])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_camera_of_diffusion_policy(tmp_path: Path) -> None:
    (encoder,) = encoders(1)
    observations = {
        "image": {"shape": [3, HEIGHT, WIDTH], "type": "rgb"},
        "agent_pos": {"shape": [3], "type": "low_dim"},
    }
    policy = copy.deepcopy(POLICY) | {
        "_target_": HYBRID,
        "noise_scheduler": {
            **SCHEDULER,
            "_target_": "diffusers.schedulers.scheduling_ddim.DDIMScheduler",
            "set_alpha_to_one": True,
            "steps_offset": 0,
        },
        "num_inference_steps": 4,
        "crop_shape": None,
        "n_groups": 4,
        "shape_meta": {"obs": observations, "action": {"shape": [2]}},
    }
    weights = unet(2 * (3 + FEATURES))
    state = original(weights, "model.")
    names = {"backbone.": "nets.0.nets.", "pool.nets.": "nets.1.nets.", "out.": "nets.3."}
    for name, weight in encoder.state_dict().items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        new = names[old] + name.removeprefix(old)
        state[f"obs_encoder.obs_nets.image.{new}"] = weight
    for key, size in (("image", 1), ("agent_pos", 3), ("action", 2)):
        state[f"normalizer.params_dict.{key}.scale"] = torch.full((size,), 2.0)
        state[f"normalizer.params_dict.{key}.offset"] = torch.full((size,), -1.0)
    content = {
        "cfg": json.loads(json.dumps({"policy": policy, "training": {"use_ema": False}})),
        "state_dicts": {"model": state},
    }
    torch.save(content, tmp_path / "a.ckpt")
    import_policy(tmp_path / "a.ckpt", tmp_path / "out")
    imported = load_policy(tmp_path / "out")
    position = np.random.default_rng(3).normal(size=(2, 2, 3)).astype(np.float32)
    seen = features(encoder, frames(0), 2, -1)
    scaled = torch.from_numpy(position) * 2 - 1
    expected = answer(weights, torch.cat([seen, scaled], dim=-1))
    found = own_answer(imported, {"image": frames(0), "agent_pos": position}, expected.shape[1])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
