"""One set of names for the weights of a backbone, whatever the version of transformers.

The library renamed parts of its models between versions; files on the hub kept the names that
they were written with. A checkpoint has to load in any version, so state dicts of backbones use
the names of files on the hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

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
    _rename(state, prefix, {own: stable_name(own) for own in _under(state, prefix)})


def _to_own(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    tensors = [*dict(module.named_parameters()), *dict(module.named_buffers())]
    own = {stable_name(name): name for name in tensors}
    _rename(state, prefix, {name: own.get(name, name) for name in _under(state, prefix)})


def _under(state: Mapping[str, Any], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in state if name.startswith(prefix)]


def _rename(state: dict[str, Any], prefix: str, names: Mapping[str, str]) -> None:
    values = [(prefix + new, state.pop(prefix + old)) for old, new in names.items()]
    state.update(values)
