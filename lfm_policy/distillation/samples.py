"""What student blocks learn from: states to start from, and where the teacher takes these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import Windows
from lfm_policy.distillation.group import TeacherGroup
from lfm_policy.flow import SolverSpec
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_policy.policy.tensors import fill_tensors, write_tensors
from lfm_policy.training.rows.chunks import encode_all
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_policy.training.rows.prefixes import TrainingPrefixes
from lfm_policy.training.seeds import TEACHER_NOISE, TEACHER_OBS, derived_seed
from lfm_policy.training.trainer import Rows

ENCODING_BATCH = 1024

STUDENT_STEP = SolverSpec("euler", 1)
"""How a student block is sampled: its velocity at t = 1 is the mean one of what it replaces."""


@dataclass(frozen=True)
class Pairs(Rows):
    """Noise-side states, where the teacher takes them, and the encoding of any rows' windows.

    Attributes:
        y: (R, horizon, action_dim) at the noise side.
        path: (R, points, horizon, action_dim) on the way to the data side, which is entry 0.
        condition: maps row numbers (B,) to (B, cond_dim), or to None without observations.
    """

    y: Tensor
    path: Tensor
    condition: Callable[[Tensor], Tensor | None]

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.y.device

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.y)

    def batch(self, idx: Tensor, *, training: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return y, the trajectory and the encoded observations of rows ``idx``."""
        idx = idx.to(self.device)
        return self.y.index_select(0, idx), self.path.index_select(0, idx), self.condition(idx)


@dataclass(frozen=True)
class SampleFolder:
    """Where the teacher's samples are kept, so that they are made once and can be made in pieces.

    Attributes:
        path: holds a folder for each table of samples; its name says all that they depend on.
        stop: called between two parts; raises to stop.
        quiet: no progress bars.
    """

    path: Path
    stop: Callable[[], None]
    quiet: bool

    def n_rows(self, key: str, batch_size: int) -> int:
        """Return how many rows of a table are there, in whole parts."""
        return batch_size * sum(1 for _ in (self.path / key).glob("part-*.safetensors"))

    def table(
        self,
        key: str,
        n_rows: int,
        batch_size: int,
        shape: tuple[int, ...],
        make: Callable[[int, int], Tensor],
        label: str,
    ) -> Tensor:
        """Return (n_rows, *shape) of the parts in the folder ``key``, making those not there.

        Args:
            key: name of the folder, which holds ``part-<k>.safetensors``.
            n_rows: rows in all.
            batch_size: rows per part; the last one may have fewer.
            shape: of one row.
            make: returns rows ``begin`` to ``end``.
            label: of the progress bar.
        """
        rows = torch.empty(n_rows, *shape)
        with tqdm(
            total=n_rows, desc=label, unit="sample", disable=self.quiet, mininterval=0.5
        ) as bar:
            for begin in range(0, n_rows, batch_size):
                end = min(begin + batch_size, n_rows)
                path = self.path / key / f"part-{begin // batch_size:06d}.safetensors"
                if path.exists():
                    fill_tensors(path, {"rows": rows[begin:end]})
                else:
                    rows[begin:end] = make(begin, end).cpu()
                    write_tensors(path, {"rows": rows[begin:end]})
                    self.stop()
                bar.update(end - begin)
        return rows


def teacher_noise(seed: int, n_rows: int, chunk_shape: tuple[int, ...]) -> Tensor:
    """Return the noise of every row, (n_rows, *chunk_shape) float32; depends on the seed alone."""
    generator = torch.Generator().manual_seed(derived_seed(seed, TEACHER_NOISE))
    return torch.randn(n_rows, *chunk_shape, generator=generator)


def samples_key(
    config: ExperimentConfig,
    groups: Sequence[TeacherGroup],
    n: int,
    *,
    points: int,
    samples: int,
    obs_noise: ObsNoise,
    n_views: int,
    run: Path,
    passed: int = 0,
) -> str:
    """Return a folder name that says everything the teacher's samples for student n depend on.

    With inputs of the teacher they are its states at one boundary between two blocks, whatever
    the groups, so students of different lengths share them. Trajectories are of one group.
    """
    options, group = config.distill, groups[n - 1]
    facts: dict[str, object] = {
        "teacher": options.teacher,
        "solver": [options.teacher_solver, options.teacher_steps, options.batch_size],
        "samples": samples,
        "seed": config.seed,
        "noise": [config.sampler.noise_scale, obs_noise.scale],
    }
    if options.teacher_guidance != 1:
        facts["guidance"] = options.teacher_guidance
    if obs_noise and obs_noise.shaped:
        facts["noise covariance"] = "data"
    if options.recording:
        facts["recording"] = options.recording_fingerprint
    if n_views:
        facts["views"] = n_views
    if config.policy.max_prefix:
        facts["prefix"] = config.policy.max_prefix
    if points > 1:
        facts["trajectory"] = [points, str(group.end)]
    if options.inputs == "student":
        facts["student"] = [str(run.resolve()), len(groups), n]
        if passed:
            facts["pass"] = passed
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"boundary{float(group.start):g}-{digest[:16]}"


