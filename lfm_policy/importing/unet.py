"""The weights of the conditional U-Net, whose sizes are read from themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lfm_policy.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_HALVES = {"0": "first", "1": "second"}
_LAYERS = {"0": "conv", "1": "norm"}
_UNUSED = re.compile(r"(.*\.)?_dummy_variable")

HEAD_GROUPS = 8
"""Of the last norm, in all three frameworks: the number of the others is not handed on to it."""

Weights = Mapping[str, "Tensor"]


def read_unet(
    weights: Weights, label: str, *, n_groups: int, train_steps: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the options of our `ConditionalUNet1D`, and its weights by our names.

    Args:
        weights: by their names inside the network.
        label: of the file, for messages.
        n_groups: of the norms, which no weight says.
        train_steps: integer times.

    Raises:
        InputError: they are not those of such a network.
    """
    left = {name: w for name, w in weights.items() if not _UNUSED.fullmatch(name)}
    network = _Reader(left, label)
    levels = sorted({int(n.split(".")[1]) for n in left if re.match(r"down_modules\.\d+\.", n)})
    if not levels or levels != list(range(len(levels))):
        raise InputError(
            f"{label}: no weights of a conditional U-Net (down_modules.0 ...): found "
            f"{', '.join(sorted(left)[:3]) or 'nothing'}"
        )
    for i in levels:
        network.stage(f"down_modules.{i}", f"down.{i}")
    network.stage("mid_modules", "middle")
    for i in levels[:-1]:
        network.stage(f"up_modules.{i}", f"up.{i}")
    for i in levels[:-1]:
        network.resample(f"down_modules.{i}.2", f"shrink.{i}")
        network.resample(f"up_modules.{i}.2", f"grow.{i}")
    network.conv_norm("final_conv.0.block", "head")
    network.both("final_conv.1", "proj_out")
    network.both("diffusion_step_encoder.1", "film_time.hidden")
    network.both("diffusion_step_encoder.3", "film_time.out")
    channels = [len(network.made[f"down.{i}.first.first.conv.weight"]) for i in levels]
    step_dim = network.made["film_time.hidden.weight"].shape[1]
    rows = network.film(step_dim)
    if network.left:
        unknown = sorted(network.left)
        raise InputError(
            f"{label}: the network has a weight '{unknown[0]}' ({len(unknown)} in all) that no "
            "supported U-Net has"
        )
    each = rows / (2 * sum([*channels, channels[-1], *channels[:-1]]))
    if each not in (1, 2):
        raise InputError(f"{label}: {rows} scales and shifts do not fit the levels {channels}")
    if any(c % n_groups for c in channels) or channels[0] % HEAD_GROUPS:
        raise InputError(
            f"{label}: n_groups {n_groups}, and {HEAD_GROUPS} of the last norm, do not divide the "
            f"levels {channels}"
        )
    options = {
        "name": "conditional_unet1d",
        "channels": channels,
        "kernel_size": network.made["down.0.first.first.conv.weight"].shape[2],
        "n_groups": n_groups,
        "step_embed_dim": step_dim,
        "train_steps": train_steps,
        "film_scale": each == 2,
        "head_groups": HEAD_GROUPS,
    }
    return options, network.made


class _Reader:
    """Takes weights by their names and gives them ours."""

    def __init__(self, weights: dict[str, Tensor], label: str) -> None:
        self.left, self.label = weights, label
        self.made: dict[str, Tensor] = {}
        self._films: list[tuple[Tensor, Tensor]] = []

    def take(self, name: str) -> Tensor:
        if name not in self.left:
            raise InputError(f"{self.label}: the network's weight '{name}' is missing")
        return self.left.pop(name)

    def both(self, name: str, ours: str) -> None:
        for part in ("weight", "bias"):
            self.made[f"{ours}.{part}"] = self.take(f"{name}.{part}")

    def conv_norm(self, name: str, ours: str) -> None:
        for number, layer in _LAYERS.items():
            self.both(f"{name}.{number}", f"{ours}.{layer}")

    def resample(self, name: str, ours: str) -> None:
        self.both(f"{name}.conv" if f"{name}.conv.weight" in self.left else name, ours)

    def stage(self, name: str, ours: str) -> None:
        for number, half in _HALVES.items():
            block, mine = f"{name}.{number}", f"{ours}.{half}"
            for n, part in _HALVES.items():
                lerobot = f"{block}.conv{int(n) + 1}.block"
                known = f"{lerobot}.0.weight" in self.left
                self.conv_norm(lerobot if known else f"{block}.blocks.{n}.block", f"{mine}.{part}")
            if f"{block}.residual_conv.weight" in self.left:
                self.both(f"{block}.residual_conv", f"{mine}.skip")
            pair = (
                self.take(f"{block}.cond_encoder.1.weight"),
                self.take(f"{block}.cond_encoder.1.bias"),
            )
            self._films.append(pair)

    def film(self, step_dim: int) -> int:
        """Join the maps of all blocks, in the order in which they were taken."""
        import torch

        widths = {weight.shape[1] for weight, _ in self._films}
        if len(widths) != 1 or min(widths) < step_dim:
            raise InputError(
                f"{self.label}: the network's conditions have lengths {sorted(widths)}"
            )
        weight = torch.cat([weight for weight, _ in self._films])
        self.made["film_time.film.weight"] = weight[:, :step_dim]
        self.made["film_time.film.bias"] = torch.cat([bias for _, bias in self._films])
        if weight.shape[1] > step_dim:
            self.made["film_cond.weight"] = weight[:, step_dim:]
        return len(weight)
