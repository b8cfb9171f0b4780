"""Every rule speaks up where it should, and is silent about a good policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lfm_policy.checking import rules
from lfm_policy.checking.blocks import BlockCheck
from lfm_policy.checking.demonstrations import (
    HELD_OUT,
    OTHER,
    TRAINING,
    UNKNOWN,
    instants_of,
)
from lfm_policy.checking.open_loop import errors_of, open_loop
from lfm_policy.checking.result import PolicyCheck
from lfm_policy.checking.samples import joins_of, spread_of
from lfm_policy.checking.seen import Shuffled
from lfm_policy.evaluation.chunks import outside_of
from lfm_policy.evaluation.statistics import Interval
from lfm_policy.inspection.finding import Finding

from .conftest import N_ACTION, KnownPolicy, demonstrations_of, ramps, units_of


def block(n: int, held_out: float, ignorant: float = 1.0, training: float = 0.5) -> BlockCheck:
    return BlockCheck(n, held_out, training, ignorant, training, {})


def check_of(samples: Any = None, **changes: Any) -> PolicyCheck:
    """Return the check of a good policy: samples around the truth, apart as far as beside it.

    ``samples`` maps the demonstrated chunks (M, horizon, 2) and the good samples (K, ...) to
    others.
    """
    buffer, units = ramps(8, 24, dims=2), units_of(2, high=100.0)
    instants = instants_of(buffer, np.arange(8), KnownPolicy(2))
    truth = instants.demonstrated
    generator = np.random.default_rng(0)
    good = truth + 0.3 * generator.normal(size=(2, *truth.shape)).sum(0)
    good = good + 0.3 * generator.normal(size=(8, *truth.shape))
    if samples is not None:
        good = samples(truth, good)
    loop = open_loop(good, instants, units, truth.mean(0))
    loop = replace(loop, training=loop.sample)
    check = PolicyCheck(
        name="good",
        policy={},
        demonstrations=demonstrations_of(buffer),
        seed=0,
        units=units,
        open_loop=loop,
        spread=spread_of(good, instants, units),
        joins=joins_of(good, instants, units, N_ACTION),
        outside=outside_of(good, units.low, units.high, executed=instants.executed),
        unclipped=True,
        shuffled=[
            Shuffled("now", 3.0, Interval(2, 4), 0.9),
            Shuffled("up", 0, Interval(0, 0), 0.1),
        ],
        copies={},
        cameras=(),
        blocks=[block(1, 0.9), block(2, 0.8)],
        n_action_steps=N_ACTION,
        noise_scale=1.0,
        complete=True,
        student=False,
        deterministic=False,
        instants=instants,
        samples=good,
    )
    return replace(check, **changes)


GOOD = check_of()


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_good_policy(rule: rules.Rule) -> None:
    assert rule(GOOD) is None


def test_verdict_of_a_good_policy() -> None:
    assert GOOD.findings == [] and "Nothing looks wrong." in GOOD.verdict
    assert "nearer to the demonstrations than repeating the last action" in GOOD.verdict


def test_the_worst_of_many_dimensions_is_named() -> None:
    assert "alone" not in GOOD.verdict  # of two, one has always half of the error
    errors = replace(GOOD.open_loop.sample, per_dim=np.array([1.0, 1.0, 6.0]))
    units = replace(GOOD.units, scale=np.ones(3), low=np.zeros(3), high=np.zeros(3))
    check = replace(GOOD, open_loop=replace(GOOD.open_loop, sample=errors), units=units)
    check.__dict__["findings"] = []
    assert "75% of its error is in action[2] alone." in check.verdict


def found(rule: rules.Rule, check: PolicyCheck) -> Finding:
    finding = rule(check)
    assert finding is not None
    assert finding in check.findings
    hidden = finding.kind in rules.SYMPTOMS and rules.no_better_than_baseline(check) is not None
    assert (finding.message in check.verdict) is not hidden
    return finding


def worse(factor: float) -> Any:
    """Return the errors of the good policy, larger."""
    errors = GOOD.open_loop.sample
    return replace(errors, per_episode=errors.per_episode * factor)


def test_few_episodes() -> None:
    instants, units = GOOD.instants, GOOD.units
    rows = instants.started & (instants.episode < 4)
    few = errors_of(np.abs(GOOD.samples[0] - instants.demonstrated), instants, units, rows)
    loop = GOOD.open_loop
    names = {
        name: replace(errors, per_episode=errors.per_episode[:4])
        for name, errors in loop.baselines.items()
    }
    check = replace(GOOD, open_loop=replace(loop, sample=few, baselines=names, training=None))
    assert "only 4 episodes are checked" in found(rules.too_few_episodes, check).message

    def message(held_out: int, others: int, kind: str = HELD_OUT) -> str:
        numbers = np.arange(held_out + others)
        chosen = {"checked": numbers[:held_out], "reference": numbers[held_out:], "kind": kind}
        data = replace(check.demonstrations, **chosen)
        return found(rules.too_few_episodes, replace(check, demonstrations=data)).message

    assert "keep more for validation (dataset.validation_ratio=0.05)" in message(4, 96)
    assert "keep more for validation (dataset.validation_ratio=0.42)" in message(4, 8)
    assert "validation" not in message(4, 5) and "record more" in message(4, 5)
    assert "validation" not in message(4, 96, OTHER)


def test_not_held_out() -> None:
    for kind, words in ((TRAINING, "was trained on"), (UNKNOWN, "may have been trained on")):
        check = replace(GOOD, demonstrations=replace(GOOD.demonstrations, kind=kind))
        assert words in found(rules.not_held_out, check).message


def test_not_complete() -> None:
    assert "--resume" in found(rules.not_complete, replace(GOOD, complete=False)).message
    assert rules.not_complete(replace(GOOD, complete=None)) is None


def test_no_better_than_repeating() -> None:
    def repeating(truth: np.ndarray, good: np.ndarray) -> np.ndarray:
        return good * 0 + truth[:, :1]  # the action before the newest observation

    check = check_of(repeating)
    finding = found(rules.no_better_than_baseline, check)
    assert "is not better than repeating the last action" in finding.message
    far = check_of(lambda truth, good: good + 100)
    assert "is worse than" in found(rules.no_better_than_baseline, far).message
    # What follows from that is left out of the paragraph.
    assert rules.hopeless_dimensions(far) in far.findings
    assert "times as far" in far.verdict and "action[0]" not in far.verdict


def test_overfits() -> None:
    check = replace(GOOD, open_loop=replace(GOOD.open_loop, training=worse(0.3)))
    assert "3.3 times as large" in found(rules.overfits, check).message
    # Twice as large, but in so few and so different episodes that it may be chance.
    spread = np.array([0.1, 4.0] * 4)
    mild = replace(worse(1), per_episode=worse(1).per_episode * spread)
    loop = replace(GOOD.open_loop, sample=mild, training=worse(1))
    assert rules.overfits(replace(GOOD, open_loop=loop)) is None


def test_ignorant_block() -> None:
    check = replace(GOOD, blocks=[block(1, 0.99), block(2, 0.99, training=0.98)])
    finding = found(rules.ignorant_block, check)
    assert finding.facts["blocks"] == [2] and "train it longer" in finding.message
    check = replace(GOOD, blocks=[block(1, 1.2), block(2, 0.8)])
    finding = found(rules.ignorant_block, check)
    assert finding.facts["blocks"] == [1] and "so it overfits" in finding.message
    unknown = BlockCheck(1, None, None, None, None, {})
    assert rules.ignorant_block(replace(GOOD, blocks=[unknown])) is None


def test_blind() -> None:
    unseen = Shuffled("camera", 0.0, Interval(0, 0), 0.001)
    check = replace(GOOD, shuffled=[GOOD.shuffled[0], unseen])
    assert "does not look at camera" in found(rules.blind, check).message
    assert "leave out what is of no use" in found(rules.blind, check).message
    camera = replace(check, cameras=("camera",))
    assert "training.encoder=joint" in found(rules.blind, camera).message
    every = replace(GOOD, shuffled=[replace(unseen, key="now"), unseen])
    assert "any observation: now, camera" in found(rules.blind, every).message
    task = replace(GOOD, shuffled=[GOOD.shuffled[0], replace(unseen, key="task")])
    told = found(rules.blind, task).message
    assert "dataset.tasks" in told and "obs_keys" not in told
    both = replace(task, shuffled=[*task.shuffled, unseen])
    assert "(dataset.obs_keys)" in (told := found(rules.blind, both).message)
    assert "dataset.tasks" in told


def test_copies_history() -> None:
    def copying(truth: np.ndarray, good: np.ndarray) -> np.ndarray:
        predicted = good * 0 + truth[:, :1]  # it repeats the action before
        predicted[:, :, 1] = truth[:, 1]
        return predicted + np.random.default_rng(0).normal(size=predicted.shape) * 0.01

    check = check_of(copying, copies={"last_action": [0, 1]})
    message = found(rules.copies_history, check).message
    assert "leave last_action out" in message and "its error grows from" in message
    # Told its last action, and no better than that in any step.
    poor = check_of(lambda truth, good: good + 2, copies={"last_action": [0]})
    assert "no better than to repeat" in found(rules.copies_history, poor).message
    assert rules.copies_history(replace(check, copies={})) is None
    assert rules.copies_history(replace(GOOD, copies={"last_action": [0]})) is None


def test_hopeless_dimensions() -> None:
    def half(truth: np.ndarray, good: np.ndarray) -> np.ndarray:
        return np.stack([good[..., 0], good[..., 1] + 60], axis=-1)

    finding = found(rules.hopeless_dimensions, check_of(half))
    assert finding.facts["dimensions"] == [1] and "action[1]" in finding.message
    # A dimension that never moves cannot be told better than by its mean.
    still = replace(GOOD.units, low=np.array([0, 5.0]), high=np.array([100, 5.0]))
    assert rules.hopeless_dimensions(replace(check_of(half), units=still)) is None


def test_collapsed() -> None:
    check = check_of(lambda truth, good: good * 0 + good[:1])
    assert "as good as deterministic" in found(rules.collapsed, check).message
    assert "its teacher" in found(rules.collapsed, replace(check, student=True)).message
    assert rules.collapsed(replace(check, deterministic=True)) is None


def test_scattered() -> None:
    def far(truth: np.ndarray, good: np.ndarray) -> np.ndarray:
        return truth + np.random.default_rng(0).normal(size=good.shape)

    message = found(rules.scattered, check_of(far)).message
    assert "lower sampler.noise_scale (now 1; eval --noise-scale 0.6)" in message


def test_outside_range() -> None:
    narrow = check_of().units
    narrow = replace(narrow, high=np.array([100.0, 50.0]))
    executed = GOOD.instants.executed
    outside = outside_of(GOOD.samples, narrow.low, narrow.high, executed=executed)
    finding = found(rules.outside_range, replace(GOOD, outside=outside))
    assert finding.facts["dimensions"] == [1] and "before they are clipped" in finding.message
    # A gripper stands at the ends of its range, and half of the samples about them lie outside.
    ends = GOOD.instants.demonstrated.copy()
    ends[..., 1] = np.where(ends[..., 1] > 40, 50.0, 0.0)
    gripper = replace(GOOD, units=narrow, instants=replace(GOOD.instants, demonstrated=ends))
    half = replace(outside, per_dim=np.array([0, 0.5]))
    assert rules.outside_range(replace(gripper, outside=half)) is None


def test_jumps() -> None:
    def tilted(truth: np.ndarray, good: np.ndarray) -> np.ndarray:
        return good + 4 * (np.arange(good.shape[2]) - 2)[:, None]

    assert "chunks do not join" in found(rules.jumps, check_of(tilted)).message
    assert rules.jumps(replace(GOOD, joins=None)) is None
