"""How time and observation enter a velocity network, the same way in all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

# Angular frequencies of the time embedding, radians per unit time. Diffusion models use up to 1000
# because their time is an integer up to 1000 whose neighbours must be told apart. Here time is
# continuous in [0, 1] and an ODE solver differentiates through it: higher frequencies only make
# the velocity rough in t, and adaptive solvers slow.
MIN_FREQUENCY = 1.0
MAX_FREQUENCY = 100.0

LayerT = TypeVar("LayerT", bound=nn.Module)


class TimeEmbedding(nn.Module):
    """Sines and cosines of t at geometrically spaced frequencies.

    Maps t, shape (batch, ...), values in [0, 1], to (batch, ..., dim); ``dim`` is even and at least
    2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        half = dim // 2
        exponents = torch.linspace(0.0, 1.0, half) * math.log(MAX_FREQUENCY / MIN_FREQUENCY)
        frequencies = MIN_FREQUENCY * torch.exp(exponents)
        # cos(a) = sin(a + pi/2): one sine of the whole vector instead of two and a concatenation.
        phases = torch.cat([torch.zeros(half), torch.full((half,), math.pi / 2)])
        # Not saved: they follow from `dim`, and half-precision checkpoints must not round them.
        self.register_buffer("frequencies", frequencies.repeat(2), persistent=False)
        self.register_buffer("phases", phases, persistent=False)
        self.frequencies: Tensor
        self.phases: Tensor

    def forward(self, t: Tensor) -> Tensor:
        """Return the embedding, shape (batch, ..., dim)."""
        return torch.sin(torch.addcmul(self.phases, t.unsqueeze(-1), self.frequencies))


class ConditionEmbedding(nn.Module):
    """One vector from times and observation, which modulates all layers.

    Maps t (batch,), or (batch, n_times) for several, and cond (batch, cond_dim) or None to (batch,
    width). The result is already activated, so that what follows it is a plain linear map.
    """

    def __init__(self, cond_dim: int, time_embed_dim: int, width: int, n_times: int = 1) -> None:
        super().__init__()
        self.n_times = n_times
        self.time = TimeEmbedding(time_embed_dim)
        self.hidden = nn.Linear(n_times * time_embed_dim + cond_dim, width)
        self.out = nn.Linear(width, width)

    def forward(self, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return the embedding, shape (batch, width)."""
        embedding = self.time(t) if t.ndim == 1 else self.time(t).flatten(1)
        if cond is not None:
            embedding = torch.cat((embedding, cond), dim=-1)
        hidden = nn.functional.silu(self.hidden(embedding))
        return nn.functional.silu(self.out(hidden))


class IntegerTimeEmbedding(nn.Module):
    """Sines, then cosines, of the integer times of diffusion models (Ho et al., arXiv:2006.11239).

    A time t in [0, 1] stands for tau = ``train_steps`` t - 1, as `DiffusionMethod` asks. Maps t,
    shape (batch, ...), to (batch, ..., dim); ``dim`` is even and at least 4.
    """

    def __init__(self, dim: int, train_steps: int) -> None:
        super().__init__()
        half = dim // 2
        frequencies = torch.exp(torch.arange(half) * -(math.log(10_000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor
        self.dim, self.train_steps = dim, train_steps

    def forward(self, t: Tensor) -> Tensor:
        """Return the embedding, shape (batch, ..., dim)."""
        tau = t * self.train_steps - 1
        # What float32 has rounded is made whole, and derivatives stay what they are.
        off = (tau.round() - tau).detach()
        tau = torch.where(off.abs() < 2e-7 * self.train_steps, tau + off, tau)
        angles = tau.unsqueeze(-1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class StepFilm(nn.Module):
    """What the time adds to all scales and shifts of a network, from one linear map.

    Beside it stands a linear map of the observation: the sum of both is one map of the two, and
    each has to be computed only where it changes. Maps t (batch,), or (batch, n_times) for several,
    to (batch, size).
    """

    def __init__(self, dim: int, size: int, train_steps: int, n_times: int = 1) -> None:
        super().__init__()
        self.time = IntegerTimeEmbedding(dim, train_steps)
        self.hidden = nn.Linear(n_times * dim, 4 * dim)
        self.out = nn.Linear(4 * dim, dim)
        self.film = nn.Linear(dim, size)

    def forward(self, t: Tensor) -> Tensor:
        """Return what is added, shape (batch, size)."""
        embedding = self.time(t) if t.ndim == 1 else self.time(t).flatten(1)
        step = self.out(functional.mish(self.hidden(embedding)))
        added: Tensor = self.film(functional.mish(step))
        return added


def with_more_times(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the same network of one time, as those of ``network``, of several.

    With them it ignores all its times but the first. Weights of another network come out as they
    are, or of other shapes than the network's.
    """
    wider = dict(weights)
    for name, module in network.named_modules():
        key = f"{name}.hidden.weight"
        if isinstance(module, (ConditionEmbedding, StepFilm)) and key in wider:
            size, weight = module.time.dim, wider[key]
            missing = module.hidden.in_features - weight.shape[1]
            ignored = weight.new_zeros(len(weight), max(missing, 0))
            wider[key] = torch.cat([weight[:, :size], ignored, weight[:, size:]], dim=1)
    return wider


def with_condition_of(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the same network of another condition, with that of ``network``.

    What weighs the condition is as ``network`` has it. Weights of another network come out as they
    are, or of other shapes than the network's.
    """
    changed = dict(weights)
    for name, module in network.named_modules():
        key = f"{name}.hidden.weight"
        if isinstance(module, ConditionEmbedding) and key in changed:
            own, given = module.hidden.weight.detach(), changed[key]
            n_times = module.n_times * len(module.time.frequencies)
            if len(own) == len(given):
                changed[key] = torch.cat([given[:, :n_times], own[:, n_times:]], dim=1)
    return changed


class Modulation(nn.Module):
    """All the scales, shifts and gates of a network, from one linear map.

    One matrix product for the whole network instead of one per layer: at batch 1 the time goes
    into the number of operations, not into arithmetic. Starts at zero: scales of 1 (callers add
    the 1), shifts of 0 and closed gates, "adaLN-Zero" of Peebles and Xie, arXiv:2212.09748.

    Maps (batch, embed_dim) to tensors (batch, size), one per entry of ``sizes``.
    """

    def __init__(self, embed_dim: int, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.linear = zero_init(nn.Linear(embed_dim, sum(sizes)))

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Return one tensor per size, in order."""
        # One split node; separate slices would each zero-fill a full gradient going backward.
        return torch.split(self.linear(embedding), self.sizes, dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return x (1 + scale) + shift, with shift and scale broadcast to x."""
    return torch.addcmul(x + shift, x, scale)


def zero_init(layer: LayerT) -> LayerT:
    """Set all parameters of the layer to zero and return it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
