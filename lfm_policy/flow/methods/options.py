"""Options of the methods; light to import, so that a misspelt one is said at once."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar

from lfm_policy.errors import OptionError
from lfm_policy.options import option, options

if TYPE_CHECKING:
    from lfm_policy.flow.methods.base import Method


@options
class MethodConfig:
    """Options of a method; subclasses add theirs and say what they build.

    Adding a method is one file with such a subclass, and its line in ``METHODS``. Where the method
    is in another file than its options, ``BUILDS`` says where; else `_build` makes it.
    """

    BUILDS: ClassVar[str] = ""
    """``module:Class``, called with the options."""

    has_velocity: ClassVar[bool] = True
    """Whether its networks stand for a velocity, along which data are pushed from a block to the
    next."""

    single_block: ClassVar[bool] = False
    """Whether it leads from noise to data in one, so that a chain of it has one block."""

    LEARNING: ClassVar[tuple[str, ...]] = ()
    """Options of how networks learn or are sampled: weights mean the same with other values of
    them, so that a training may start from a policy that has others, and students know none."""

    name: str = option("", "what networks learn and how they move a chunk")

    def create(self) -> Method:
        """Return the method.

        Raises:
            InputError: there is none with these options.
        """
        return self._build()

    def _build(self) -> Method:
        built: Method = resolve_name(self.BUILDS)(self)
        return built

    @property
    def needs_limits(self) -> bool:
        """Whether chunks beyond [-1, 1] are cut off."""
        return False


@options
class ErrorConfig(MethodConfig):
    """Options of a method whose loss is an error of the network's output."""

    LEARNING: ClassVar[tuple[str, ...]] = ("error_scale", "error_power")

    error_scale: float = option(
        0.0,
        "root mean square error of a chunk, in normalised units, above which its loss grows slower "
        "than its square, so that chunks that nothing foretells do not outweigh the accuracy of "
        "all others; 0: squares",
        common=True,
        ge=0,
        le=1e6,
    )
    error_power: float = option(
        1.0,
        "how much slower it grows: 0.5 as the error itself (pseudo-Huber), 1 as its logarithm",
        ge=0,
        le=4,
    )


@options
class MeanVelocityConfig(ErrorConfig):
    """Options of a method whose network is the mean velocity of a step of any length."""

    LEARNING: ClassVar[tuple[str, ...]] = (*ErrorConfig.LEARNING, "equal_share", "whole_share")

    equal_share: float = option(
        0.5,
        "share of the pairs whose step has no length, from which networks learn the velocity; the "
        "others learn steps",
        common=True,
        ge=0,
        le=1,
    )
    whole_share: float = option(
        0.0,
        "share of the steps that lead through the whole block, from t = 1 to s = 0: the only one "
        "that is asked for where a block takes one evaluation",
        ge=0,
        le=1,
    )


@options
class VelocityConfig(ErrorConfig):
    """Options of flow matching, which regresses the velocity."""

    BUILDS: ClassVar[str] = "lfm_policy.flow.methods.velocity:VelocityMethod"

    name: str = option(
        "velocity",
        "what networks learn and how they move a chunk: velocity is flow matching",
        choices=["velocity"],
    )


@options
class CleanChunkConfig(ErrorConfig):
    """Options of the networks that predict the clean chunk."""

    BUILDS: ClassVar[str] = "lfm_policy.flow.methods.clean_chunk:CleanChunkMethod"

    name: str = option(
        "data",
        "what networks learn and how they move a chunk: data is the clean chunk",
        choices=["data"],
    )


@options
class RegressionConfig(ErrorConfig):
    """Options of regression in one or two steps."""

    BUILDS: ClassVar[str] = "lfm_policy.flow.methods.regression:RegressionMethod"

    name: str = option(
        "regression",
        "what networks learn and how they move a chunk: "
        "regression is the clean chunk, at first from the observation alone",
        choices=["regression"],
    )


