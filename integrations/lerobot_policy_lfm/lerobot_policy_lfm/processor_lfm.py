"""LeRobot's own processors, as for its diffusion policy: the policy sees normalised numbers."""

from __future__ import annotations

from typing import Any

from lerobot.processor import (
    PolicyAction,
    PolicyProcessorPipeline,
    make_default_pre_post_processors,
)
from torch import Tensor

from lerobot_policy_lfm.configuration_lfm import LFMConfig


def make_lfm_pre_post_processors(
    config: LFMConfig, dataset_stats: dict[str, dict[str, Tensor]] | None = None
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]:
    """Return what is done before and after the policy.

    Before it: renamed, batched, brought to the device, normalised; after it: un-normalised, on the
    CPU. Images stay between 0 and 1, for the encoder scales them.

    Args:
        config: of the policy.
        dataset_stats: of the demonstrations.
    """
    return make_default_pre_post_processors(config, dataset_stats)
