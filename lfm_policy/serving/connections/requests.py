"""What a client's message asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lfm_policy.errors import InputError
from lfm_runtime.policy.chunk_policy import padded_prefix
from lfm_runtime.policy.spec import DataSpec
from lfm_runtime.wire.packing import unpackb
from lfm_runtime.wire.protocol import INSTRUCTIONS, NOISE, PREFIX, RESET


@dataclass(frozen=True)
class Request:
    """One message.

    Attributes:
        reset: forget the history first.
        noise: (seed, episode, k) of the chunk's noise; None: fresh noise.
        prefix: committed actions (d, action_dim), unchecked; None: there are none.
        obs: observations by name, unchecked; empty when only a reset was asked for.
    """

    reset: bool
    noise: tuple[int, int, int] | None
    prefix: Any
    obs: Mapping[str, Any]


def read_request(message: str | bytes) -> Request:
    """Read a message.

    Raises:
        InputError: no binary message, not msgpack, no map of names, or an instruction that is not
            what `lfm_runtime.wire.protocol` says.
    """
    if isinstance(message, str):
        raise InputError("message: a text frame, expected a binary one with msgpack")
    content = unpackb(message)
    if not isinstance(content, dict):
        raise InputError(f"message: found {type(content).__name__}, expected a map of observations")
    if not all(isinstance(key, str) for key in content):
        raise InputError("message: a name is bytes, expected texts as names of observations")
    reset = content.get(RESET, False)
    if not isinstance(reset, (bool, np.bool_)):
        raise InputError(f"message: {RESET}: expected true, found {type(reset).__name__}")
    return Request(
        reset=bool(reset),
        noise=_noise(content.get(NOISE)),
        prefix=content.get(PREFIX),
        obs={key: value for key, value in content.items() if key not in INSTRUCTIONS},
    )


def _noise(value: Any) -> tuple[int, int, int] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)
    ):
        raise InputError(
            f"message: {NOISE}: expected [seed, episode, chunk], none of them negative, found "
            f"{str(value)[:60]}"
        )
    return value[0], value[1], value[2]


def checked_prefix(prefix: Any, *, max_prefix: int, spec: DataSpec) -> np.ndarray:
    """Return committed actions as (d, action_dim); d is 0 where there are none.

    Raises:
        InputError: it is no array of that shape, longer than the policy can take, or not finite.
    """
    if prefix is None:
        return np.empty((0, spec.action_dim), dtype=spec.dtype("action"))
    if not isinstance(prefix, np.ndarray) or prefix.ndim != 2:
        raise InputError(f"message: {PREFIX}: expected an array (d, {spec.action_dim})")
    values, _ = padded_prefix(prefix[None], n_rows=1, max_prefix=max_prefix, spec=spec)
    return values[0, : len(prefix)]
