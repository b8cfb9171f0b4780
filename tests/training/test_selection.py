"""Rollouts while a policy is trained: they change nothing, and the best policy is kept."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.checkpoint_folders import CHECKPOINTS
from lfm_policy.cli.main import main
from lfm_policy.config import EvalConfig, ExperimentConfig
from lfm_policy.distillation import distill
from lfm_policy.errors import EvaluationError, InputError
from lfm_policy.evaluation.evaluation import SelectionRollouts
from lfm_policy.policy import Policy, load_policy, read_header
from lfm_policy.training import Interrupted, train
from lfm_policy.training.run_folder.best import BEST, best_in_words, read_best
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics
from lfm_policy.training.selection import Score

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
AssertSame = Callable[[Path, Path], None]

EVERY_4 = {"eval.every": 4, "eval.episodes": 10, "env.id": "lfm/PushT-v0"}


class Fake:
    """Rollouts that draw random numbers, and succeed as often as they are told."""

    def __init__(self, *successes: int | None) -> None:
        self.successes = list(successes)
        self.weights: list[torch.Tensor] = []
        self.prepared = 0

    def prepare(self, config: ExperimentConfig) -> None:
        self.prepared += 1

    def roll_out(
        self, policy: Policy, options: EvalConfig, *, each_step: Callable[[], None], quiet: bool
    ) -> Score:
        each_step()
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        torch.rand(3)
        self.weights.append(next(policy.model.blocks[-1].parameters()).clone())
        with torch.no_grad():
            for parameter in policy.model.parameters():
                parameter.zero_()
        n = self.successes.pop(0) if self.successes else 1
        score = 0.1 if n is None else n / 10
        return Score(options.episodes, n, score, 0.0, 1.0, options.seed_start, policy.nfe or 0)


def looks(folder: Path) -> list[tuple[int, int]]:
    records = read_metrics(folder / METRICS_FILE)
    return [(r["block"], r["step"]) for r in records if r["kind"] == "rollout"]


def test_they_change_nothing(
    trained: Path, make_config: MakeConfig, tmp_path: Path, assert_same_weights: AssertSame
) -> None:
    fake = Fake(3, 7, 7, 2)
    config = make_config(EVERY_4, checkpoints=True)
    train(config, tmp_path / "run", device="cpu", rollouts=fake, quiet=True)
    assert_same_weights(tmp_path / "run", trained)
    assert fake.prepared == 1
    # Once block 2 has learnt something the policy is whole; at the end, whenever that is.
    assert looks(tmp_path / "run") == [(2, 16), (2, 20), (2, 24), (2, 28), (2, 30)]
    names = sorted(path.name for path in (tmp_path / "run" / CHECKPOINTS).iterdir())
    assert names == sorted([BEST, *(path.name for path in (trained / CHECKPOINTS).iterdir())])


def test_the_best_is_kept(
    trained: Path, make_config: MakeConfig, tmp_path: Path, weights: Any, capsys: Any
) -> None:
    fake = Fake(3, 7, 7, 2, 5)
    changes = {**EVERY_4, "training.checkpoint_every": 4, "training.keep_checkpoints": 1}
    train(make_config(changes), tmp_path, device="cpu", rollouts=fake, quiet=True)
    header = read_best(tmp_path)
    assert header is not None and not header.complete
    assert header.training["steps"] == 20  # of equals the first
    assert header.training["selection"] == {
        "episodes": 10,
        "successes": 7,
        "score": 0.7,
        "low": 0.0,
        "high": 1.0,
        "seed_start": 200_000,
        "nfe": 4,
    }
    assert read_header(tmp_path).folder.name == "final"
    assert sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir()) == [BEST, "final"]
    policy = load_policy(tmp_path / CHECKPOINTS / BEST)
    assert torch.equal(next(policy.model.blocks[-1].parameters()), fake.weights[1])
    assert "step 20, 7/10 successes (95% interval 0.000 to 1.000), mean of the" in best_in_words(
        header
    )
    assert main(["inspect", str(tmp_path)]) == 0
    assert f"lfm-policy eval {header.folder}" in capsys.readouterr().out
    # It may be a teacher, although its run was not over.
    student = distill(
        tmp_path / CHECKPOINTS / BEST,
        tmp_path / "student",
        nfe=2,
        overrides=["training.total_steps=4", "distill.samples=1", "eval.every=2"],
        device="cpu",
        rollouts=Fake(1, 2),
        quiet=True,
    )
    assert looks(tmp_path / "student") == [(1, 4)]
    best = read_best(student.parent.parent)
    assert best is not None and best.training["selection"]["successes"] == 1


def test_other_episodes_are_no_comparison(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(EVERY_4), tmp_path, device="cpu", rollouts=Fake(9, 9, 9, 9, 9), quiet=True)
    more = {**EVERY_4, "training.total_steps": 40, "eval.seed_start": 300_000}
    train(make_config(more), tmp_path, device="cpu", resume=True, rollouts=Fake(2), quiet=True)
    best = read_best(tmp_path)
    assert best is not None and best.training["selection"]["seed_start"] == 300_000
    assert best.training["selection"]["successes"] == 2
    # All blocks had learnt before: block 1 is rolled out too.
    assert looks(tmp_path)[-3:] == [(1, 32), (2, 36), (2, 40)]


def test_with_the_encoder_all_blocks_are_there(make_config: MakeConfig, tmp_path: Path) -> None:
    joint = {"encoder.hidden": [6], "training.encoder": "joint", "training.encoder_steps": 8}
    config = make_config({**EVERY_4, **joint, "training.total_steps": 0})
    train(config, tmp_path, device="cpu", rollouts=Fake(None, None), quiet=True)
    assert looks(tmp_path) == [(0, 4), (0, 8)]
    best = read_best(tmp_path)
    assert best is not None and "largest rewards 0.100 (95% interval" in best_in_words(best)


@pytest.mark.parametrize("look", [0, 2, 4])
def test_an_interrupt_among_rollouts(
    trained: Path,
    make_config: MakeConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    look: int,
) -> None:
    config = make_config(EVERY_4)

    class Interrupting(Fake):
        def roll_out(self, *args: Any, **options: Any) -> Score:
            if len(self.weights) == look:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().roll_out(*args, **options)

    with pytest.raises(Interrupted, match="SIGTERM in block 2"):
        train(config, tmp_path, device="cpu", rollouts=Interrupting(3, 7, 7, 2, 5), quiet=True)
    step = [16, 20, 24, 28, 30][look]
    assert read_header(tmp_path).training["steps"] == step
    assert len(looks(tmp_path)) == look
    rest = Fake(*[3, 7, 7, 2, 5][look:])
    train(config, tmp_path, device="cpu", rollouts=rest, resume=True, quiet=True)
    assert_same_weights(tmp_path, trained)
    assert [step for _, step in looks(tmp_path)] == [16, 20, 24, 28, 30]
    best = read_best(tmp_path)
    assert best is not None and best.training["steps"] == 20


def test_what_goes_wrong_in_them_does_not_end_the_training(
    trained: Path, make_config: MakeConfig, tmp_path: Path, assert_same_weights: AssertSame
) -> None:
    class Broken(Fake):
        def roll_out(self, *args: Any, **options: Any) -> Score:
            raise EvaluationError("the simulator has died")

    with pytest.warns(UserWarning, match="no more rollouts in this training: the simulator has"):
        train(make_config(EVERY_4), tmp_path, device="cpu", rollouts=Broken(), quiet=True)
    assert_same_weights(tmp_path, trained)
    assert looks(tmp_path) == [] and read_best(tmp_path) is None


def test_without_an_environment_nothing_begins(make_config: MakeConfig, tmp_path: Path) -> None:
    def fails(env: str, message: str) -> None:
        config = make_config({**EVERY_4, "env.id": env})
        with pytest.raises(InputError, match=message):
            train(config, tmp_path / "run", rollouts=SelectionRollouts(), quiet=True)
        assert not (tmp_path / "run").exists()

    fails("", "there is no environment to roll out in: set env.id")
    fails("lfm/PuschT-v0", "lfm/PuschT-v0")
    with pytest.warns(UserWarning, match="nothing here rolls policies out: pass rollouts="):
        train(make_config(EVERY_4), tmp_path / "run", device="cpu", quiet=True)
    with pytest.raises(InputError, match=r"eval\.seed_start"):
        make_config({"eval.seed_start": 100_000})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval.nfe": 1}, r"eval\.nfe: nfe is 1, .* of at least 2: 2 block\(s\)"),
        ({"eval.nfe": 4, "sampler.solver": "dopri5"}, r"eval\.nfe: .*chooses its steps itself"),
    ],
)
def test_evaluations_that_do_not_fit_are_said_before_it_begins(
    make_config: MakeConfig, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = make_config({**EVERY_4, **changes})
    with pytest.raises(InputError, match=message):
        train(config, tmp_path / "run", rollouts=SelectionRollouts(), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.simulator
def test_a_bundled_policy_is_rolled_out() -> None:
    policy, ticks = load_policy("pusht-state"), []
    SelectionRollouts().prepare(policy.config)
    options = EvalConfig(every=1, episodes=2, nfe=4)
    score = SelectionRollouts().roll_out(
        policy, options, each_step=lambda: ticks.append(1), quiet=True
    )
    assert score.episodes == 2 and score.nfe == 4 and score.seed_start == 200_000
    assert 0 < score.score <= 1 and score.successes in (0, 1, 2)
    assert 0 <= score.low <= score.high <= 1
    assert len(ticks) > 10
