"""What looks wrong with a policy, and what to try: one function per rule, thresholds above it.

Every rule takes a `PolicyCheck` and returns a `Finding`, or None where all is well. What matters
most comes first in `RULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lfm_policy.checking.demonstrations import HELD_OUT, OTHER, TRAINING
from lfm_policy.checking.samples import at_ends_of
from lfm_policy.inspection.finding import Finding, listed
from lfm_runtime.policy.spec import TASK_KEY

if TYPE_CHECKING:
    from lfm_policy.checking.result import PolicyCheck

Rule: TypeAlias = "Callable[[PolicyCheck], Finding | None]"

BASELINES = {
    "repeat": "repeating the last action",
    "mean": "the mean chunk of all demonstrations",
    "zero": "no action at all (zeros)",
}
"""Names of the baselines in words."""

ENOUGH_EPISODES = 5
"""Episodes below which an interval over episodes says little."""

LARGEST_RATIO = 0.5
"""Share of the episodes that is kept for validation at most, whatever the interval says."""


def too_few_episodes(check: PolicyCheck) -> Finding | None:
    """Few episodes are checked."""
    n = check.n_episodes
    if n >= ENOUGH_EPISODES:
        return None
    data = check.demonstrations
    ratio = math.ceil(100 * ENOUGH_EPISODES / (len(data.checked) + len(data.reference))) / 100
    more = "record more"
    if data.kind != OTHER and ratio <= LARGEST_RATIO:
        more = f"keep more for validation (dataset.validation_ratio={ratio:g})"
    return Finding(
        "few_episodes",
        f"only {n} episode{'s are' if n > 1 else ' is'} checked, which is too few to trust the "
        f"intervals: check other demonstrations (--data) or {more}",
        {"episodes": n},
    )


def not_held_out(check: PolicyCheck) -> Finding | None:
    """The policy has, or may have, learned from what it is checked on."""
    kind = check.demonstrations.kind
    if kind in (HELD_OUT, OTHER):
        return None
    known = "was trained" if kind == TRAINING else "may have been trained"
    return Finding(
        "not_held_out",
        f"the policy {known} on the episodes it is checked on, so its errors may look smaller than "
        "they are: record a few more demonstrations and give them with --data",
        {"kind": kind},
    )


def not_complete(check: PolicyCheck) -> Finding | None:
    """The training has not ended."""
    if check.complete is not False:
        return None
    return Finding(
        "not_complete", "its training is not complete: go on with 'lfm-policy train --resume'"
    )


def no_better_than_baseline(check: PolicyCheck) -> Finding | None:
    """The interval of policy minus the strongest baseline is not below zero."""
    loop = check.open_loop
    name = loop.strongest
    difference, interval = loop.sample.minus(loop.baselines[name])
    if interval.high < 0:
        return None
    worse = "is worse than" if interval.low > 0 else "is not better than"
    n = check.n_action_steps
    meaning = f": further beside than demonstrations move in {n} steps" if name == "repeat" else ""
    advice = (
        "it has not learned to act; look at its observations ('lfm-policy inspect' the dataset), "
        "train longer, or on more demonstrations"
        if loop.training is None or not overfits(check)
        else "what it learned does not carry over to new episodes; see below"
    )
    return Finding(
        "not_better_than_baseline",
        f"a sample of the policy {worse} {BASELINES[name]} ({loop.sample.mean:.3g} against "
        f"{loop.baselines[name].mean:.3g}{meaning}); {advice}",
        {"baseline": name, "difference": difference, "interval": list(interval)},
    )


OVERFIT = 1.5
"""Error in held-out episodes over that in episodes of the training above which it overfits, where
the intervals do not overlap either."""


def overfits(check: PolicyCheck) -> Finding | None:
    """Errors in held-out episodes are far above those in episodes of the training."""
    here, there = check.open_loop.sample, check.open_loop.training
    if there is None or here.mean <= OVERFIT * there.mean:
        return None
    if here.interval.low <= there.interval.high:
        return None
    return Finding(
        "overfits",
        f"it overfits: its error is {here.mean / there.mean:.1f} times as large in held-out "
        f"episodes as in episodes it was trained on ({here.mean:.3g} against {there.mean:.3g}): "
        "more demonstrations help most; else training.obs_noise=0.05, more weight decay, a "
        "smaller network or fewer steps",
        {"held_out": here.mean, "training": there.mean},
    )


IGNORANT = 0.97
"""Loss over that of an affine field that ignores observations, from which a block counts as blind.
Only the block at the noise decides what is done; the others take little noise off a chunk, for
which there is hardly anything to see."""

WORSE_THAN_IGNORANT = 1.1
"""The same ratio from which any block counts as not trained."""


def ignorant_block(check: PolicyCheck) -> Finding | None:
    """The block at the noise is no better than what sees no observation, or a block is worse."""
    bad = []
    for block in check.blocks:
        if block.held_out is None or not block.ignorant:
            continue
        limit = IGNORANT if block.block == len(check.blocks) else WORSE_THAN_IGNORANT
        if block.held_out > limit * block.ignorant:
            bad.append(block)
    if not bad:
        return None
    names = listed(
        [f"{b.block} ({b.held_out:.3g}, ignoring observations {b.ignorant:.3g})" for b in bad]
    )
    learnt = [b for b in bad if b.training is not None and b.training < 0.8 * (b.ignorant or 0)]
    advice = (
        "on its training episodes it is better, so it overfits"
        if learnt
        else "train it longer (training.total_steps), with a higher learning rate, or look whether "
        "the observations tell what is to be done"
    )
    return Finding(
        "ignorant_block",
        f"on new episodes block {names} is no better than an affine map that does not see the "
        f"observation: {advice}",
        {"blocks": [b.block for b in bad]},
    )


BLIND = 0.02
"""Share by which chunks move when an observation is exchanged, below which the policy does not look
at it."""


def blind(check: PolicyCheck) -> Finding | None:
    """An observation is exchanged for that of another episode, and the chunks stay as they are."""
    keys = [entry.key for entry in check.shuffled if entry.moved < BLIND]
    if not keys:
        return None
    every = len(keys) == len(check.shuffled) and len(keys) > 1
    advice = []
    if any(key in check.cameras for key in keys):
        advice.append(
            "check that they change in the data, and train the encoder longer "
            "(training.encoder=joint with training.encoder_steps)"
        )
    elif keys != [TASK_KEY]:
        advice.append(
            "leave out what is of no use (dataset.obs_keys), or check that it changes in the data"
        )
    if TASK_KEY in keys:
        advice.append(
            "the other observations may tell the tasks apart by themselves: train without "
            "dataset.tasks, or on demonstrations where only the task says what to do"
        )
    return Finding(
        "blind",
        f"it does not look at {'any observation: ' if every else ''}{listed(keys)}: shown those of "
        f"another episode, its chunks stay nearly as they are; {'; '.join(advice)}",
        {"keys": keys},
    )


COPIED_FIRST = 0.25
"""Error of the first action over that of the last executed one, below which it is known."""
COPIED_LATER = 0.9
"""Error of the last executed action over that of repeating, above which nothing else is."""


def copies_history(check: PolicyCheck) -> Finding | None:
    """It is told its last action, and does no more than to go on with that."""
    loop = check.open_loop
    repeat, last = loop.baselines.get("repeat"), check.n_action_steps - 1
    if not check.copies or repeat is None or last < 1:
        return None
    own, other = loop.sample.per_step, repeat.per_step
    grows = own[0] < COPIED_FIRST * own[last] and own[last] > COPIED_LATER * other[last]
    _, interval = loop.sample.minus(repeat)
    if not grows and interval.high < 0:
        return None
    keys = listed(sorted(check.copies))
    shows = (
        f"its error grows from {own[0]:.3g} at the first action of a chunk to {own[last]:.3g} at "
        f"the last, where repeating has {other[last]:.3g}"
        if grows
        else "it does no better than to repeat that"
    )
    return Finding(
        "copies_history",
        f"{keys} tells it its last action, and {shows}: policies that can copy learn little else; "
        f"leave {keys} out of dataset.obs_keys",
        {"keys": sorted(check.copies), "first": float(own[0]), "last": float(own[last])},
    )


def hopeless_dimensions(check: PolicyCheck) -> Finding | None:
    """Dimensions in which the mean chunk is nearer than the policy, though they move."""
    mean = check.open_loop.baselines["mean"].per_dim
    own = check.open_loop.sample.per_dim
    dims = np.flatnonzero(check.units.moving & (own >= mean)).tolist()
    if not dims:
        return None
    return Finding(
        "hopeless_dimensions",
        f"the mean chunk of all demonstrations is nearer than the policy in {_dims(dims)}: check "
        "whether the observations tell it, whether a few outliers squeeze its range ('lfm-policy "
        "inspect'), and whether its last digits are noise",
        {"dimensions": dims},
    )


COLLAPSED = 0.003
"""Share of spread in the square error below which a policy is as good as deterministic."""
SCATTERED = 0.7
"""The same share above which samples lie further apart than the demonstrations explain (1/2)."""


def collapsed(check: PolicyCheck) -> Finding | None:
    """All samples of one observation are nearly the same."""
    if check.deterministic or check.spread.share >= COLLAPSED:
        return None
    student = (
        "a student of few evaluations may be so; compare with its teacher, or distil it with "
        "another method (--method distribution)"
        if check.student
        else "where there are several good ways, it takes their mean; sample with --noise-scale 1, "
        "or train with more blocks or steps"
    )
    return Finding(
        "collapsed",
        f"it is as good as deterministic: spread makes up {check.spread.share:.1%} of its square "
        f"error; {student}",
        {"share": check.spread.share},
    )


def scattered(check: PolicyCheck) -> Finding | None:
    """Samples of one observation lie further apart than their error explains."""
    if check.spread.share <= SCATTERED:
        return None
    noise = check.noise_scale
    return Finding(
        "scattered",
        f"its samples scatter: spread makes up {check.spread.share:.0%} of its square error (50% "
        "were they distributed as the demonstrations); lower sampler.noise_scale"
        + ("" if noise is None else f" (now {noise:g}; eval --noise-scale {noise * 0.6:.2g})"),
        {"share": check.spread.share},
    )


OUTSIDE = 0.05
"""Share of executed actions outside the demonstrated range that is too much, besides that of
demonstrated ones at its very ends: samples about these lie on both sides of them."""


def outside_range(check: PolicyCheck) -> Finding | None:
    """Many actions leave the demonstrated range."""
    ends = at_ends_of(check.instants, check.units)
    dims = np.flatnonzero(check.outside.per_dim > OUTSIDE + ends).tolist()
    if not dims:
        return None
    worst = float(check.outside.per_dim[dims].max())
    clipped = " before they are clipped" if check.unclipped else ""
    return Finding(
        "outside_range",
        f"up to {worst:.0%} of its actions leave the demonstrated range in {_dims(dims)}{clipped}: "
        "more sampling steps (--nfe) or a lower noise scale; else it extrapolates, and more "
        "demonstrations are needed there",
        {"dimensions": dims, "share": worst},
    )


JUMPS = 5.0
"""Step of the policy at joins over that of the demonstrations that is too much."""


def jumps(check: PolicyCheck) -> Finding | None:
    """Chunks do not go on where the one before ended."""
    if check.joins is None or check.joins.ratio <= JUMPS:
        return None
    return Finding(
        "jumps",
        f"chunks do not join: from one to the next actions step {check.joins.ratio:.1f} times as "
        "far as the demonstrations do; lower the noise scale, execute longer chunks, train with "
        "policy.max_prefix, or let 'lfm-policy control' blend them",
        {"ratio": check.joins.ratio},
    )


RULES: tuple[Rule, ...] = (
    not_held_out,
    too_few_episodes,
    not_complete,
    no_better_than_baseline,
    overfits,
    ignorant_block,
    blind,
    copies_history,
    hopeless_dimensions,
    collapsed,
    scattered,
    outside_range,
    jumps,
)


SYMPTOMS = {"hopeless_dimensions", "scattered", "outside_range", "jumps"}
"""What any policy shows that is no better than a baseline; the paragraph leaves them out then."""


def findings_of(check: PolicyCheck) -> list[Finding]:
    """Return what looks wrong, what matters most first."""
    return [finding for rule in RULES if (finding := rule(check)) is not None]


MOST = 0.5
"""Share of the normalised error, of more than two dimensions, from which one of them is named."""


def verdict_of(check: PolicyCheck) -> str:
    """Return one paragraph: how good it is, what looks wrong, and what to try."""
    loop = check.open_loop
    name = loop.strongest
    other = loop.baselines[name]
    _, interval = loop.sample.minus(other)
    much = (
        "not as near to the demonstrations, which are met exactly, as"
        if other.mean == 0 and loop.sample.mean > 0
        else f"{1 - loop.sample.mean / other.mean:.0%} nearer to the demonstrations than"
        if interval.high < 0
        else "not safely nearer to the demonstrations than"
        if interval.low <= 0
        else f"{loop.sample.mean / other.mean:.1f} times as far from the demonstrations as"
    )
    first = f"Its actions are {much} {BASELINES[name]}, the strongest of the baselines."
    shares = loop.sample.per_dim * check.units.scale
    shares = shares / max(shares.sum(), 1e-12)
    if len(shares) > 2 and shares.max() > MOST:
        first += f" {shares.max():.0%} of its error is in action[{shares.argmax()}] alone."
    findings, left = check.findings, ""
    if any(finding.kind == "not_better_than_baseline" for finding in findings):
        follow = [finding for finding in findings if finding.kind in SYMPTOMS]
        findings = [finding for finding in findings if finding not in follow]
        left = f"; what may follow from that is in the JSON ({len(follow)} more)" if follow else ""
    if not findings:
        middle = "Nothing looks wrong."
    else:
        said = [f"({n}) {finding.message}" for n, finding in enumerate(findings, start=1)]
        middle = "What looks wrong: " + "; ".join(said) + left + "."
    last = "Errors against recorded actions are no success rates: roll it out before you trust it."
    return " ".join([first, middle, last])


def _dims(dims: list[int]) -> str:
    return listed([f"action[{d}]" for d in dims])
