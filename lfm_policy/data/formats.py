"""Dataset formats by name; a new format is one file with its config class and one line here."""

from __future__ import annotations

from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.lerobot.format import LeRobotConfig
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_runtime.registry import Registry

DATASET_FORMATS: Registry[type[DatasetConfig]] = Registry(
    "dataset format",
    {
        "zarr": ZarrConfig,
        "robomimic": RobomimicConfig,
        "lerobot": LeRobotConfig,
    },
)
