"""A look at demonstrations: arrays, ranges, episodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr_store import inspect_zarr, load_zarr
from lfm_policy.files import atomic_file

LARGEST_READ_BYTES = 256_000_000
"""Arrays larger than this (images) are described by their metadata and not read."""

EPISODES_DRAWN = 12


@dataclass(frozen=True)
class DatasetInspection:
    """Findings about one dataset."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    buffer: ReplayBuffer
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        lengths = self.buffer.episode_lengths
        arrays: dict[str, Any] = {}
        for key, shape in self.shapes.items():
            arrays[key] = {"shape": list(shape), "dtype": self.dtypes[key]}
            if key in self.buffer.arrays:
                flat = _flat(self.buffer.arrays[key])
                arrays[key] |= {
                    "min": flat.min(axis=0).tolist(),
                    "max": flat.max(axis=0).tolist(),
                    "mean": flat.mean(axis=0).tolist(),
                    "std": flat.std(axis=0).tolist(),
                }
        return {
            "kind": "dataset",
            "path": str(self.path),
            "episodes": self.buffer.n_episodes,
            "steps": self.buffer.n_steps,
            "episode_length": {
                "min": int(lengths.min()),
                "median": float(np.median(lengths)),
                "max": int(lengths.max()),
            },
            "arrays": arrays,
        }

    def print(self) -> None:
        """Print tables to standard output."""
        lengths = self.buffer.episode_lengths
        console = Console()
        console.print(
            f"{self.path}: {self.buffer.n_episodes} episodes, {self.buffer.n_steps:,} steps; "
            f"lengths {lengths.min()} to {lengths.max()}, median {np.median(lengths):g}",
            highlight=False,
            soft_wrap=True,
        )
        table = Table()
        table.add_column("array", no_wrap=True, min_width=14)
        for header in ("shape", "dtype", "dimension", "min", "max", "mean", "std"):
            table.add_column(header)
        for key, shape in self.shapes.items():
            head = (f"data/{key}", str(tuple(shape)), self.dtypes[key])
            if key not in self.buffer.arrays:
                table.add_row(*head, "large: not read", "", "", "", "")
                continue
            flat = _flat(self.buffer.arrays[key])
            for d in range(flat.shape[1]):
                column = flat[:, d]
                numbers = (column.min(), column.max(), column.mean(), column.std())
                texts = [f"{number:.4g}" for number in numbers]
                table.add_row(*(head if d == 0 else ("", "", "")), str(d), *texts)
        console.print(table)

    def plot(self, path: Path) -> None:
        """Write a PNG: episode lengths, ranges of all dimensions, action trajectories."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13, 4.2), layout="constrained")
        figure.suptitle(f"{self.path.name}: {self.buffer.n_episodes} episodes")
        lengths, ranges, actions = figure.subplots(1, 3)
        lengths.hist(self.buffer.episode_lengths, bins=30, color="tab:blue")
        lengths.set_xlabel("episode length in steps")
        lengths.set_ylabel("episodes")
        labels, spreads = [], []
        for key, array in self.buffer.arrays.items():
            flat = _flat(array)
            for d in range(flat.shape[1]):
                labels.append(f"{key}[{d}]")
                spreads.append(np.percentile(flat[:, d], [0, 1, 50, 99, 100]))
        low, p1, mid, p99, high = np.array(spreads).T
        rows = np.arange(len(labels))
        ranges.hlines(rows, low, high, color="lightgray", linewidth=3, label="min to max")
        ranges.hlines(rows, p1, p99, color="tab:orange", linewidth=3, label="1% to 99%")
        ranges.plot(mid, rows, "k|", label="median")
        ranges.set_yticks(rows, labels, fontsize=5)
        ranges.set_xlabel("value, in the units of the data")
        ranges.invert_yaxis()
        ranges.legend(fontsize=7)
        self._plot_actions(actions)
        with atomic_file(path) as temporary:
            figure.savefig(temporary, dpi=120)

    def _plot_actions(self, axes: Any) -> None:
        if "action" not in self.buffer.arrays:  # it has another name, or is too large to read
            axes.set_axis_off()
            axes.set_title("no array 'action' to draw", fontsize=9)
            return
        action = _flat(self.buffer.arrays["action"])
        generator = np.random.default_rng(self.seed)
        count = min(EPISODES_DRAWN, self.buffer.n_episodes)
        chosen = generator.choice(self.buffer.n_episodes, size=count, replace=False)
        ends = self.buffer.episode_ends
        planar = action.shape[1] == 2
        for episode in sorted(chosen):
            begin = 0 if episode == 0 else ends[episode - 1]
            part = action[begin : ends[episode]]
            if planar:
                axes.plot(part[:, 0], part[:, 1], linewidth=0.8)
            else:
                axes.plot(part[:, 0], linewidth=0.8)
        axes.set_title(f"actions of {count} episodes", fontsize=9)
        axes.set_xlabel("action[0]" if planar else "step")
        axes.set_ylabel("action[1]" if planar else "action[0]")
        if planar:
            axes.set_aspect("equal")
            axes.invert_yaxis()


def inspect_dataset(path: Path, *, seed: int = 0) -> DatasetInspection:
    """Read a zarr replay buffer, except arrays too large to look at whole.

    Raises:
        InputError: not a replay buffer, or a damaged one.
    """
    stored = inspect_zarr(str(path))
    small = [
        key
        for key, info in stored.items()
        if int(np.prod(info.shape)) * np.dtype(info.dtype).itemsize <= LARGEST_READ_BYTES
    ]
    buffer = load_zarr(str(path), tuple(small))
    return DatasetInspection(
        path=path,
        shapes={key: tuple(info.shape) for key, info in stored.items()},
        dtypes={key: str(np.dtype(info.dtype)) for key, info in stored.items()},
        buffer=buffer,
        seed=seed,
    )


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1).astype(np.float64)
