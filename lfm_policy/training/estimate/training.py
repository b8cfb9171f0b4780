"""The estimate of a training: of a run that is about to begin, or of a configuration alone."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lfm_policy.config import ExperimentConfig
from lfm_policy.config.auxiliary import AuxiliaryConfig
from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.images.cache import ImageCache
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.split import split_episodes
from lfm_policy.data.windows import check_any_window, windows_of_lengths
from lfm_policy.options import option, options
from lfm_policy.training.blocks import BlockPlan
from lfm_policy.training.estimate.advice import Names, advise
from lfm_policy.training.estimate.estimate import Estimate
from lfm_policy.training.estimate.needs import disk_bytes, images_of, memory_bytes, shortages
from lfm_policy.training.estimate.trial import Counts, block_works
from lfm_policy.training.estimate.work import Work, measure, others_at_work
from lfm_policy.training.run import Run
from lfm_runtime.policy.spec import DataSpec

SYNTHETIC_STEPS = 4096
"""Steps of made-up data on which a configuration is tried."""


@dataclass(frozen=True)
class DataFacts:
    """What has to be known of demonstrations to say how long a training on them will take.

    Attributes:
        obs_shapes: observation -> shape of one step, as the networks will see it.
        action_dim: numbers of an action.
        lengths: (E,) steps of every episode.
    """

    obs_shapes: Mapping[str, tuple[int, ...]]
    action_dim: int
    lengths: np.ndarray

    @property
    def spec(self) -> DataSpec:
        """The same for networks."""
        return DataSpec(dict(self.obs_shapes), self.action_dim)

    def counts(self, config: ExperimentConfig) -> Counts:
        """Return how many windows and frames there are.

        Raises:
            InputError: every episode is too short for a window.
        """
        policy, dataset = config.policy, config.dataset
        horizons = (policy.n_obs_steps, policy.horizon, policy.n_action_steps)
        lengths = self.lengths[: dataset.max_episodes]
        check_any_window(lengths, *horizons, source="the dataset")
        windows = windows_of_lengths(lengths, *horizons)
        train, validation = split_episodes(
            len(lengths), dataset.validation_ratio, dataset.split_seed, usable=windows > 0
        )
        n_windows, n_validation = (int(windows[part].sum()) for part in (train, validation))
        return Counts(n_windows, n_validation, int(lengths.sum()))


@options
class _MadeUpData(DatasetConfig):
    """Random numbers in the shapes of a dataset, as many as trials need."""

    obs_shapes: dict[str, Any] = option({}, "shape of a step of each observation")
    action_dim: int = option(1, "numbers of an action")
    episodes: int = option(2, "how many, all of one length")
    episode_steps: int = option(1, "steps of each")

    def load(
        self, image_cache: ImageCache | Path | None = None, *, quiet: bool = True
    ) -> ReplayBuffer:
        """Return them; the frames of a camera are one frame that is there once."""
        cache = image_cache if isinstance(image_cache, ImageCache) else ImageCache()
        recorded = images_of({key: tuple(shape) for key, shape in self.obs_shapes.items()})
        generator = np.random.default_rng(0)
        n_steps = self.episodes * self.episode_steps
        arrays = {
            ACTION_KEY: generator.uniform(-1, 1, (n_steps, self.action_dim)).astype(np.float32)
        }
        for key, shape in self.obs_shapes.items():
            if key in recorded:
                size = (*cache.size_of(key, recorded[key]), shape[2])
                frame = generator.integers(0, 256, (1, *size), dtype=np.uint8)
                arrays[key] = np.broadcast_to(frame, (n_steps, *size))
            else:
                arrays[key] = generator.uniform(-1, 1, (n_steps, *shape)).astype(np.float32)
        ends = self.episode_steps * np.arange(1, self.episodes + 1)
        return ReplayBuffer(arrays, ends, source="made-up data", recorded=recorded)


def estimate_run(run: Run, plan: BlockPlan, *, counts: Counts | None = None) -> Estimate:
    """Return how long what is left of a run will take, and what it needs.

    A few steps of every kind are done on copies, see `lfm_policy.training.estimate.trial`.

    Args:
        run: as the plan left it, before its first step.
        plan: what is trained.
        counts: of the data, where the run has made-up ones.
    """
    return estimate_works(run, block_works(run, plan, counts), plan.numbers(), counts=counts)


def estimate_works(
    run: Run,
    works: Sequence[Work],
    numbers: Sequence[int],
    *,
    counts: Counts | None = None,
    disk: Mapping[str, int] | None = None,
    data_there: bool = False,
    memory: int = 0,
    names: Names | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Measure works, and return what they take together.

    Args:
        run: of which they are.
        works: what is left to be done.
        numbers: of the parts that are left.
        counts: of the data, where the run has made-up ones.
        disk: what else is written, by what it is.
        data_there: whether camera frames and features are on the disk for another reason.
        memory: bytes of what else is kept in it.
        names: what the options are called that advice names.
        clock: gives seconds.
    """
    shares = measure(works, run.device, clock=clock, quiet=run.quiet)
    own = counts or Counts.of(run)
    memory += memory_bytes(run, shares, own, numbers, loaded=counts is None)
    on_disk = {**disk_bytes(run, own, numbers), **(disk or {})}
    if data_there:
        on_disk = {k: v for k, v in on_disk.items() if k not in ("camera frames", "features")}
    busy = others_at_work()
    estimate = Estimate(tuple(shares), device_in_words(run.device), memory, on_disk, busy=busy)
    advice = advise(estimate, run.config, run.spec.obs_shapes, names)
    advice += shortages(run.folder, memory, sum(on_disk.values()), run.device)
    if run.config.eval.every and not run.config.distill.method:
        advice.append("rollouts during training (eval.every) come on top of it")
    return estimate.with_advice(advice)


