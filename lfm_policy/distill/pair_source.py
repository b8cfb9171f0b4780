"""What student blocks learn from: states to start from, and where the teacher takes these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.joined import Windows
from lfm_policy.distill.group import TeacherGroup
from lfm_policy.distill.objective import Pairs
from lfm_policy.distill.pairs import teacher_noise
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_policy.training.obs_noise import ObsNoise
from lfm_policy.training.prefixes import TrainingPrefixes
from lfm_policy.training.seeds import TEACHER_OBS, derived_seed
from lfm_policy.training.source import encode_all

ENCODING_BATCH = 1024


class Fill(Protocol):
    """Makes the rows of a table, in one go or in parts that are kept."""

    def __call__(
        self,
        key: str,
        n_rows: int,
        shape: tuple[int, ...],
        make: Callable[[int, int], Tensor],
        label: str,
    ) -> Tensor:
        """Return (n_rows, *shape).

        Args:
            key: says everything that the rows depend on.
            n_rows: rows in all.
            shape: of one row.
            make: returns rows ``begin`` to ``end``.
            label: of a progress bar.
        """
        ...


class PairSource:
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
        fill: Fill,
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
            fill: makes the teacher's samples.
            run: folder of the student's run.
        """
        self._windows = windows
        self._config = config
        self._model = model
        self._groups = groups
        self._points = points
        self._samples = samples
        self._obs_noise = obs_noise
        self._fill = fill
        self._run = run
        self._n_rows = len(windows) * samples
        self._encoded = self._encode()
        self._prefixes: TrainingPrefixes | None = None
        if model.prefix is not None:
            self._prefixes = TrainingPrefixes(model.prefix, self._n_rows, config.seed)

    def pairs(self, n: int) -> Pairs:
        """Return the pairs of student block n; students nearer the noise must be distilled."""
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

    def _trajectories(self, n: int, y: Tensor) -> Tensor:
        """Return the teacher's ways from states ``y``, (rows, points, *chunk), data side first."""
        group = self._groups[n - 1]

        @torch.no_grad()
        def make(begin: int, end: int) -> Tensor:
            condition = self._condition(torch.arange(begin, end))
            return group.trajectory(y[begin:end].to(self._windows.device), condition, self._points)

        return self._fill(
            self._key(n),
            self._n_rows,
            (self._points, *self._model.chunk_shape),
            make,
            f"teacher {n}/{len(self._groups)}",
        )

    @torch.no_grad()
    def _step(self, n: int, y: Tensor) -> Tensor:
        """Return where the distilled student n takes states ``y``."""
        parts = []
        for begin in range(0, len(y), self._config.distill.batch_size):
            part = y[begin : begin + self._config.distill.batch_size].to(self._windows.device)
            condition = self._condition(torch.arange(begin, begin + len(part)))
            velocity = self._model.blocks[n - 1](part, part.new_ones(len(part)), condition)
            parts.append((part - velocity).cpu())
        return torch.cat(parts)

    def _key(self, n: int) -> str:
        """Return a folder name that says everything the teacher samples of student n depend on.

        With inputs of the teacher they are its states at one boundary between two blocks, whatever
        the groups, so students of different lengths share them. Trajectories are of one group.
        """
        options, group = self._config.distill, self._groups[n - 1]
        facts: dict[str, object] = {
            "teacher": options.teacher,
            "solver": [options.teacher_solver, options.teacher_steps, options.batch_size],
            "samples": self._samples,
            "seed": self._config.seed,
            "noise": [self._config.sampler.noise_scale, self._obs_noise.scale],
        }
        if self._obs_noise and self._obs_noise.shaped:
            facts["noise covariance"] = "data"
        if options.recording:
            facts["recording"] = options.recording_fingerprint
        if self._windows.n_views:
            facts["views"] = self._windows.n_views
        if self._config.policy.max_prefix:
            facts["prefix"] = self._config.policy.max_prefix
        if self._points > 1:
            facts["trajectory"] = [self._points, str(group.end)]
        if options.inputs == "student":
            facts["student"] = [str(self._run.resolve()), len(self._groups), n]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return f"boundary{float(group.start):g}-{digest[:16]}"

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
