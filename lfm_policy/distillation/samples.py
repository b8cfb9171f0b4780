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
from lfm_policy.distillation.group import TeacherGroup
from lfm_policy.distillation.seen import Seen
from lfm_policy.distillation.states import ChunkShift, Reach
from lfm_policy.flow import SolverSpec
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.tensors import fill_tensors, write_tensors
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_policy.training.seeds import TEACHER_NOISE, derived_seed
from lfm_policy.training.trainer import Rows

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
    n_rows: int,
    obs_noise: ObsNoise,
    n_views: int,
    model: PolicyModel,
    inputs: str,
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
        "samples": [samples, n_rows],
        "seed": config.seed,
        "noise": [config.sampler.noise_scale, obs_noise.scale],
        "split": [config.dataset.validation_ratio, config.dataset.split_seed],
    }
    if isinstance(group.solver, SolverSpec) and group.solver.evaluations is None:
        facts["tolerances"] = [group.solver.rtol, group.solver.atol]
    if options.teacher_guidance != 1:
        facts["guidance"] = options.teacher_guidance
    feature_noise = obs_noise.feature_scale if n_views else 0.0
    if obs_noise.shaped and (obs_noise.scale or feature_noise):
        facts["noise covariance"] = "data"
    if feature_noise:
        facts["feature noise"] = feature_noise
    if options.recording:
        facts["recording"] = options.recording_fingerprint
    if n_views:
        facts["views"] = n_views
    if config.policy.max_prefix:
        facts["prefix"] = config.policy.max_prefix
    if points > 1:
        facts["trajectory"] = [points, str(group.end)]
    if options.student_config or options.teacher_data:
        facts["windows"] = [options.teacher_data, config.policy.n_obs_steps]
    if inputs == "student":
        facts["student"] = [_weights_before(model, n), len(groups), n]
        if passed:
            facts["pass"] = passed
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"boundary{float(group.start):g}-{digest[:16]}"


