"""Gradient steps on a loss over rows: optimiser, learning rate, EMA of the weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from lfm_policy.config.training import TrainingConfig
from lfm_policy.errors import InputError
from lfm_policy.flow.ema import EMA
from lfm_policy.training.accelerator import matrix_products
from lfm_policy.training.recorded import RecordedStep
from lfm_policy.training.rows.batches import BatchOrder
from lfm_policy.training.seeds import STEP, VALIDATION, derived_seed, seed_generators
from lfm_policy.training.steps import cosine_share, round_starts


class Rows(ABC):
    """The training data of a loss, row by row."""

    same_work: bool = False
    """Whether `batch` is the same sequence of kernels for all rows, see `RecordedStep`."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the rows are."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def batch(self, idx: Tensor, *, training: bool) -> tuple[Any, ...]:
        """Return the arguments of the loss for rows ``idx`` (B,).

        Random numbers come from torch's global generators. Augmentation is for training only.
        """

    def prefetch(self, idx: Tensor) -> None:  # noqa: B027 (most rows are in memory already)
        """Begin to gather rows ``idx`` (B,), which a later batch will ask for."""


class Loss(nn.Module, ABC):
    """A module whose ``forward(*batch)`` is the loss, a scalar.

    One module, so that data-parallel wrappers see a forward pass. The hooks are for methods that
    have more to do than that.

    Attributes:
        n_rounds: rounds of training; the learning rate starts again in each, from the EMA of the
            weights.
        same_work: whether `forward` is the same sequence of kernels for every batch, so that a GPU
            can replay it, see `RecordedStep`.
    """

    n_rounds: int = 1
    same_work: bool = False

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return what the optimiser changes.

        What a policy has is called ``network.<name>`` (of the block), ``encoder.<name>`` or
        ``blocks.<i>.<name>``; anything else is for the training alone.
        """
        return dict(self.named_parameters())

    def use_average(self, weights: Mapping[str, Tensor]) -> None:
        """Take the EMA of the trained weights, by name, which changes in place with every step."""

    def start_round(self, number: int) -> None:
        """Prepare round 0, 1, ...; the parameters are the EMA of the round before."""

    def kept_tensors(self) -> dict[str, Tensor]:
        """Return what checkpoints keep besides the trained weights; resuming fills it in place."""
        return {}

    def report(self, *, training: bool) -> dict[str, float]:
        """Return what the log says besides, means since the last call: of training or validation.

        ``loss`` among them stands in for the mean of what `forward` returned.
        """
        return {}


@dataclass(frozen=True)
class Part:
    """What is trained at one time: a block, or the encoder with all of them.

    Attributes:
        n: number of the block, 1 at the data; 0 for encoder and blocks together.
        loss: of a batch of rows.
        rows: training data.
        validation: rows for the same loss that nothing learns from.
        n_steps: gradient steps.
        options: of these steps.
        warm_start: whether it begins with the weights and the EMA of the part before.
    """

    n: int
    loss: Loss
    rows: Rows
    validation: Rows | None
    n_steps: int
    options: TrainingConfig
    warm_start: bool = False


class Trainer:
    """Gradient steps of one part.

    All randomness of step k is drawn from torch's global generators, seeded from (seed, n, k,
    process): nothing but the weights, the optimiser and the EMA carries over from one step to
    the next, and these are what `tensors` returns and `load` takes.
    """

    def __init__(self, part: Part, accelerator: Accelerator, *, seed: int) -> None:
        """Prepare the steps; only what the loss says is trained, all else in it is frozen."""
        self.n = part.n
        self.n_steps = part.n_steps
        self.step = 0
        self.loss = part.loss
        self._rows = part.rows
        self._options = part.options
        self._accelerator = accelerator
        self._seed = seed
        self._device = part.rows.device
        self.loss.requires_grad_(False)
        self._named = self.loss.trained_parameters()
        self._parameters = list(self._named.values())
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        self._recorded = self._recorder()
        # What changes from step to step is a tensor where steps are replayed.
        rate = self._scalar(part.options.learning_rate) if self._recorded else None
        self._decay = self._scalar(0.0) if self._recorded else None
        optimizer = torch.optim.AdamW(
            self._parameters,
            lr=part.options.learning_rate if rate is None else rate,
            betas=(part.options.beta1, part.options.beta2),
            weight_decay=part.options.weight_decay,
            fused=True,
            capturable=rate is not None,
        )
        self._wrapped, self._optimizer = accelerator.prepare(self.loss, optimizer)
        self._warmup = part.options.warmup(part.n_steps)
        self._round_starts = round_starts(part.n_steps, self._warmup, self.loss.n_rounds)
        self._ema = EMA(
            self._parameters, decay=part.options.ema_decay, power=part.options.ema_power
        )
        self.loss.use_average(self.ema())
        self._order = BatchOrder(
            len(part.rows),
            part.options.batch_size,
            seed=seed,
            block=self.n,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        self._wrapped.train()
        # The last trained weights, once the networks hold the EMA.
        self._online: dict[str, Tensor] = {}

    def train_step(self) -> tuple[Tensor, Tensor]:
        """Do one gradient step; returns loss and gradient norm, scalars on the device."""
        if self.step in self._round_starts:
            if self.step > 0:
                self._ema.copy_to_parameters()
            self.loss.start_round(self._round_starts.index(self.step))
            if self._recorded is not None and self.step > 0:
                self._recorded = self._recorder()  # what is learnt now is another work
        rank = self._accelerator.process_index
        seed_generators(derived_seed(self._seed, STEP, self.n, self.step, rank), self._device)
        idx = self._order.batch(self.step)
        last = self.step + 1 == self.n_steps
        if self._device.type != "cpu" and not last and not self._rows.same_work:
            # While the GPU computes this step, a thread gathers the next one's images.
            self._rows.prefetch(self._order.batch(self.step + 1))
        self._set_learning_rate()
        with matrix_products(self._options, self._device):
            if self._recorded is None:
                loss, norm = self._learn(*self._rows.batch(idx, training=True))
                self._ema.update()
            else:
                assert self._decay is not None
                self._decay.fill_(self._ema.next_decay())
                given = (idx,) if self._rows.same_work else self._rows.batch(idx, training=True)
                loss, norm = self._recorded(*given)
        self.step += 1
        return loss, norm

    def _learn(self, *batch: Any) -> tuple[Tensor, Tensor]:
        """Change the weights by one batch; returns loss and gradient norm."""
        loss = self._wrapped(*batch)
        self._accelerator.backward(loss)
        norm = self._clip_gradients()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm

    def _recorder(self) -> RecordedStep | None:
        """Return what records and replays steps on a GPU, where that can be."""
        accelerator, options = self._accelerator, self._options
        if not (
            options.cuda_graphs
            and self._device.type == "cuda"
            and self.loss.same_work
            and accelerator.num_processes == 1
            and options.mixed_precision != "fp16"  # which looks whether gradients are finite
        ):
            return None

        def work(*given: Any) -> tuple[Tensor, Tensor]:
            if self._rows.same_work:
                given = self._rows.batch(*given, training=True)
            loss, norm = self._learn(*given)
            assert self._decay is not None
            self._ema.update_with(self._decay)
            return loss, norm

        return RecordedStep(work)

    def _scalar(self, value: float) -> Tensor:
        return torch.tensor(value, device=self._device)

    def _set_learning_rate(self) -> None:
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self.learning_rate)
            else:
                group["lr"] = self.learning_rate

    def _clip_gradients(self) -> Tensor:
        """Scale the gradients down to the configured norm; returns their norm before."""
        self._accelerator.unscale_gradients(self._optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        largest = self._options.gradient_clip or math.inf
        # On a CPU a look at the norm is free, and scaling by 1 costs as much as the norm itself.
        if self._device.type != "cpu" or not norm <= largest:
            clip_grads_with_norm_(self._parameters, largest, norm)
        return norm

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return self._options.learning_rate * cosine_share(
            self.step, warmup=self._warmup, n_steps=self.n_steps, n_rounds=self.loss.n_rounds
        )

    def all_finite(self) -> bool:
        """Whether every trained weight is a finite number."""
        finite = [torch.isfinite(parameter).all() for parameter in self._parameters]
        return bool(torch.stack(finite).all())

    @torch.no_grad()
    def validation_loss(self, rows: Rows, batch_size: int) -> float:
        """Return the loss of the EMA weights on other rows, with the same noise always."""
        self.loss.eval()
        seed_generators(derived_seed(self._seed, VALIDATION, self.n), self._device)
        losses = []
        with self._ema.applied():
            for begin in range(0, len(rows), batch_size):
                end = min(begin + batch_size, len(rows))
                idx = torch.arange(begin, end, device=self._device)
                losses.append((self.loss(*rows.batch(idx, training=False)), len(idx)))
            # A GPU is asked for their values once all are on their way.
            total = sum(float(loss) * count for loss, count in losses)
        self.loss.train()
        return total / len(rows)

    # -- state --------------------------------------------------------------------------------

    def ema(self) -> dict[str, Tensor]:
        """Return the EMA of the weights by name, see `Loss.trained_parameters`."""
        return dict(zip(self._named, self._ema.weights, strict=True))

    def apply_ema(self) -> None:
        """Give the networks the EMA weights, for use."""
        self._online = {name: p.detach().clone() for name, p in self._named.items()}
        self._ema.copy_to_parameters()
        self._wrapped.eval()  # the push-forward is without dropout

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, EMA and optimiser state as flat tensors."""
        state = self._optimizer.state_dict()["state"]
        tensors: dict[str, Tensor] = {}
        for position, (name, parameter) in enumerate(self._named.items()):
            tensors[f"online/{name}"] = self._online.get(name, parameter.detach())
            tensors[f"average/{name}"] = self._ema.weights[position]
            for key, value in state.get(position, {}).items():
                tensors[f"optimizer/{name}/{key}"] = torch.as_tensor(value)
        return tensors | {f"kept/{k}": tensor for k, tensor in self.loss.kept_tensors().items()}

    def numbers(self) -> dict[str, Any]:
        """Return the rest of the state: plain numbers."""
        scaler = getattr(self._accelerator, "scaler", None)
        return {
            "step": self.step,
            "average_steps": self._ema.steps,
            "scaler": scaler.state_dict() if scaler is not None else {},
        }

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], label: str) -> None:
        """Take the state that `tensors` and `numbers` returned.

        Raises:
            InputError: a tensor is missing or has another shape; ``label`` names the file.
        """
        state: dict[int, dict[str, Tensor]] = {}
        ema = []
        for position, (name, parameter) in enumerate(self._named.items()):
            online = _take(tensors, f"online/{name}", parameter.shape, label)
            ema.append(_take(tensors, f"average/{name}", parameter.shape, label))
            with torch.no_grad():
                parameter.copy_(online)
            if numbers["step"] > 0:
                state[position] = {
                    "step": _take(tensors, f"optimizer/{name}/step", torch.Size([]), label),
                    **{
                        key: _take(tensors, f"optimizer/{name}/{key}", parameter.shape, label)
                        for key in ("exp_avg", "exp_avg_sq")
                    },
                }
        self.step = int(numbers["step"])
        if begun := sum(start < self.step for start in self._round_starts):
            self.loss.start_round(begun - 1)
        for name, kept in self.loss.kept_tensors().items():
            kept.copy_(_take(tensors, f"kept/{name}", kept.shape, label))
        if state:
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": state, "param_groups": groups})
        self._ema.load(ema, int(numbers["average_steps"]))
        if numbers["scaler"]:
            self._accelerator.scaler.load_state_dict(dict(numbers["scaler"]))

    def warm_start(self, before: Trainer) -> None:
        """Start from the weights and the EMA of the part before; the optimiser starts afresh."""
        tensors = before.tensors()
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(tensors[f"online/{name}"])
        self._ema.load([tensors[f"average/{name}"] for name in self._named], before._ema.steps)


def _take(tensors: Mapping[str, Tensor], name: str, shape: torch.Size, label: str) -> Tensor:
    if name not in tensors:
        raise InputError(f"{label}: tensor '{name}' is missing: it belongs to another run")
    if tensors[name].shape != shape:
        raise InputError(
            f"{label}: tensor '{name}' has shape {tuple(tensors[name].shape)}, expected "
            f"{tuple(shape)}: it belongs to another run"
        )
    return tensors[name]
