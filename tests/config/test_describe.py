"""Every option explains itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.config.describe import describe_options
from lfm_policy.config.schema import SECTIONS
from lfm_policy.distillation.methods import METHODS
from lfm_policy.encoders import IMAGE_ENCODERS
from lfm_policy.options import choices_of, declared, is_common, is_options, type_name


def all_options(config: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in declared(type(config)).items():
        value = getattr(config, name)
        if is_options(type(value)):
            yield from all_options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


EVERY_CHOICE = [
    (section, name) for section, chosen in SECTIONS.items() for name in chosen.registry.names()
]


def test_every_option_has_a_meaning() -> None:
    for key, field in all_options(ExperimentConfig()):
        text = field.description
        assert text and len(text) >= 3 and text.strip() == text, key


@pytest.mark.parametrize(("section", "name"), EVERY_CHOICE)
def test_every_option_of_every_choice_has_a_meaning(section: str, name: str) -> None:
    for key, field in declared(SECTIONS[section].registry.get(name)).items():
        assert field.description and len(field.description) >= 3, key


@pytest.mark.parametrize(("section", "name"), EVERY_CHOICE)
@pytest.mark.parametrize("everything", [True, False])
def test_all_or_the_common_ones_are_printed(section: str, name: str, everything: bool) -> None:
    options: Any = {"name": name}
    for key in reversed(section.split(".")):
        options = {key: options}
    if section == "flow.method":
        options["flow"]["n_blocks"] = 1  # not every method can have several as they are
    config = config_from_dict(options, "test")
    text = describe_options(config, everything=everything)
    words = re.sub(r"\s+", " ", text)
    for key, field in all_options(config):
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        line = f"{key}: {type_name(field.annotation)} = {value!r}"
        if not everything and not is_common(field) and not key.endswith("name"):
            assert f"\n{line}" not in f"\n{text}"
        elif everything or is_common(field):
            assert f"{line}\n    {field.description.split()[0]}" in text  # type: ignore[union-attr]
            assert field.description in words  # type: ignore[operator]
            choices = choices_of(field)
            for choice in () if isinstance(choices, str) else choices or ():
                assert choice in text
    assert len(text) < (80_000 if everything else 20_000)


def test_what_sections_may_be_is_listed_with_the_options_of_each() -> None:
    text = describe_options(ExperimentConfig(), everything=True)
    assert "one of mlp, unet1d, conditional_unet1d, transformer" in re.sub(r"\s+", " ", text)
    assert (
        "\n  with network.name=unet1d:\n    network.channels: list[int] = [64, 128, 256]\n" in text
    )
    assert "\n  with dataset.name=robomimic:\n" in text
    assert "with network.name=mlp:" not in text  # it is the one that is described first
    for name in IMAGE_ENCODERS.names():
        assert f"with encoder.image.name={name}:\n" in text
    for name in METHODS.names():
        assert name in text
    common = describe_options(ExperimentConfig(), everything=False)
    assert "with encoder.image.name=resnet18:\n" in common
    assert "network.time_embed_dim" in text and "network.time_embed_dim" not in common
    # Those of the best first, then what other choices have besides, each once and without bounds.
    own, others = common.split("\n\nWhat else sections may be:\n")
    assert "network.width: int = 192\n" in own and "with network.name" not in own
    assert others.count("encoder.image.resize: ") == 1 and "network.dropout: " not in others
    words = re.sub(r"\s+", " ", own)
    assert "an integer from" not in words and "(one of state, cameras)" in words


def test_bounds_are_in_words() -> None:
    words = re.sub(r"\s+", " ", describe_options(ExperimentConfig(), everything=True))
    for text in (
        "number N of blocks; 1 is flow matching with one network (an integer from 1 to 64)",
        "residual layers (an integer from 1 to 256)",
        "validation loss rises again (a number from 0 up to but not including 1)",
        "widths of hidden layers; empty passes the observations on as they are (0 to 32 elements; "
        "each an integer from 1 to 16384)",
        "mode for actions (one of limits, quantiles, standard, identity)",
        "ODE solver (one of euler, midpoint",
    ):
        assert text in words


def test_the_value_is_the_current_one() -> None:
    config = config_from_dict({"training": {"total_steps": 123}}, "test")
    text = describe_options(config, everything=False)
    assert "training.total_steps: int = 123\n    gradient steps" in text