def estimate_training(
    config: ExperimentConfig, facts: DataFacts, *, device: str = "auto", quiet: bool = True
) -> Estimate:
    """Return how long a training will take on this machine, and what it needs.

    The networks are made and trained for a few steps on made-up data of the right shapes; nothing
    is read or written.

    Args:
        config: of the training.
        facts: of its demonstrations.
        device: ``auto``, ``cpu`` or ``cuda``.
        quiet: no progress bar.

    Raises:
        InputError: the networks cannot be made for such data, or every episode is too short.
    """
    with trial_run(config, facts, device=device, quiet=quiet) as run:
        return estimate_run(run, BlockPlan(run), counts=facts.counts(config))


@contextmanager
def trial_run(
    config: ExperimentConfig, facts: DataFacts, *, device: str, quiet: bool
) -> Iterator[Run]:
    """Give a run on made-up data; torch's threads and random numbers are the same afterwards.

    Args:
        config: of the training.
        facts: of its demonstrations.
        device: ``auto``, ``cpu`` or ``cuda``.
        quiet: no progress bar.
    """
    length = min(max(int(facts.lengths.max()), config.policy.horizon), SYNTHETIC_STEPS)
    made_up = _MadeUpData(
        obs_shapes={key: list(shape) for key, shape in facts.obs_shapes.items()},
        action_dim=facts.action_dim,
        episodes=max(2, min(len(facts.lengths), SYNTHETIC_STEPS // length)),
        episode_steps=length,
        validation_ratio=config.dataset.validation_ratio,
    )
    threads = torch.get_num_threads()
    with torch.random.fork_rng([]), tempfile.TemporaryDirectory() as folder:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the training itself will say it
                # Made-up data have no targets, and telling them costs next to nothing.
                made_up_config = replace(config, dataset=made_up, auxiliary=AuxiliaryConfig())
                yield Run(made_up_config, Path(folder) / "run", device=device, quiet=quiet)
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)


def device_in_words(device: torch.device) -> str:
    """Return what computes, such as ``"cpu (2 threads)"``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device} ({threads} {'thread' if threads == 1 else 'threads'})"