class TeacherSamples:
    """Gives the pairs of one student block after the other, the last block first.

    Row r belongs to window r mod M: every window is there ``samples`` times, with other noise.
    """

    def __init__(
        self,
        windows: Windows,
        *,
        config: ExperimentConfig,
        model: PolicyModel,
        groups: Sequence[TeacherGroup],
        points: int,
        samples: int,
        obs_noise: ObsNoise,
        folder: SampleFolder | None,
        run: Path,
    ) -> None:
        """Encode what the rows observe.

        Args:
            windows: M windows that the teacher is asked about.
            config: of the student.
            model: of the student, with the teacher's encoder.
            groups: the teacher's blocks that each student block replaces.
            points: states of each of the teacher's trajectories that are learned from.
            samples: rows for each window.
            obs_noise: displaces what the rows observe.
            folder: keeps the teacher's samples; None: they are few, and made all at once.
            run: folder of the student's run.
        """
        self._windows = windows
        self._config = config
        self._model = model
        self._groups = groups
        self._points = points
        self._samples = samples
        self._obs_noise = obs_noise
        self._folder = folder
        self._run = run
        self._n_rows = len(windows) * samples
        self._passed = 0
        self._encoded = self._encode()
        self._prefixes: TrainingPrefixes | None = None
        if model.prefix is not None:
            self._prefixes = TrainingPrefixes(model.prefix, self._n_rows, config.seed)

    def pairs(self, n: int, passed: int = 0) -> Pairs:
        """Return the pairs of student block n; students nearer the noise must be distilled.

        They are other ones in every pass of a run (``passed`` are done).
        """
        self._passed = passed
        inputs = self._config.distill.inputs
        y = self._states(n, student=inputs != "teacher")
        start = self._states(n, student=False) if inputs == "corrected" else y
        device = self._windows.device
        path = self._trajectories(n, start)
        return Pairs(y=y.to(device), path=path.to(device), condition=self._condition)

    # -- states and trajectories ----------------------------------------------------------------

    def _states(self, n: int, *, student: bool) -> Tensor:
        """Return the states at the data side of block n + 1: noise for the last block."""
        if n == len(self._groups):
            noise = teacher_noise(self._config.seed, self._n_rows, self._model.chunk_shape)
            return noise * self._config.sampler.noise_scale
        before = self._states(n + 1, student=student)
        return self._step(n + 1, before) if student else self._trajectories(n + 1, before)[:, 0]

    @torch.no_grad()
    def _trajectories(self, n: int, y: Tensor) -> Tensor:
        """Return the teacher's ways from states ``y``, (rows, points, *chunk), data side first."""

        def make(begin: int, end: int) -> Tensor:
            start = y[begin:end].to(self._windows.device)
            condition = self._condition(torch.arange(begin, end))
            return self._groups[n - 1].trajectory(start, condition, self._points)

        if self._folder is None:
            return make(0, self._n_rows).cpu()
        return self._folder.table(
            self._key(n),
            self._n_rows,
            self._config.distill.batch_size,
            (self._points, *self._model.chunk_shape),
            make,
            f"teacher {n}/{len(self._groups)}",
        )

    @torch.no_grad()
    def _step(self, n: int, y: Tensor) -> Tensor:
        """Return where the distilled student n takes states ``y``."""
        chain, batch_size = self._model.chain(), self._config.distill.batch_size
        parts = []
        for begin in range(0, len(y), batch_size):
            part = y[begin : begin + batch_size].to(self._windows.device)
            condition = self._condition(torch.arange(begin, begin + len(part)))
            ends = chain.sample(part, condition, solver=STUDENT_STEP, first=n, last=n)
            parts.append(ends.x.cpu())
        return torch.cat(parts)

    def _key(self, n: int) -> str:
        return samples_key(
            self._config,
            self._groups,
            n,
            points=self._points,
            samples=self._samples,
            obs_noise=self._obs_noise,
            n_views=self._windows.n_views,
            run=self._run,
            passed=self._passed,
        )

    # -- observations ---------------------------------------------------------------------------

    def _condition(self, rows: Tensor) -> Tensor | None:
        """Return the whole condition of any rows; each always has the same prefix."""
        encoded = self._encoded(rows)
        if self._prefixes is None:
            return encoded
        chunks = self._windows.gather_action(rows % len(self._windows))
        return with_prefix(encoded, self._prefixes.features(rows, chunks))

    def _observations(self, rows: Tensor) -> dict[str, Tensor]:
        """Return what rows observe; samples of one window see different views of its images."""
        n_windows, views = len(self._windows), None
        if self._samples > 1:
            views = rows.cpu() // n_windows % max(self._windows.n_views, 1)
        return self._windows.gather_obs(rows % n_windows, views)

    @torch.no_grad()
    def _encode(self) -> Callable[[Tensor], Tensor | None]:
        """Return what gives the encoded observations of any rows.

        With noise, every row sees its window a little displaced, always the same way: teacher and
        students must see the same.
        """
        device = self._windows.device
        if self._obs_noise:
            displaced = self._encode_displaced()
            return lambda rows: displaced.index_select(0, rows.to(device))
        encoded = encode_all(self._model, self._windows, ENCODING_BATCH)
        if encoded is not None:
            return lambda rows: encoded.index_select(0, rows.to(device) % len(self._windows))

        @torch.no_grad()
        def encode(rows: Tensor) -> Tensor | None:
            encoding: Tensor | None = self._model.encoder(self._observations(rows))
            return encoding

        return encode

    def _encode_displaced(self) -> Tensor:
        seed = derived_seed(self._config.seed, TEACHER_OBS)
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for begin in range(0, self._n_rows, ENCODING_BATCH):
            rows = torch.arange(begin, min(begin + ENCODING_BATCH, self._n_rows))
            obs = self._observations(rows)
            parts.append(self._model.encoder(self._obs_noise.displace(obs, generator)))
        return torch.cat(parts)
