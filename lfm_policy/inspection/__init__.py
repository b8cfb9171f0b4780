"""What a dataset, a checkpoint or a run holds, in words and pictures."""

from __future__ import annotations

from lfm_policy.inspection.dataset import DatasetInspection, inspect_dataset

__all__ = ["DatasetInspection", "inspect_dataset"]
