"""Local Flow Matching for LeRobot: importing this registers the policy type ``lfm``.

LeRobot does that by itself for installed distributions whose name begins with ``lerobot_policy_``.
"""

from __future__ import annotations

try:
    import lerobot  # noqa: F401
except ImportError as error:
    raise ImportError(
        "lerobot_policy_lfm is a policy for LeRobot 0.6, which is not installed: "
        'pip install "lerobot[training]>=0.6,<0.7" (Python 3.12 or newer)'
    ) from error

from lerobot_policy_lfm.configuration_lfm import LFMConfig
from lerobot_policy_lfm.modeling_lfm import LFMPolicy
from lerobot_policy_lfm.processor_lfm import make_lfm_pre_post_processors
from lerobot_policy_lfm.schedule_lfm import LFMSchedulerConfig

__all__ = ["LFMConfig", "LFMPolicy", "LFMSchedulerConfig", "make_lfm_pre_post_processors"]
