"""Dataset formats by name; a new format is one file with its config class and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lfm_runtime.registry import Registry

if TYPE_CHECKING:
    from lfm_policy.data.dataset_config import DatasetConfig

DATASET_FORMATS: Registry[type[DatasetConfig]] = Registry(
    "dataset format",
    {
        "zarr": "lfm_policy.data.zarr.format:ZarrConfig",
        "robomimic": "lfm_policy.data.robomimic.format:RobomimicConfig",
        "lerobot": "lfm_policy.data.lerobot.format:LeRobotConfig",
        "several": "lfm_policy.data.tasks.several:SeveralConfig",
    },
)
