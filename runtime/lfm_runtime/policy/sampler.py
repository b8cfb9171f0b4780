"""How a policy samples, as policies, exports, servers and reports say it of themselves.

One value is carried whole: `Sampler`. Its numbers (`NUMBERS`) are told by their fields to the
command line, to files and to readers; another one is a field here, an option and an argument in
`lfm_policy.config.sampler`, and what it does in `lfm_policy.policy.pipeline`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lfm_runtime.errors import InputError


def _number(default: float, metavar: str, said: str) -> Any:
    return field(default=default, metadata={"metavar": metavar, "said": said})


@dataclass(frozen=True)
class Sampler:
    """How chunks are sampled, with everything decided that a configuration leaves open.

    Attributes:
        solver: name of the ODE solver of all blocks.
        nfe: network evaluations per chunk; None for an adaptive solver, which decides itself. A
            report has the mean over chunks.
        nfe_per_block: of each block, index 0 = data side; None for an adaptive solver.
        block_times: where the steps of each block end between t = 1 and t = 0; () for equal steps.
        noise_scale: standard deviation of the noise that sampling starts from.
        renoise: share of each block's noise that chunks are given before it.
        guidance: weight of the observation; 1: no guidance.
    """

    solver: str
    nfe: float | None
    nfe_per_block: tuple[int, ...] | None
    block_times: tuple[tuple[float, ...], ...] = ()
    noise_scale: float = _number(
        1.0, "SCALE", "standard deviation of the noise that sampling starts from"
    )
    renoise: float = _number(
        0.0,
        "SHARE",
        "share of each block's noise that a chunk is given before it: about 1 for one evaluation "
        "per block, 0 for many",
    )
    guidance: float = _number(
        1.0,
        "WEIGHT",
        "weight of the observation, of policies trained with flow.drop_obs: above 1 it counts for "
        "more, at two evaluations a step",
    )

    @property
    def fixed_nfe(self) -> int:
        """Network evaluations per chunk, of a solver of fixed steps."""
        assert self.nfe is not None
        return int(self.nfe)

    def asked(self) -> dict[str, Any]:
        """Return the arguments of `lfm_policy.policy.Policy.set_sampler` that choose it."""
        steps: dict[str, Any] = {}
        if self.nfe_per_block is not None:  # an adaptive solver takes neither
            steps = {"nfe": self.nfe_per_block, "times": self.block_times}
        return {"solver": self.solver, **steps, **{name: getattr(self, name) for name in NUMBERS}}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, by the names of the attributes."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        per_block = None if self.nfe_per_block is None else list(self.nfe_per_block)
        return values | {
            "nfe_per_block": per_block,
            "block_times": [list(times) for times in self.block_times],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], label: str) -> Sampler:
        """Return the sampler of what `to_dict` returned, of other things beside it, or of before.

        What older files do not say are the default numbers, and equal steps.

        Args:
            values: by name.
            label: what to call them in errors; names follow.

        Raises:
            InputError: a value is not what it has to be.
        """
        per_block, times = values.get("nfe_per_block"), values.get("block_times")
        if times is None and isinstance(per_block, list):
            times = [[]] * len(per_block)
        found = {**values, "nfe_per_block": per_block, "block_times": times or []}
        for name, expected, holds in _CHECKS:
            value = found.get(name, NUMBERS.get(name))
            if not holds(value):
                raise InputError(f"{label}{name}: found {str(value)[:100]!r}, expected {expected}")
        return cls(
            solver=found["solver"],
            nfe=found.get("nfe"),
            nfe_per_block=None if per_block is None else tuple(per_block),
            block_times=tuple(tuple(map(float, one)) for one in found["block_times"]),
            **{name: float(found.get(name, default)) for name, default in NUMBERS.items()},
        )


NUMBERS: dict[str, float] = {one.name: one.default for one in fields(Sampler) if one.metadata}  # type: ignore[misc]
"""The numbers of a sampler, and what they are where nothing is said of them."""


def is_finite_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_list_of(holds: Any, value: Any) -> bool:
    return isinstance(value, list) and all(map(holds, value))


def _is_count(value: Any) -> bool:
    return is_finite_number(value) and value >= 1 and value == int(value)


_CHECKS = (
    ("solver", "text", lambda value: isinstance(value, str)),
    ("nfe", "a positive number", lambda v: v is None or (is_finite_number(v) and v > 0)),
    (
        "nfe_per_block",
        "numbers of evaluations",
        lambda value: value is None or _is_list_of(_is_count, value),
    ),
    (
        "block_times",
        "times of each block",
        lambda value: _is_list_of(lambda one: _is_list_of(is_finite_number, one), value),
    ),
    *((name, "a number", is_finite_number) for name in NUMBERS),
)
"""Name, what is expected of its value, and whether a value is that."""
