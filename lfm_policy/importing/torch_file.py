"""What the readers of `torch.save` files have in common."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfm_policy.errors import InputError
from lfm_policy.importing.description import Settings
from lfm_policy.importing.pickles.pickled import StoredTensor
from lfm_policy.importing.pickles.restricted import Loaded, load_restricted, read_tensor
from lfm_runtime.disk.files import is_file

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".ckpt", ".pth", ".pt")


def loaded_dict(path: Path) -> Loaded | None:
    """Return what a file of torch.save holds; None for what does not look like one by its name.

    Raises:
        InputError: it is damaged, or asks for something that is no data.
    """
    if path.suffix not in SUFFIXES or not is_file(path):
        return None
    loaded = _loaded(path, path.stat().st_mtime_ns)
    return loaded if isinstance(loaded.content, dict) else None


@cache
def _loaded(path: Path, _: int) -> Loaded:
    return load_restricted(path)


def part(content: Mapping[str, Any], path: Path, *keys: str) -> Any:
    """Return a part of nested dicts.

    Raises:
        InputError: it is not there.
    """
    found: Any = content
    for n, key in enumerate(keys):
        if not isinstance(found, dict) or key not in found:
            there = ", ".join(sorted(map(str, found))[:6]) if isinstance(found, dict) else "no dict"
            raise InputError(f"{path}: '{'.'.join(keys[: n + 1])}' is missing (found: {there})")
        found = found[key]
    return found


def tensors(path: Path, values: Any, label: str) -> dict[str, Tensor]:
    """Return the numbers of a state dict, float32.

    Raises:
        InputError: it is none.
    """
    if not isinstance(values, dict):
        raise InputError(f"{path}: {label} is no state dict")
    stored = {str(n): t for n, t in values.items() if isinstance(t, StoredTensor)}
    return {n: read_tensor(path, t).float() for n, t in stored.items()}


def scheduler_method(settings: Settings) -> dict[str, Any]:
    """Return options of our method from those of a scheduler of diffusers.

    Raises:
        InputError: one is missing or not supported.
    """
    settings.require("prediction_type", ("epsilon", "sample", "v_prediction"))
    settings.require("beta_schedule", ("squaredcos_cap_v2", "linear", "scaled_linear"))
    prediction = settings.get("prediction_type", str)
    method = {
        "name": "diffusion",
        "prediction": "v" if prediction == "v_prediction" else prediction,
        "beta_schedule": settings.get("beta_schedule", str),
        "train_steps": settings.count("num_train_timesteps"),
        "clip_sample": settings.get("clip_sample", bool),
        "clip_range": 1.0,  # always, in the version of diffusers that these frameworks pin
        "spacing": "leading",
    }
    if method["beta_schedule"] != "squaredcos_cap_v2" or "beta_start" in settings:
        method |= {key: float(settings.get(key, float)) for key in ("beta_start", "beta_end")}
    return method


def old_ddpm_steps(settings: Settings, asked: int, train_steps: int) -> str:
    """Return why DDPM of diffusers 0.11 is not ours with so many steps; empty: it is.

    With fewer steps than in training that version does it in a way of its own.
    """
    if asked == train_steps:
        return ""
    return (
        f"{settings.label}: DDPM of diffusers 0.11 with {asked} of {train_steps} steps goes back "
        "one step of training at a time, whatever it leaves out; supported: all "
        f"{train_steps}, or DDIM: --solver ddpm --nfe {train_steps}, or --solver ddim --nfe {asked}"
    )
