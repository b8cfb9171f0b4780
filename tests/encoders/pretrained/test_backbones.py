"""Names of a backbone's weights, the same for all versions of the transformers library."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lfm_policy.encoders.pretrained.backbones import stable_name, use_stable_names

QUERY = "encoder.layer.3.attention.attention.query.weight"


@pytest.mark.parametrize(
    ("names", "stable"),
    [
        (
            ["layers.3.attention.q_proj.weight", QUERY, f"vit.{QUERY}", f"dinov2.{QUERY}"],
            QUERY,
        ),
        (["layers.0.attention.o_proj.bias"], "encoder.layer.0.attention.output.dense.bias"),
        (["layers.11.mlp.fc1.weight"], "encoder.layer.11.intermediate.dense.weight"),
        (["layers.11.mlp.fc2.bias"], "encoder.layer.11.output.dense.bias"),
        (["layers.2.layernorm_before.bias"], "encoder.layer.2.layernorm_before.bias"),
        (["encoder.layer.0.mlp.fc1.weight"], "encoder.layer.0.mlp.fc1.weight"),
        (
            [
                "vision_model.encoder.layers.0.self_attn.q_proj.weight",
                "encoder.layers.0.self_attn.q_proj.weight",
            ],
            "encoder.layers.0.self_attn.q_proj.weight",
        ),
        (
            ["resnet.embedder.embedder.convolution.weight"],
            "embedder.embedder.convolution.weight",
        ),
        # Another tower and a classifier keep names that no backbone has.
        (["text_model.encoder.layers.0.mlp.fc1.weight"], None),
        (["classifier.weight"], None),
    ],
)
def test_all_names_that_a_weight_has_had_are_one(names: list[str], stable: str | None) -> None:
    for name in names:
        assert stable_name(name) == (name if stable is None else stable)
        assert stable_name(stable_name(name)) == stable_name(name)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"q_proj": nn.Linear(2, 2), "k_proj": nn.Linear(2, 2)})
        self.register_buffer("count", torch.zeros(()))


class _Backbone(nn.Module):
    """With names as in transformers 5."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Attention(), _Attention()])
        use_stable_names(self)


def test_state_dicts_have_stable_names_and_load_by_them() -> None:
    around = nn.ModuleDict({"backbone": _Backbone(), "layers": nn.Linear(2, 2)})
    state = around.state_dict()
    assert set(state) == {
        "layers.weight",
        "layers.bias",
        *(
            f"backbone.encoder.layer.{i}.{name}"
            for i in range(2)
            for name in (
                "count",
                "attention.attention.query.weight",
                "attention.attention.query.bias",
                "attention.attention.key.weight",
                "attention.attention.key.bias",
            )
        ),
    }
    # The tensors themselves, as those who fill a network through its state dict need.
    name = "backbone.encoder.layer.1.attention.attention.query.weight"
    backbone = around["backbone"]
    weight = backbone.layers[1].attention["q_proj"].weight  # type: ignore[index, union-attr]
    assert state[name].data_ptr() == weight.data_ptr()
    for other in (nn.ModuleDict({"backbone": _Backbone(), "layers": nn.Linear(2, 2)}), around):
        twin = copy.deepcopy(other)
        twin.load_state_dict(dict(state))
        assert all(torch.equal(tensor, state[key]) for key, tensor in twin.state_dict().items())


def test_missing_and_unexpected_weights_are_noticed() -> None:
    backbone = _Backbone()
    state = dict(backbone.state_dict())
    name = "encoder.layer.0.attention.attention.query.weight"
    renamed = {**state, "other": state[name]}
    del renamed[name]
    with pytest.raises(RuntimeError, match=r"(?s)Missing key.*q_proj.*Unexpected key.*other"):
        backbone.load_state_dict(renamed)
