"""Lengths, split, normalisation and network for a dataset, with the reason of each in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lfm_policy.data.outliers import squeezed
from lfm_policy.data.windows import windows_of_lengths
from lfm_runtime.policy.spec import MAXIMUM_TASKS

ASSUMED_FPS = 10.0
"""Of a dataset that does not say it."""

N_OBS_STEPS = 2
SHORTEST, ORDINARY, LONGEST = 4, 16, 64
"""Actions of a chunk, see `lengths_for`."""

SHORT_EPISODES = 0.1
"""So large a share of the episodes may be shorter than a chunk; a chunk that is longer than others
repeats their last frame."""

MANY_WINDOWS, MANY_NUMBERS = 300_000, 160
"""Windows, or numbers in a chunk (two arms have some 200), above which the medium network is worth
its time."""


@dataclass(frozen=True)
class Lengths:
    """``policy.horizon`` and ``policy.n_action_steps``, and why."""

    horizon: int
    n_action_steps: int
    reason: str


def lengths_for(fps: float | None, episode_lengths: np.ndarray) -> Lengths:
    """Return how long chunks should be.

    The rule: 1.6 s up to 10 steps per second, which is PushT's 16; 16 up to 20 per second, as
    robomimic's policies have at 20; 1 s above that, at most 64. Half of a chunk is executed. It is
    rounded up to a multiple of 4, as the U-Net wants it, and bounded by the episodes: at most
    `SHORT_EPISODES` of them may be shorter.

    Args:
        fps: steps per second; `ASSUMED_FPS` where nobody knows.
        episode_lengths: (E,) steps.
    """
    rate = fps or ASSUMED_FPS
    wanted = min(1.6 * rate, float(ORDINARY)) if rate <= 20 else rate
    horizon = min(max(4 * math.ceil(wanted / 4 - 1e-9), SHORTEST), LONGEST)
    allowed = int(np.quantile(episode_lengths, SHORT_EPISODES, method="lower"))
    longest = max(SHORTEST, allowed // 4 * 4)
    reason = f"{horizon / rate:.2g} s at {rate:g} steps per second"
    if not fps:
        reason += ", which is assumed: say it with --fps"
    if longest < horizon:
        horizon = longest
        reason = f"no longer than the short episodes ({allowed} steps)"
    return Lengths(horizon, max(1, horizon // 2), reason)


def validation_for(episode_lengths: np.ndarray, lengths: Lengths) -> tuple[float, str]:
    """Return ``dataset.validation_ratio`` and why.

    With few episodes each is worth more in training: up to 4 there is none for validation.
    """
    horizons = (N_OBS_STEPS, lengths.horizon, lengths.n_action_steps)
    n = int((windows_of_lengths(episode_lengths, *horizons) > 0).sum())
    if n <= 4:
        return 0.0, f"none: all {n} episodes are needed in training; 0.2 with more of them"
    ratio = 0.1 if n < 100 else 0.05 if n < 1000 else 0.02
    count = max(1, round(n * ratio))
    return ratio, f"{count} of {n} episodes, for the validation loss and `lfm-policy check`"


def tells_tasks(tasks: Mapping[str, int]) -> bool:
    """Return whether ``dataset.tasks`` is proposed: there are several, and every episode names one.

    Args:
        tasks: number of episodes by task, see `DatasetInspection`.
    """
    return 1 < len(tasks) <= MAXIMUM_TASKS and "" not in tasks


def normalization_for(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return ``quantiles`` by key where outliers squeeze nearly all values; else ``limits``."""
    return dict.fromkeys(squeezed(arrays), "quantiles")


@dataclass(frozen=True)
class Network:
    """The section ``network``, and why it is so large."""

    options: Mapping[str, object]
    reason: str


def network_for(n_windows: int, horizon: int, action_dim: int, *, direct: bool = False) -> Network:
    """Return the network of every block: an MLP, or a U-Net of blocks that are asked once each.

    What docs/results/ has of MLPs: PushT (25,000 windows of 16 x 2 numbers), Lift and Can with the
    small one, Square, Tool Hang and Transport (30,000 to 96,000 windows, up to 16 x 14 numbers)
    with the medium one. No task was measured with both, and nothing beyond 100,000 windows: where
    the line is drawn is a guess that keeps a first training short.
    """
    many = n_windows > MANY_WINDOWS or horizon * action_dim > MANY_NUMBERS
    if direct:
        channels = [88, 184] if many else [48, 96]
        reason = (
            "for many steps or arms; [48, 96] is 3 times as small"
            if many
            else "for thousands of steps; [88, 184] for more steps or more arms"
        )
        return Network({"name": "unet1d", "channels": channels}, reason)
    width, layers, reason = (
        (384, 3, "for many steps or arms; width 192, n_layers 2 is 3 times as fast")
        if many
        else (192, 2, "for thousands of steps; width 384, n_layers 3 for more steps or more arms")
    )
    options = {"name": "mlp", "width": width, "n_layers": layers, "dropout": 0.0}
    return Network(options, reason)
