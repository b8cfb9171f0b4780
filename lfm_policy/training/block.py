"""Training of one block: network, optimiser, learning rate, average of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from lfm_policy.config.training import TrainingConfig
from lfm_policy.errors import InputError
from lfm_policy.flow.ema import EMA
from lfm_policy.training.batches import BatchOrder
from lfm_policy.training.learning_rate import cosine_share, round_starts
from lfm_policy.training.objective import BlockObjective
from lfm_policy.training.seeds import STEP, VALIDATION, derived_seed, seed_generators


class BlockTrainer:
    """Gradient steps of block n.

    All randomness of step k is drawn from torch's global generators, seeded from (seed, block, k,
    process): nothing but the weights, the optimiser and the average carries over from one step to
    the next, and these are what `tensors` returns and `load_tensors` takes.
    """

    def __init__(
        self,
        config: TrainingConfig,
        objective: BlockObjective,
        accelerator: Accelerator,
        *,
        seed: int,
        n_steps: int,
    ) -> None:
        self.n = objective.n
        self.n_steps = n_steps
        self.step = 0
        self._config = config
        self._objective = objective
        self._accelerator = accelerator
        self._seed = seed
        self.loss_module = objective.loss_module
        for parameter in self.loss_module.parameters():
            parameter.requires_grad_(False)
        self._named = objective.trained_parameters()
        self._parameters = list(self._named.values())
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._wrapped, self._optimizer = accelerator.prepare(self.loss_module, optimizer)
        self._warmup = min(config.warmup_steps, n_steps)
        self._round_starts = round_starts(n_steps, self._warmup, objective.n_rounds)
        self._ema = EMA(self._parameters, decay=config.ema_decay, power=config.ema_power)
        self._order = BatchOrder(
            len(objective),
            config.batch_size,
            seed=seed,
            block=self.n,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        self._device = objective.device
        self._wrapped.train()
        # The last trained weights, once the network holds the averaged ones.
        self._online: dict[str, Tensor] = {}

    def train_step(self) -> tuple[Tensor, Tensor]:
        """Do one gradient step; returns loss and gradient norm, scalars on the device."""
        if self.step in self._round_starts:
            self._start_round(self._round_starts.index(self.step))
        rank = self._accelerator.process_index
        seed_generators(derived_seed(self._seed, STEP, self.n, self.step, rank), self._device)
        idx = self._order.batch(self.step)
        if self._device.type != "cpu" and self.step + 1 < self.n_steps:
            # While the GPU computes this step, a thread gathers the next one's images.
            self._objective.prefetch(self._order.batch(self.step + 1))
        loss = self._wrapped(*self._objective.batch(idx, training=True))
        self._accelerator.backward(loss)
        norm = self._clip_gradients()
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._ema.update()
        self.step += 1
        return loss.detach(), norm

    @torch.no_grad()
    def _start_round(self, number: int) -> None:
        if number:
            self._ema.copy_to_parameters()
        self._objective.start_round(number)

    def _clip_gradients(self) -> Tensor:
        """Scale the gradients down to the configured norm; returns their norm before."""
        self._accelerator.unscale_gradients(self._optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        largest = self._config.gradient_clip or math.inf
        # On a CPU a look at the norm is free, and scaling by 1 costs as much as the norm itself.
        if self._device.type != "cpu" or not norm <= largest:
            clip_grads_with_norm_(self._parameters, largest, norm)
        return norm

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return self._config.learning_rate * cosine_share(
            self.step,
            warmup=self._warmup,
            n_steps=self.n_steps,
            n_rounds=self._objective.n_rounds,
        )

    def all_finite(self) -> bool:
        """Whether every trained weight is a finite number."""
        finite = [torch.isfinite(parameter).all() for parameter in self._parameters]
        return bool(torch.stack(finite).all())

    @torch.no_grad()
    def validation_loss(self, objective: BlockObjective, batch_size: int) -> float:
        """Return the loss of the averaged weights on other rows, with the same noise always.

        ``objective`` shares the loss module of the one that is trained.
        """
        self.loss_module.eval()
        seed_generators(derived_seed(self._seed, VALIDATION, self.n), self._device)
        total = 0.0
        with self._ema.applied():
            for begin in range(0, len(objective), batch_size):
                end = min(begin + batch_size, len(objective))
                idx = torch.arange(begin, end, device=self._device)
                batch = objective.batch(idx, training=False)
                total += float(self.loss_module(*batch)) * len(idx)
        self.loss_module.train()
        return total / len(objective)

    # -- state --------------------------------------------------------------------------------

    def ema(self) -> dict[str, Tensor]:
        """Return the averaged weights by name (``network...``, ``encoder...``)."""
        return dict(zip(self._named, self._ema.weights, strict=True))

    def apply_ema(self) -> None:
        """Give the network (and the encoder, if it was trained) the averaged weights, for use."""
        self._online = {name: p.detach().clone() for name, p in self._named.items()}
        self._ema.copy_to_parameters()
        self._wrapped.eval()  # the push-forward is without dropout

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, average and optimiser state as flat tensors."""
        state = self._optimizer.state_dict()["state"]
        tensors: dict[str, Tensor] = {}
        for position, (name, parameter) in enumerate(self._named.items()):
            tensors[f"online/{name}"] = self._online.get(name, parameter.detach())
            tensors[f"average/{name}"] = self._ema.weights[position]
            for key, value in state.get(position, {}).items():
                tensors[f"optimizer/{name}/{key}"] = torch.as_tensor(value)
        for name, tensor in self._objective.kept_tensors().items():
            tensors[f"kept/{name}"] = tensor
        return tensors

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
        averages = []
        for position, (name, parameter) in enumerate(self._named.items()):
            online = _take(tensors, f"online/{name}", parameter.shape, label)
            averages.append(_take(tensors, f"average/{name}", parameter.shape, label))
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
        for number, start in enumerate(self._round_starts):
            if start < self.step:
                self._objective.start_round(number)
        for name, kept in self._objective.kept_tensors().items():
            kept.copy_(_take(tensors, f"kept/{name}", kept.shape, label))
        if state:
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": state, "param_groups": groups})
        self._ema.load(averages, int(numbers["average_steps"]))
        if numbers["scaler"]:
            self._accelerator.scaler.load_state_dict(dict(numbers["scaler"]))

    def warm_start(self, tensors: Mapping[str, Tensor], average_steps: int) -> None:
        """Start from the weights and the average of the previous block.

        ``tensors`` are that block's `tensors`; the optimiser starts afresh.
        """
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(tensors[f"online/{name}"])
        self._ema.load([tensors[f"average/{name}"] for name in self._named], average_steps)


def _take(tensors: Mapping[str, Tensor], name: str, shape: torch.Size, label: str) -> Tensor:
    if name not in tensors:
        raise InputError(f"{label}: tensor '{name}' is missing: it belongs to another run")
    if tensors[name].shape != shape:
        raise InputError(
            f"{label}: tensor '{name}' has shape {tuple(tensors[name].shape)}, expected "
            f"{tuple(shape)}: it belongs to another run"
        )
    return tensors[name]
