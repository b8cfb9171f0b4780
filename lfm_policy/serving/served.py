"""What a server needs of a policy, whether PyTorch or ONNX Runtime computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from lfm_policy.errors import InputError
from lfm_policy.open_policy import SCHEMES, open_policy
from lfm_policy.policy import Policy
from lfm_policy.serving.batcher import Predict
from lfm_policy.serving.observations import IGNORED_KEYS
from lfm_policy.version import __version__
from lfm_runtime.policy.chunk_policy import ChunkPolicy
from lfm_runtime.policy.spec import is_image
from lfm_runtime.wire.protocol import INSTRUCTIONS, POLICY_DIGEST, SERVER

_FLOAT_BYTES = 8
"""Clients may send float64."""
_PIXEL_BYTES = 4
"""Clients may send camera images as float32."""
_MESSAGE_OVERHEAD = 65_536
"""Names, shapes, dtypes, and a prompt."""
_SMALLEST_BOUND = 16 * 2**20
"""A client made for other observations, several cameras say, is told what is expected instead of
being cut off."""


@dataclass(frozen=True)
class ServedPolicy:
    """A policy as the server calls it.

    Attributes:
        policy: shapes and horizons.
        predict: see `lfm_policy.serving.batcher.Predict`; called from one thread only.
        batches: whether a call may have several rows.
    """

    policy: ChunkPolicy
    predict: Predict
    batches: bool

    @property
    def message_bytes(self) -> int:
        """The largest message that is read unless another bound is set."""
        frame = sum(
            math.prod(shape) * (_PIXEL_BYTES if is_image(shape) else _FLOAT_BYTES)
            for shape in self.policy.spec.obs_shapes.values()
        )
        return max(_SMALLEST_BOUND, self.policy.n_obs_steps * frame + _MESSAGE_OVERHEAD)

    def metadata(self) -> dict[str, Any]:
        """What every client is told on connection; plain values, and arrays of them.

        ``action_horizon``, openpi's name, is what an answer holds: the ``n_action_steps`` actions
        to execute, the first of them for the newest observation (index ``n_obs_steps`` - 1 of a
        chunk of ``horizon``).
        """
        described = self.policy.metadata
        observations = dict(described["observations"])
        for key, shape in self.policy.spec.obs_shapes.items():
            if not is_image(shape):
                low, high = map(np.asarray, self.policy.training_range(key))
                observations[key] |= {"low": low, "high": high}
        return {
            **described,
            "observations": observations,
            POLICY_DIGEST: self.policy.digest,
            "server": SERVER,
            "server_version": __version__,
            "action_horizon": self.policy.n_action_steps,
            "instructions": sorted(INSTRUCTIONS),
            **({} if self.policy.task is None else {"task": self.policy.task}),
        }

    def warm_up(self, max_batch: int) -> None:
        """Compute once for one robot and once for many, so that no robot waits for first calls.

        Raises:
            InputError: the policy refuses its own random observation.
        """
        for rows in {1, max_batch if self.batches else 1}:
            noise = np.zeros((rows, *self.policy.chunk_shape), dtype=np.float32)
            self.predict(self.policy.fake_batch(rows), noise, None)


def load_served_policy(path: str, **options: Any) -> ServedPolicy:
    """Load a checkpoint or an exported policy; options and errors as `open_policy`."""
    if path.startswith(SCHEMES):
        raise InputError(f"{path}: is served already, expected a checkpoint or an exported policy")
    return served_policy(open_policy(path, **options))


def served_policy(policy: ChunkPolicy) -> ServedPolicy:
    """Return what a server needs of a policy.

    Raises:
        InputError: one of its observations is called like an instruction of the protocol.
    """
    reserved = policy.spec.obs_shapes.keys() & (INSTRUCTIONS | IGNORED_KEYS)
    if reserved:
        raise InputError(
            f"the policy's observations {sorted(reserved)} are called like what the protocol "
            "reserves; rename them in the demonstrations"
        )
    # An adaptive solver chooses its steps for a whole batch: robots would change one another's.
    batches = policy.metadata.get("nfe") is not None and bool(policy.spec.obs_shapes)
    return ServedPolicy(policy, partial(_predict, policy), batches)


def _predict(
    policy: Any, batch: Mapping[str, np.ndarray], noise: np.ndarray, prefix: np.ndarray | None
) -> np.ndarray:
    """Call a policy of either kind; see `lfm_policy.serving.batcher.Predict`."""
    given = torch.from_numpy(noise) if isinstance(policy, Policy) else noise
    options = {} if prefix is None else {"prefix": prefix}
    actions = policy.predict_action_chunk(batch, noise=given, **options)
    return actions.cpu().numpy() if isinstance(actions, torch.Tensor) else np.asarray(actions)
