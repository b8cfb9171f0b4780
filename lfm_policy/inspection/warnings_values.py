"""Warnings about single dimensions: constant ones, and values far outside the usual range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.resolution import (
    CONSTANT_RANGE,
    coarse_elements,
    coarse_message,
    far_elements,
    is_wide,
    levels,
)
from lfm_policy.inspection.finding import Finding, listed
from lfm_policy.inspection.ranges import Ranges, dimensions

OUTLIER_WIDTHS = 3.0
"""An outlier lies beyond the 1% or the 99% quantile by more than so many times the distance of the
two."""


def find_constant_dimensions(ranges: Mapping[str, Ranges]) -> list[Finding]:
    """Warn of dimensions that never change, one finding per key.

    Constant is what the normaliser counts as constant: a span below `CONSTANT_RANGE`.
    """
    findings = []
    for key, stats in ranges.items():
        constant = np.flatnonzero(stats.max - stats.min < CONSTANT_RANGE).tolist()
        if not constant:
            continue
        values = [float(f"{stats.mean[d]:.6g}") for d in constant]
        it, changes = ("it", "changes") if len(constant) == 1 else ("them", "change")
        what = f"{key} out" if len(constant) == len(stats.min) else "out what does not move"
        message = (
            f"{key}[{listed(constant)}] never {changes} (always {listed(values)}), so there is "
            f"nothing to learn from {it}: check the recording, or leave {what}"
        )
        facts = {"key": key, "dimensions": constant, "values": values}
        findings.append(Finding("constant", message, facts))
    return findings


def find_far_numbers(buffer: ReplayBuffer, ranges: Mapping[str, Ranges]) -> list[Finding]:
    """Warn of dimensions that lie so far from zero that float32 cannot resolve how they move.

    One finding per key: ``coarse`` where the file has lost it already, ``far`` where it is there in
    float64, and has to come in float64 in use as well.
    """
    findings = []
    for key, array in buffer.arrays.items():
        stats = ranges[key]
        if coarse := coarse_elements(array):
            facts: dict[str, Any] = {"key": key, "dimensions": coarse, "dtype": array.dtype.name}
            findings.append(Finding("coarse", coarse_message(key, array, coarse), facts))
            continue
        far = np.flatnonzero(far_elements(stats.min, stats.max)).tolist()
        if not far or not is_wide(array.dtype):
            continue
        d = far[0]
        steps = float(levels(stats.min, stats.max, np.float32)[d])
        message = (
            f"{key}[{listed(far)}] lies far from zero for how little it moves: {key}[{d}] goes "
            f"from {stats.min[d]:.10g} to {stats.max[d]:.10g}, {steps:.0f} steps of float32. "
            "Training subtracts its offset in float64, and in use it must be given in float64 too; "
            "if it is a time or a count of steps, leave it out"
        )
        facts = {"key": key, "dimensions": far, "float32_steps": steps}
        findings.append(Finding("far", message, facts))
    return findings


def find_outliers(buffer: ReplayBuffer, ranges: Mapping[str, Ranges]) -> list[Finding]:
    """Warn of values far outside the range of nearly all others, one finding per dimension.

    Far is beyond the 1% or 99% quantile by more than `OUTLIER_WIDTHS` times their distance: such a
    value squeezes all others together when it sets the limits of the normaliser. A dimension that
    takes one value in 98% of all steps (a switch, a rare contact) has no width to compare with and
    is passed over.
    """
    findings = []
    for key, d, values in dimensions(buffer):
        low, high = ranges[key].q01[d], ranges[key].q99[d]
        width = high - low
        if width < CONSTANT_RANGE:
            continue
        beyond = np.maximum(low - values, values - high)
        count = int((beyond > OUTLIER_WIDTHS * width).sum())
        if not count:
            continue
        worst = int(np.argmax(beyond))
        episode, step = buffer.place(worst)
        message = (
            f"{key}[{d}] has {count} {'value' if count == 1 else 'values'} far outside its usual "
            f"{low:.4g} to {high:.4g}; the worst is {values[worst]:.4g} in episode {episode}, step "
            f"{step}: repair or drop such episodes, or normalise {key} with 'standard'"
        )
        facts = {
            **{"key": key, "dimension": d, "count": count, "q01": float(low), "q99": float(high)},
            **{"worst": float(values[worst]), "episode": episode, "step": step},
        }
        findings.append(Finding("outlier", message, facts))
    return findings
