"""All registries by kind, and what a checkpoint may say of plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lfm_policy.assets import bundled_policy
from lfm_policy.config import ExperimentConfig, config_to_dict
from lfm_policy.errors import InputError
from lfm_policy.networks import NETWORKS
from lfm_policy.networks.mlp import MLPConfig
from lfm_policy.plugins import CHOICES, REGISTRIES, check_plugins, needed_plugins, registry
from lfm_policy.policy import read_header
from lfm_runtime.plugins import loading


def test_every_kind_has_a_registry() -> None:
    for kind in REGISTRIES:
        assert registry(kind).kind == kind
        for name, _ in registry(kind).items():
            assert registry(kind).plugin_of(name) == ""


def test_what_comes_with_the_package_needs_no_plugin() -> None:
    assert needed_plugins(config_to_dict(ExperimentConfig())) == {}
    header = read_header(bundled_policy("pusht-state"))
    assert needed_plugins(config_to_dict(header.config)) == {}


def test_only_what_is_used_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NETWORKS, "_entries", dict(NETWORKS._entries))
    monkeypatch.setattr(NETWORKS, "_plugins", {})
    with loading("my_module"):
        NETWORKS.add("wide", MLPConfig)
        NETWORKS.add("deep", MLPConfig)
    options = config_to_dict(ExperimentConfig())
    assert needed_plugins(options) == {}
    options["distill"]["network"] = {"name": "wide"}
    assert needed_plugins(options) == {"my_module": {"network": ["wide"]}}
    check_plugins(needed_plugins(options), "config.json")


@pytest.mark.parametrize(
    ("needed", "message"),
    [
        ({"os": {"network": ["wide"]}}, "needs the plugin 'os' .network 'wide'., which is not"),
        ({"a": {"network": ["mlp"]}, "b": {"robot": ["arm"]}}, "needs the plugin 'b' .robot 'arm'"),
        ([], "plugins: expected names by kind by plugin"),
        ({"a": ["mlp"]}, "plugins: expected names by kind by plugin"),
        ({"a": {"network": [1]}}, "plugins: expected names by kind by plugin"),
    ],
)
def test_what_a_file_says(needed: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^config.json: {message}"):
        check_plugins(needed, "config.json")


def test_kinds_of_later_versions_are_somebody_elses_message() -> None:
    check_plugins({"a": {"no such kind": ["x"]}, "b": {"network": ["mlp"]}}, "config.json")


def test_every_kind_that_a_configuration_chooses_is_asked_about() -> None:
    """Environments are not: a policy can be loaded without; and the rest is not in a checkpoint."""
    asked = {kind for kinds in CHOICES.values() for kind in kinds}
    assert REGISTRIES.keys() - asked == {"environment", "expert", "robot", "framework"}
    assert asked <= REGISTRIES.keys()


def test_a_time_sampler_of_a_plugin_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    samplers = registry("time sampler")
    monkeypatch.setattr(samplers, "_entries", dict(samplers._entries))
    monkeypatch.setattr(samplers, "_plugins", {})
    with loading("my_module"):
        samplers.add("late", samplers.get("uniform"))
    assert needed_plugins({"flow": {"time": {"name": "late"}}}) == {
        "my_module": {"time sampler": ["late"]}
    }
