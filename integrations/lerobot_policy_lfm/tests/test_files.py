"""Folders that LeRobot and lfm-policy write, read by the other; by LeRobot's own functions."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lerobot", reason="LeRobot 0.6 is absent")

import torch
from conftest import IMAGE, STATE, batch, shaken, small_config, small_policy, statistics
from lerobot.configs import PreTrainedConfig
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
from lerobot.utils.import_utils import register_third_party_plugins
from lerobot_policy_lfm import LFMConfig, LFMPolicy
from safetensors import safe_open
from torch import Tensor

from lfm_policy import load_policy
from lfm_policy.errors import InputError
from lfm_policy.importing.run import import_policy
from lfm_policy.lerobot.export import export_lerobot
from lfm_policy.policy import Policy

TOLERANCE = 1e-5


def both(folder: Path, own: Policy) -> float:
    """Return the largest difference of chunks there and here, in units of the range of actions."""
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=["--device=cpu"])
    there = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    generator = torch.Generator().manual_seed(0)
    here: dict[str, Tensor] = {}
    given: dict[str, Tensor] = {}
    for key in config.input_features:
        name = config.names.get(key, key)
        shape = (3, own.n_obs_steps, *own.spec.obs_shapes[name])
        if len(shape) == 5:
            here[name] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            given[key] = here[name].movedim(-1, -3).float() / 255
        else:
            low, high = (torch.from_numpy(end).float() for end in own.training_range(name))
            here[name] = low + (high - low) * torch.rand(shape, generator=generator)
            given[key] = here[name].clone()
    noise = torch.randn(3, *own.chunk_shape, generator=generator)
    mine = own.predict_action_chunk(here, noise=noise)
    theirs = after(there.predict_action_chunk(before(given), noise=noise))
    low, high = (torch.from_numpy(end) for end in own.training_range("action"))
    return float(((mine - theirs).abs() / (high - low)).max())


def test_lerobot_finds_the_type_by_the_name_of_the_distribution(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        register_third_party_plugins()
    assert "Imported third-party plugin: lerobot_policy_lfm" in caplog.text
    assert isinstance(make_policy_config("lfm", device="cpu"), LFMConfig)
    assert get_policy_class("lfm") is LFMPolicy


@pytest.mark.parametrize("name", ["pusht-state", "pusht-image", "pusht-state-teacher"])
def test_bundled_policies_act_the_same_there(name: str, tmp_path: Path) -> None:
    policy = load_policy(name)
    assert both(export_lerobot(policy, tmp_path / "there"), policy) < TOLERANCE


@pytest.mark.parametrize("keys", [(), (STATE, IMAGE)])
@pytest.mark.parametrize("mode", ["MIN_MAX", "MEAN_STD", "IDENTITY"])
def test_policies_of_lerobot_act_the_same_here(
    keys: tuple[str, ...], mode: str, tmp_path: Path
) -> None:
    from lerobot.configs import NormalizationMode

    modes = dict.fromkeys(("STATE", "ENV", "ACTION"), NormalizationMode[mode])
    config = small_config(
        *keys, normalization_mapping=modes | {"VISUAL": NormalizationMode.IDENTITY}
    )
    policy = shaken(LFMPolicy(config, dataset_stats=statistics()))
    folder = tmp_path / "there"
    policy.save_pretrained(folder)
    for processor in make_pre_post_processors(config, dataset_stats=statistics()):
        processor.save_pretrained(folder)
    import_policy(folder, tmp_path / "here")
    own = load_policy(tmp_path / "here")
    assert both(folder, own) < TOLERANCE
    again = export_lerobot(own, tmp_path / "again")
    assert both(again, own) < TOLERANCE


def test_saved_and_loaded(tmp_path: Path) -> None:
    policy = small_policy(STATE, IMAGE)
    policy.save_pretrained(tmp_path)  # both are the same: written once
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert not any(name.startswith("ema.") for name in file.keys())  # noqa: SIM118
    loaded = LFMPolicy.from_pretrained(tmp_path)
    given = batch(policy.config)
    noise = torch.randn(5, 6, 2)
    a, b = (p.predict_action_chunk(given, noise=noise) for p in (policy, loaded))
    assert torch.equal(a, b)
    with torch.no_grad():
        next(policy.model.parameters()).add_(1)
    policy.save_pretrained(tmp_path)
    loaded = LFMPolicy.from_pretrained(tmp_path)
    assert torch.equal(loaded.predict_action_chunk(given, noise=noise), a)
    assert torch.equal(next(loaded.model.parameters()), next(policy.model.parameters()))


def test_options_that_were_defaults_are_kept(tmp_path: Path) -> None:
    policy = small_policy()
    options = policy.config.options
    assert options["network"] == {"width": 16, "n_layers": 1, **options["network"]}
    assert options["flow"]["rho"] == 10.0 and "nfe" not in options["sampler"]
    policy.save_pretrained(tmp_path)
    found = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=["--nfe=2"])
    assert found.nfe == 2 and found.options == options
    assert LFMPolicy.from_pretrained(tmp_path, config=found)._pipeline().sampler.nfe == 2


def test_what_is_pushed_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that LeRobot would upload, at the end of a training."""
    uploaded: dict[str, str] = {}

    class Hub:
        def create_repo(self, repo_id: str, **options: object) -> SimpleNamespace:
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path: Path, **options: object) -> SimpleNamespace:
            uploaded.update({p.name: p.read_bytes()[:9000] for p in folder_path.iterdir()})
            loaded = LFMPolicy.from_pretrained(folder_path)
            assert torch.equal(next(loaded.ema.parameters()), next(policy.ema.parameters()))
            return SimpleNamespace(repo_url=SimpleNamespace(url="there"))

    monkeypatch.setattr("lerobot.policies.pretrained.HfApi", Hub)
    # The hub would be asked whether the card is well-formed.
    monkeypatch.setattr("lerobot.policies.pretrained.ModelCard.validate", lambda self: None)
    policy = small_policy(repo_id="user/policy")
    training = TrainPipelineConfig(
        dataset=DatasetConfig(repo_id="user/data"), policy=policy.config, steps=5
    )
    policy.push_model_to_hub(training)
    assert uploaded.keys() == {
        *("config.json", "model.safetensors", "train_config.json", "README.md")
    }
    assert b"lfm" in uploaded["README.md"]


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    policy = small_policy()
    policy.save_pretrained(tmp_path)
    found = PreTrainedConfig.from_pretrained(tmp_path)
    found.options["network"]["width"] = 24
    with pytest.raises(InputError, match="has shape .*, expected"):
        LFMPolicy.from_pretrained(tmp_path, config=found)
