"""Every option explains itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.config.describe import describe_options
from lfm_policy.config.schema import CHOICES


def all_options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        yield f"{prefix}{field.name}", field
        if dataclasses.is_dataclass(value):
            yield from all_options(value, f"{prefix}{field.name}.")


EVERY_CHOICE = [
    (section, name) for section, registry in CHOICES.items() for name in registry.names()
]


def test_every_option_has_a_meaning() -> None:
    for key, field in all_options(ExperimentConfig()):
        text = field.metadata.get("help", "")
        assert len(text) >= 3 and text.strip() == text, key


@pytest.mark.parametrize(("section", "name"), EVERY_CHOICE)
def test_every_option_of_every_choice_has_a_meaning(section: str, name: str) -> None:
    for field in dataclasses.fields(CHOICES[section].get(name)):
        assert len(field.metadata.get("help", "")) >= 3, field.name


@pytest.mark.parametrize(("section", "name"), EVERY_CHOICE)
def test_all_are_printed(section: str, name: str) -> None:
    config = config_from_dict({section: {"name": name}}, "test")
    text = describe_options(config)
    for key, field in all_options(config):
        value = config
        for part in key.split("."):
            value = getattr(value, part)
        if dataclasses.is_dataclass(value):
            continue
        line = f"{key}: {field.type} = {value!r}\n    {field.metadata['help']}"
        assert line in text
        for choice in field.metadata.get("choices") or ():
            assert choice in text


def test_the_value_is_the_current_one() -> None:
    config = config_from_dict({"training": {"total_steps": 123}}, "test")
    assert "training.total_steps: int = 123\n    gradient steps" in describe_options(config)
