"""Demonstrations: reading, checking, normalising, and gathering batches of windows."""

from __future__ import annotations

from lfm_policy.data.dataset import DatasetBundle, WindowDataset, build_datasets
from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.windows import WindowIndex

__all__ = [
    "DATASET_FORMATS",
    "DatasetBundle",
    "DatasetConfig",
    "Normalizer",
    "ReplayBuffer",
    "WindowDataset",
    "WindowIndex",
    "build_datasets",
]
