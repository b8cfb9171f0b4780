"""Trainings that leave observations out: as exact as all others, and started from any policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig
from lfm_policy.flow import METHODS, SolverSpec
from lfm_policy.policy import Policy, load_policy, read_header
from lfm_policy.training import Interrupted, train

from .test_init_from import OBS_NEW, chunks, more, started

__all__ = ["more"]
pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
AssertSame = Callable[[Path, Path], None]
Weights = Callable[[Path], dict[str, Tensor]]
BeforeStep = Callable[[int, int, Callable[[], None]], None]

GUIDED = {"flow.drop_obs": 0.3, "sampler.guidance": 1.5}


def test_a_training_goes_on_to_the_same_weights(
    make_config: MakeConfig,
    assert_same_weights: AssertSame,
    before_step: BeforeStep,
    tmp_path: Path,
) -> None:
    config = make_config({**GUIDED, "training.checkpoint_every": 4})
    train(config, tmp_path / "whole", device="cpu", quiet=True)

    def stop() -> None:
        raise Interrupted("here")

    before_step(2, 6, stop)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "parts", device="cpu", quiet=True)
    before_step(0, 0, stop)
    train(config, tmp_path / "parts", device="cpu", resume=True, quiet=True)
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")
    policy = load_policy(tmp_path / "whole")
    assert (policy.guidance, policy.nfe) == (1.5, 4)


def test_blocks_learn_what_stands_in_for_observations(
    make_config: MakeConfig, weights: Weights, tmp_path: Path
) -> None:
    config = make_config({**GUIDED, "training.learning_rate": 0.01})
    train(config, tmp_path / "run", device="cpu", quiet=True)
    trained = weights(tmp_path / "run")
    for name in ("blocks.0.none", "blocks.1.none"):
        assert (trained[name].abs() - 3).abs().max() > 1e-3
    # The second block started from the first one, its vector included.
    assert torch.equal(trained["blocks.0.none"].sign(), trained["blocks.1.none"].sign())


def test_validation_losses_are_those_with_observations(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    losses = []
    for share in (0.1, 0.9):  # nothing is learned in one step of rate 0
        config = make_config(
            {
                "flow.drop_obs": share,
                "flow.n_blocks": 1,
                "training.total_steps": 1,
                "training.learning_rate": 1e-12,
            }
        )
        folder = tmp_path / f"{share}"
        train(config, folder, device="cpu", quiet=True)
        losses.append(read_header(folder).training["blocks"][0]["validation_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_an_encoder_learns_with_all_blocks(make_config: MakeConfig, tmp_path: Path) -> None:
    changes = {
        **GUIDED,
        "encoder": {"name": "state", "hidden": [6]},
        "training.encoder": "joint",
        "training.encoder_steps": 6,
        "policy.max_prefix": 1,
    }
    train(make_config(changes), tmp_path / "run", device="cpu", quiet=True)
    policy = load_policy(tmp_path / "run")
    assert policy.sample(policy.fake_batch(2)).nfe == 4


def test_a_policy_learns_to_do_without_and_forgets_it(
    make_config: MakeConfig, weights: Weights, tmp_path: Path
) -> None:
    plain, guided = make_config(), make_config(GUIDED)
    train(plain, tmp_path / "plain", device="cpu", quiet=True)
    run = started(guided, tmp_path / "plain", tmp_path / "guided")
    obs = {"position": torch.randn(8, 2, 3)}
    known = load_policy(tmp_path / "plain")
    tuned = Policy(run.config, run.spec, run.model, known.normalizer)
    tuned.set_sampler(guidance=1.0)
    torch.testing.assert_close(chunks(tuned, obs), chunks(known, obs))
    train(guided, tmp_path / "guided", device="cpu", init_from=tmp_path / "plain", quiet=True)
    back = started(plain, tmp_path / "guided", tmp_path / "back")
    learnt, kept = weights(tmp_path / "guided"), back.model.state_dict()
    assert kept.keys() == weights(tmp_path / "plain").keys()
    for name, tensor in kept.items():
        assert torch.equal(
            tensor,
            learnt[
                name.replace("blocks.0.", "blocks.0.network.").replace(
                    "blocks.1.", "blocks.1.network."
                )
            ],
        )


@pytest.mark.parametrize("hidden", [[], [6]])
def test_new_observations_change_nothing_at_first(
    make_config: MakeConfig, more: Path, tmp_path: Path, hidden: list[int]
) -> None:
    common: dict[str, Any] = {
        **GUIDED,
        "encoder.hidden": hidden,
        "policy.max_prefix": 1,
        "training.total_steps": 4,
        "policy.clip_actions": False,
    }
    train(make_config(common), tmp_path / "source", device="cpu", quiet=True)
    config = make_config({**common, **OBS_NEW, "dataset.path": str(more)})
    run = started(config, tmp_path / "source", tmp_path / "tuned")
    obs = {key: torch.randn(8, 2, *shape) for key, shape in run.spec.obs_shapes.items()}
    tuned = Policy(run.config, run.spec, run.model, run.data.normalizer)
    before = chunks(load_policy(tmp_path / "source"), {"position": obs["position"]})
    torch.testing.assert_close(chunks(tuned, obs), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_can_be_guided(make_config: MakeConfig, tmp_path: Path, method: str) -> None:
    rule = METHODS.get(method)().create()
    evaluations = 2 * (rule.evaluations(SolverSpec(rule.default_solver)) or 1)
    changes = {
        "flow.method": method,
        "flow.n_blocks": 1,
        "flow.drop_obs": 0.3,
        "sampler.guidance": 1.5,
        "sampler.nfe": evaluations,
        "training.total_steps": 3,
        "training.learning_rate": 0.03,
    }
    train(make_config(changes), tmp_path / "run", device="cpu", quiet=True)
    policy = load_policy(tmp_path / "run")
    given = {"batch": policy.fake_batch(3), "noise": torch.randn(3, *policy.chunk_shape)}
    result = policy.sample(**given)
    assert result.nfe == policy.nfe == evaluations
    policy.set_sampler(guidance=1.0)
    assert not torch.equal(policy.sample(**given).chunk, result.chunk)


def test_from_the_command_line(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    options = ["flow.drop_obs=0.1", "--output", run, "--device", "cpu", "--quiet"]
    assert main(["train", str(small_config), *options]) == 0
    check = ["check", run, "--episodes", "1", "--samples", "2", "--device", "cpu", "--quiet"]
    capsys.readouterr()
    assert main([*check, "--guidance", "1.5", "--nfe", "8", "--json", "--output", run]) == 0
    told = json.loads(capsys.readouterr().out)["policy"]
    assert (told["guidance"], told["nfe"]) == (1.5, 8)
    assert main([*check, "--guidance", "1.5", "--nfe", "5"]) == 2
    assert "with guidance 1.5 takes 2 evaluation(s)" in capsys.readouterr().err
