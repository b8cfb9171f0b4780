"""`lerobot-train`, unchanged but for one thing: a row of the dataset is read once.

LeRobot takes milliseconds to gather a row of numbers from its files, longer than a small policy
takes to learn from it. Runs in an environment with LeRobot, which need not have lfm-policy; see
`train_lerobot.py` beside it. Rows are kept in memory: for datasets without cameras and for one
process (`--num_workers=0`).
"""

from __future__ import annotations

from typing import Any

from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.scripts.lerobot_train import main


def remember_rows() -> None:
    """Make every dataset keep the rows that were asked for."""
    read = LeRobotDataset.__getitem__
    rows: dict[tuple[int, int], dict[str, Any]] = {}

    def remembered(dataset: LeRobotDataset, index: int) -> dict[str, Any]:
        key = (id(dataset), int(index))
        if key not in rows:
            rows[key] = read(dataset, index)
        return dict(rows[key])

    LeRobotDataset.__getitem__ = remembered


if __name__ == "__main__":
    remember_rows()
    main()