def _weights_before(model: PolicyModel, n: int) -> str:
    """Return a digest of what gives student n its states: the encoder, and the blocks after n."""
    digest = hashlib.sha256()
    for module in (model.encoder, *model.blocks[n:]):
        for name, weight in module.state_dict().items():
            digest.update(name.encode())
            digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class TeacherSamples:
    """Gives the pairs of one student block after the other, the last block first.

    Row r belongs to window r mod M: every window is there ``samples`` times, with other noise. The
    noise is drawn for the teacher's chunks, and a student starts from the same numbers.
    """

    def __init__(
        self,
        *,
        config: ExperimentConfig,
        model: PolicyModel,
        groups: Sequence[TeacherGroup],
        points: int,
        samples: int,
        teacher: Seen,
        shift: ChunkShift,
        reach: Reach | None,
        folder: SampleFolder | None,
    ) -> None:
        """Keep what is needed.

        Args:
            config: of the student.
            model: of the student.
            groups: the teacher's blocks that each student block replaces.
            points: states of each of the teacher's trajectories that are learned from.
            samples: rows for each window.
            teacher: what the teacher sees of the rows.
            shift: from the teacher's chunks to the student's.
            reach: where its states are kept within; None: anywhere, as it does not clip either.
            folder: keeps the teacher's samples; None: they are few, and made all at once.
        """
        self._config = config
        self._model = model
        self._groups = groups
        self._points = points
        self._samples = samples
        self._teacher = teacher
        self._shift = shift
        self._reach = reach
        self._folder = folder
        self._n_rows = teacher.n_rows
        self._device = teacher.windows.device
        self._passed = 0
        self._held_out: dict[int, Tensor] = {}

    def pairs(self, n: int, student: Seen, passed: int = 0) -> Pairs:
        """Return the pairs of student block n; students nearer the noise must be distilled.

        They are other ones in every pass of a run (``passed`` are done).

        Args:
            n: number of the student block.
            student: what the student sees of the rows, by its encoder as it is from now on.
            passed: see above.
        """
        self._passed = passed
        inputs, shift = self._config.distill.inputs, self._shift
        if inputs == "teacher":
            start = self._teacher_states(n)
            y = shift.state(self._bounded(start, n + 1))
        else:
            y = self._student_states(n, student)
            start = self._teacher_states(n) if inputs == "corrected" else shift.back(y)
        ways = self._trajectories(n, start, inputs)
        ways = torch.cat([self._bounded(ways[:, :1], n), ways[:, 1:]], dim=1)
        path = shift.path(ways, to_data=n == 1)
        return Pairs(y=y.to(self._device), path=path.to(self._device), condition=student.condition)

    def ways(self) -> tuple[Tensor, Tensor]:
        """Return the teacher's own ways from the noise to the data, in the student's chunks.

        Returns:
            The noise (rows, horizon, action_dim), and where the teacher is at the data side of each
            group, (rows, N', horizon, action_dim), index 0 = the data themselves.
        """
        ends = []
        for n in range(1, len(self._groups) + 1):
            end = self._bounded(self._ends(n), n)
            ends.append(self._shift.path(end[:, None], to_data=n == 1)[:, 0])
        noise = self._shift.state(self._noise())
        return noise.to(self._device), torch.stack(ends, dim=1).to(self._device)

    # -- states and trajectories ----------------------------------------------------------------

    def _noise(self) -> Tensor:
        noise = teacher_noise(self._config.seed, self._n_rows, self._model.chunk_shape)
        return noise * self._config.sampler.noise_scale

    def _teacher_states(self, n: int) -> Tensor:
        """Return the teacher's states at the data side of group n + 1: noise for the last one."""
        return self._noise() if n == len(self._groups) else self._ends(n + 1)

    def _bounded(self, x: Tensor, n: int) -> Tensor:
        """Return states at the data side of group n as a student learns them, within reach."""
        if self._reach is None or n > len(self._groups):
            return x
        return self._reach.bounded(x, self._groups[n - 1].start)

    def _ends(self, n: int) -> Tensor:
        """Return where the teacher's own ways are at the data side of group n."""
        return self._trajectories(n, self._teacher_states(n), "teacher")[:, 0]

    def _student_states(self, n: int, student: Seen) -> Tensor:
        """Return where the distilled students take the noise, at the data side of block n + 1."""
        if n == len(self._groups):
            return self._shift.state(self._noise())
        return self._step(n + 1, self._student_states(n + 1, student), student)

    @torch.no_grad()
    def _trajectories(self, n: int, y: Tensor, inputs: str) -> Tensor:
        """Return the teacher's ways from states ``y``, (rows, points, *chunk), data side first."""

        def make(begin: int, end: int) -> Tensor:
            start = y[begin:end].to(self._device)
            condition = self._teacher.condition(torch.arange(begin, end))
            return self._groups[n - 1].trajectory(start, condition, self._points)

        if self._folder is None:
            if inputs == "student":
                return make(0, self._n_rows).cpu()
            if n not in self._held_out:  # asked for again when the student is done
                self._held_out[n] = make(0, self._n_rows).cpu()
            return self._held_out[n]
        return self._folder.table(
            self._key(n, inputs),
            self._n_rows,
            self._config.distill.batch_size,
            (self._points, *self._model.chunk_shape),
            make,
            f"teacher {n}/{len(self._groups)}",
        )

    @torch.no_grad()
    def _step(self, n: int, y: Tensor, student: Seen) -> Tensor:
        """Return where the distilled student n takes states ``y``."""
        chain, batch_size = self._model.chain(), self._config.distill.batch_size
        parts = []
        for begin in range(0, len(y), batch_size):
            part = y[begin : begin + batch_size].to(self._device)
            condition = student.condition(torch.arange(begin, begin + len(part)))
            ends = chain.sample(part, condition, solver=STUDENT_STEP, first=n, last=n)
            parts.append(ends.x.cpu())
        return torch.cat(parts)

    def _key(self, n: int, inputs: str) -> str:
        return samples_key(
            self._config,
            self._groups,
            n,
            points=self._points,
            samples=self._samples,
            n_rows=self._n_rows,
            obs_noise=self._teacher.obs_noise,
            n_views=self._teacher.windows.n_views,
            model=self._model,
            inputs=inputs,
            passed=self._passed,
        )
