"""Pretrained vision backbones of transformers, built from their options alone, and weight names.

The library renamed parts of its models between versions; files on the hub kept the names that
they were written with. A checkpoint has to load in any version, so state dicts of backbones use
the names of files on the hub.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lfm_policy.encoders.pretrained.options import MODEL_TYPE
from lfm_policy.errors import InputError

_INTERPOLATE_WHEN_ASKED = ("vit", "siglip_vision_model", "clip_vision_model")


def build_backbone(options: Mapping[str, Any]) -> nn.Module:
    """Build a backbone with fresh weights; touches neither files nor the network.

    Its state dict has the names of files on the hub (`stable_name`).

    Args:
        options: checked by `check_options`.

    Raises:
        InputError: the transformers library is missing, or too old for this backbone.
    """
    kind = options[MODEL_TYPE]
    values = {name: value for name, value in options.items() if name != MODEL_TYPE}
    if kind in ("convnext", "convnextv2"):
        values["num_stages"] = len(options["depths"])
    config, model = _of_library(kind, values)
    # The pooler of a ViT is often one that nobody trained.
    extra = {"add_pooling_layer": False} if kind == "vit" else {}
    with _SchedulesOnCPU():
        backbone = model(config, **extra)
    _replace_batch_norms(backbone)
    if kind.startswith("dinov2"):
        # Stands in for hidden patches in pretraining; nothing here ever reads it.
        backbone.embeddings.mask_token = None
    use_stable_names(backbone)
    built: nn.Module = backbone
    return built


def pooled_features(options: Mapping[str, Any], backbone: nn.Module, images: Tensor) -> Tensor:
    """Return one vector per image.

    Args:
        options: of the backbone.
        backbone: as `build_backbone` returns.
        images: (B, 3, h, w) floating point, normalised as in pretraining.

    Returns:
        (B, `feature_size`), the same dtype.
    """
    kind = options[MODEL_TYPE]
    extra = {}
    own = options.get("image_size")
    if kind in _INTERPOLATE_WHEN_ASKED and tuple(images.shape[2:]) != (own, own):
        extra["interpolate_pos_encoding"] = True
    output = backbone(pixel_values=images, **extra)
    if kind == "vit":
        first: Tensor = output.last_hidden_state[:, 0]
        return first
    pooled: Tensor = output.pooler_output
    return pooled.flatten(1)


def _of_library(kind: str, values: Mapping[str, Any]) -> tuple[Any, Callable[..., Any]]:
    """Return the library's options and class of a kind of model."""
    # What the library computes while it is imported must not end up on the meta device.
    with torch.device("cpu"):
        try:
            from transformers import MODEL_MAPPING, AutoConfig

            config = AutoConfig.for_model(kind, **values)
            return config, MODEL_MAPPING[type(config)]
        # ValueError, KeyError: a kind of a later version. RuntimeError: what the library's lazy
        # imports raise when one of them fails.
        except (ImportError, AttributeError, RuntimeError, ValueError, KeyError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise InputError(
                "the image encoder 'pretrained' needs the transformers library, version 4.48 or "
                f"later ({reason}): pip install 'transformers>=4.48,<6'"
            ) from None


class _SchedulesOnCPU(TorchFunctionMode):
    """Lets a model that reads numbers off ``torch.linspace`` be built on the meta device.

    ConvNeXt did in early versions of the library, for the rates of its stochastic depth.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.linspace:
            given["device"] = "cpu"
        return func(*args, **given)


class FixedBatchNorm(nn.Module):
    """Batch normalisation with the statistics of pretraining, in training too.

    Small batches of almost equal frames would spoil them, and so would an average over the
    weights of many steps. Scale and shift are trained. Maps (B, C, h, w) to the same shape.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        self.weight = norm.weight
        self.bias = norm.bias
        self.register_buffer("running_mean", norm.running_mean)
        self.register_buffer("running_var", norm.running_var)
        self._eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` normalised, scaled and shifted by channel."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return functional.batch_norm(
            x, mean, variance, self.weight, self.bias, training=False, eps=self._eps
        )


def _replace_batch_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FixedBatchNorm(child))
        else:
            _replace_batch_norms(child)


# In this order. Names of other backbones pass through unchanged.
_RENAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # What models with a head, or two towers, put in front.
        (r"^(vision_model|vit|dinov2|dinov2_with_registers|resnet|convnext|convnextv2)\.", ""),
        # ViT since transformers 5.
        (r"^layers\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
        (r"^layers\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
        (r"^layers\.(\d+)\.", r"encoder.layer.\1."),
        # ViT and DINOv2 since transformers 5.
        (r"\.attention\.q_proj\.", ".attention.attention.query."),
        (r"\.attention\.k_proj\.", ".attention.attention.key."),
        (r"\.attention\.v_proj\.", ".attention.attention.value."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
    )
]


def stable_name(name: str) -> str:
    """Return the name of a weight as in files on the hub, without the model's own prefix."""
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def use_stable_names(backbone: nn.Module) -> None:
    """Let ``state_dict`` and ``load_state_dict`` of a backbone, or around it, use stable names."""
    backbone.register_state_dict_post_hook(_to_stable)
    backbone.register_load_state_dict_pre_hook(_to_own)


def _to_stable(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    _rename(state, prefix, stable_name)


def _to_own(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    tensors = [*dict(module.named_parameters()), *dict(module.named_buffers())]
    own = {stable_name(name): name for name in tensors}
    _rename(state, prefix, lambda name: own.get(name, name))


def _rename(state: dict[str, Any], prefix: str, new_name: Callable[[str], str]) -> None:
    old = [name for name in state if name.startswith(prefix)]
    state.update([(prefix + new_name(n.removeprefix(prefix)), state.pop(n)) for n in old])