@options
class MeanFlowConfig(MeanVelocityConfig):
    """Options of mean flow."""

    BUILDS: ClassVar[str] = "lfm_policy.flow.methods.mean_flow:MeanFlowMethod"

    name: str = option(
        "mean_flow",
        "what networks learn and how they move a chunk: mean_flow is the mean velocity of a step, "
        "learned from its derivative along the path of a pair",
        choices=["mean_flow"],
    )
    error_scale: float = option(
        0.03,
        "root mean square error of a chunk, in normalised units, above which its loss grows slower "
        "than its square: targets of long steps are noisy, and squares of these outweigh all else; "
        "0: squares",
        common=True,
        ge=0,
        le=1e6,
    )


@options
class FlowMapConfig(MeanVelocityConfig):
    """Options of a flow map that learns from its own velocity."""

    BUILDS: ClassVar[str] = "lfm_policy.flow.methods.flow_map:FlowMapMethod"
    LEARNING: ClassVar[tuple[str, ...]] = (*MeanVelocityConfig.LEARNING, "rule")

    name: str = option(
        "flow_map",
        "what networks learn and how they move a chunk: flow_map is the mean velocity of a step, "
        "learned from the velocity that the same network learns",
        choices=["flow_map"],
    )
    rule: str = option(
        "lagrangian",
        "what makes a step right: lagrangian, that its end moves with the velocity there; "
        "eulerian, that it ends in the same place from everywhere on the way; semigroup, that it "
        "is its two halves one after the other",
        common=True,
        choices=["lagrangian", "eulerian", "semigroup"],
    )


@options
class ShortcutConfig(MeanVelocityConfig):
    """Options of shortcut models, whose steps are taught by two steps of half their length."""

    BUILDS: ClassVar[str] = "lfm_policy.flow.methods.shortcut:ShortcutMethod"
    LEARNING: ClassVar[tuple[str, ...]] = (*MeanVelocityConfig.LEARNING, "finest_steps")

    name: str = option(
        "shortcut",
        "what networks learn and how they move a chunk: "
        "shortcut is the mean velocity of a step, learned from two steps of half its length",
        choices=["shortcut"],
    )
    equal_share: float = option(
        0.75,
        "share of the pairs from which networks learn the velocity; from the others they learn "
        "steps",
        common=True,
        ge=0,
        le=1,
    )
    finest_steps: int = option(
        128,
        "steps through a block, a power of two, that are so short that they follow the velocity; "
        "those of twice, four times, ... the length are learnt",
        ge=2,
        le=65_536,
    )

    def __post_init__(self) -> None:
        if self.finest_steps & (self.finest_steps - 1):
            raise OptionError(
                "finest_steps",
                f"is {self.finest_steps}; expected a power of two, such as 64 or 128",
            )


@options
class ConsistencyFlowConfig(ErrorConfig):
    """Options of consistency flow matching, whose paths end in the same chunk from every time."""

    BUILDS: ClassVar[str] = "lfm_policy.flow.methods.consistency_fm:ConsistencyFlowMethod"
    LEARNING: ClassVar[tuple[str, ...]] = (*ErrorConfig.LEARNING, "delta", "alpha")
    has_velocity: ClassVar[bool] = False

    name: str = option(
        "consistency_fm",
        "what networks learn and how they move a chunk: "
        "consistency_fm is a step to the data side, the same from everywhere on a path",
        choices=["consistency_fm"],
    )
    segments: int = option(
        1,
        "equal parts of a block's time, through each of which a step leads: a block takes as many "
        "evaluations, or a multiple",
        common=True,
        ge=1,
        le=64,
    )
    delta: float = option(
        0.05,
        "how much nearer to the data is the point of a path that has to lead to the same end: what "
        "is known at the data is handed on to the noise in so many steps, and 0.001 is too slow; "
        "with less than float32, and with dropout, it has to be larger still",
        gt=0,
        lt=1,
    )
    alpha: float = option(
        1e-5, "weight of the change of the velocity between the two points", ge=0, le=1e6
    )

    def __post_init__(self) -> None:
        if self.delta * self.segments >= 1:
            raise OptionError(
                "delta",
                f"is {self.delta}; expected less than a segment, which is 1 / {self.segments} long",
            )
