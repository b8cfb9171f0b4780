"""Options of the methods; light to import, so that a misspelt one is said at once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, ClassVar

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

    single_block: ClassVar[bool] = False
    """Whether it leads from noise to data in one, so that a chain of it has one block."""

    name: str = option("", "what networks learn and how they move a chunk")

    def create(self) -> Method:
        """Return the method.

        Raises:
            InputError: there is none with these options.
        """
        return self._build()

    def _build(self) -> Method:
        module, _, method = self.BUILDS.partition(":")
        built: Method = getattr(importlib.import_module(module), method)(self)
        return built

    @property
    def needs_limits(self) -> bool:
        """Whether chunks beyond [-1, 1] are cut off."""
        return False


@options
class ErrorConfig(MethodConfig):
    """Options of a method whose loss is an error of the network's output."""

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

    equal_share: float = option(
        0.5,
        "share of the pairs whose step has no length, from which networks learn the velocity; the "
        "others learn steps",
        common=True,
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

    name: str = option("data", "what networks learn", choices=["data"])


@options
class RegressionConfig(ErrorConfig):
    """Options of regression in one or two steps."""

    BUILDS: ClassVar[str] = "lfm_policy.flow.methods.regression:RegressionMethod"

    name: str = option("regression", "what networks learn", choices=["regression"])
