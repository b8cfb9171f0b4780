"""Options of the networks; light to import, so that a misspelt one is said at once."""

from __future__ import annotations

import math
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import option, options

if TYPE_CHECKING:
    from lfm_policy.networks.base import VelocityNetwork

# Bounds that no real robot reaches: a configuration may come with a checkpoint that somebody else
# wrote, and must not be able to ask for an absurd amount of memory or time.
MAX_CHUNK_SIZE = 1 << 20
MAX_COND_DIM = 1 << 16
MAX_WIDTH = 16384


@options
class NetworkConfig:
    """Options of a velocity network; subclasses add theirs and say what they build.

    Adding a network is one file with such a subclass, and its line in ``NETWORKS``. Where the
    network is in another file than its options, ``BUILDS`` says where; else `_build` makes it.
    """

    BUILDS: ClassVar[str] = ""
    """``module:Class``, called with the options, chunk shape, length of conditions, and times."""
    SEQUENCES: ClassVar[bool] = False
    """Whether it takes chunks (horizon, action_dim) alone."""

    name: str = option("", "which velocity network")

    def create(
        self, chunk_shape: tuple[int, ...], cond_dim: int, n_times: int = 1
    ) -> VelocityNetwork:
        """Build the network, with fresh weights from torch's global random numbers.

        Args:
            chunk_shape: shape of one chunk; (horizon, action_dim) for robots. Sizes >= 1.
            cond_dim: length of the condition vector; 0 for a flow without observations.
            n_times: times that the method of the block asks with, see `lfm_policy.flow.Method`.

        Under ``torch.device("meta")`` nothing is allocated, which lets a loader compare shapes
        before it trusts a configuration.

        Raises:
            InputError: this network cannot be made for these shapes.
        """
        shape = tuple(int(size) for size in chunk_shape)
        if not shape or min(shape) < 1 or math.prod(shape) > MAX_CHUNK_SIZE:
            raise InputError(
                f"chunk shape {shape}: expected at least one dimension, sizes of at least 1, and "
                f"at most {MAX_CHUNK_SIZE} numbers in all"
            )
        if self.SEQUENCES and len(shape) != 2:
            raise InputError(
                f"chunk shape {shape}: the '{self.name}' network works on (horizon, action_dim); "
                f"use network.name=mlp for any other shape"
            )
        if not 0 <= cond_dim <= MAX_COND_DIM:
            raise InputError(f"cond_dim {cond_dim}: expected 0 to {MAX_COND_DIM}")
        return self._build(shape, int(cond_dim), n_times)

    def _build(self, chunk_shape: tuple[int, ...], cond_dim: int, n_times: int) -> VelocityNetwork:
        built: VelocityNetwork = resolve_name(self.BUILDS)(self, chunk_shape, cond_dim, n_times)
        return built


@options
class MLPConfig(NetworkConfig):
    """Options of the residual MLP; works on chunks of any shape."""

    BUILDS: ClassVar[str] = "lfm_policy.networks.mlp:MLP"

    name: str = option(
        "mlp",
        "network of every block: mlp for a CPU, unet1d (six to nine times the time) for a GPU",
        choices=["mlp"],
    )
    width: int = option(
        192,
        "features of the residual stream; 384 for longer tasks, more arms or more data, which with "
        "n_layers 3 is a third as fast",
        common=True,
        ge=1,
        le=MAX_WIDTH,
    )
    n_layers: int = option(2, "residual layers", common=True, ge=1, le=256)
    expansion: int = option(2, "hidden features per layer over width", ge=1, le=64)
    dropout: float = option(
        0.0,
        "dropout rate inside each layer; 0.1 where the validation loss rises again",
        common=True,
        ge=0,
        lt=1,
    )
    time_embed_dim: int = option(64, "sines and cosines of time", ge=2, le=MAX_WIDTH, multiple_of=2)


@options
class TemporalConfig(NetworkConfig):
    """What the temporal U-Nets have in common; chunks are (horizon, action_dim), of any horizon."""

    SEQUENCES: ClassVar[bool] = True

    channels: list[Annotated[int, Field(ge=1, le=8192)]] = option(
        [64, 128, 256],
        "features per level; each level after the first halves the horizon",
        common=True,
        min_length=1,
        max_length=8,
    )
    kernel_size: int = option(5, "length of the convolutions, odd", ge=1, le=63)
    n_groups: int = option(8, "groups of the norms; divides channels", ge=1, le=1024)

    def __post_init__(self) -> None:
        if any(features % self.n_groups for features in self.channels):
            raise OptionError(
                "channels",
                f"is {self.channels}, expected each a multiple of {self.n_groups} (n_groups must "
                "divide the features of every level)",
            )
        if self.kernel_size % 2 == 0:
            raise OptionError(
                "kernel_size",
                f"is {self.kernel_size}, expected an odd number, so that a convolution keeps the "
                "horizon",
            )


@options
class UNet1DConfig(TemporalConfig):
    """Options of the temporal U-Net."""

    BUILDS: ClassVar[str] = "lfm_policy.networks.unet1d:UNet1D"

    name: str = option("unet1d", "which velocity network", choices=["unet1d"])
    embed_dim: int = option(128, "features of the condition embedding", ge=1, le=MAX_WIDTH)
    time_embed_dim: int = option(
        128, "sines and cosines of time", ge=2, le=MAX_WIDTH, multiple_of=2
    )


@options
class ConditionalUNet1DConfig(TemporalConfig):
    """Options of the U-Net of Diffusion Policy, LeRobot and robomimic, as they have it."""

    BUILDS: ClassVar[str] = "lfm_policy.networks.conditional_unet1d:ConditionalUNet1D"

    name: str = option(
        "conditional_unet1d", "which velocity network", choices=["conditional_unet1d"]
    )
    step_embed_dim: int = option(
        128, "sines and cosines of the integer time", ge=4, le=MAX_WIDTH, multiple_of=2
    )
    train_steps: int = option(
        100, "integer times, as many as flow.method.train_steps of a diffusion", ge=2, le=10_000
    )
    film_scale: bool = option(
        True, "whether time and observation scale features, or only shift them"
    )
    head_groups: int = option(
        8,
        "groups of the last norm, which the others have made 8 whatever n_groups is",
        ge=1,
        le=1024,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels[0] % self.head_groups:
            raise OptionError(
                "head_groups",
                f"is {self.head_groups}, expected a divisor of the first of channels, "
                f"{self.channels[0]}",
            )


@options
class TransformerConfig(NetworkConfig):
    """Options of the transformer; chunks are (horizon, action_dim), one token per action."""

    BUILDS: ClassVar[str] = "lfm_policy.networks.transformer:Transformer"
    SEQUENCES: ClassVar[bool] = True

    name: str = option("transformer", "which velocity network", choices=["transformer"])
    width: int = option(128, "features per token", common=True, ge=1, le=MAX_WIDTH)
    n_layers: int = option(4, "attention and MLP pairs", common=True, ge=1, le=256)
    n_heads: int = option(4, "attention heads; must divide width", ge=1, le=256)
    expansion: int = option(4, "hidden features per MLP over width", ge=1, le=64)
    dropout: float = option(0.0, "dropout rate of attention and MLPs", ge=0, lt=1)
    time_embed_dim: int = option(64, "sines and cosines of time", ge=2, le=MAX_WIDTH, multiple_of=2)

    def __post_init__(self) -> None:
        if self.width % self.n_heads:
            raise OptionError(
                "n_heads", f"is {self.n_heads}, expected a divisor of width {self.width}"
            )
