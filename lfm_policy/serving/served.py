"""What a server needs of a policy, whether PyTorch or ONNX Runtime computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lfm_policy.device import choose_device
from lfm_policy.errors import InputError
from lfm_policy.policy import Policy, load_policy
from lfm_policy.serving.batcher import Predict
from lfm_policy.serving.observations import IGNORED_KEYS
from lfm_policy.version import __version__
from lfm_runtime.export.file import is_export
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
        """What every client is told on connection; plain values.

        ``action_horizon``, openpi's name, is what an answer holds: the ``n_action_steps`` actions
        to execute, the first of them for the newest observation (index ``n_obs_steps`` - 1 of a
        chunk of ``horizon``).
        """
        described = self.policy.metadata
        observations = {
            key: entry | self._range(key) for key, entry in described["observations"].items()
        }
        return {
            **described,
            "observations": observations,
            POLICY_DIGEST: self.policy.digest,
            "server": SERVER,
            "server_version": __version__,
            "action_horizon": self.policy.n_action_steps,
            "instructions": sorted(INSTRUCTIONS),
        }

    def _range(self, key: str) -> dict[str, list[float]]:
        """Return the range of an observation in training; nothing for camera images."""
        if is_image(self.policy.spec.obs_shapes[key]):
            return {}
        low, high = self.policy.training_range(key)
        return {"low": np.asarray(low).tolist(), "high": np.asarray(high).tolist()}

    def warm_up(self, max_batch: int) -> None:
        """Compute once for one robot and once for many, so that no robot waits for first calls.

        Raises:
            InputError: the policy refuses its own random observation.
        """
        for rows in {1, max_batch if self.batches else 1}:
            noise = np.zeros((rows, *self.policy.chunk_shape), dtype=np.float32)
            self.predict(self.policy.fake_batch(rows), noise, None)


def load_served_policy(
    path: str,
    *,
    device: str = "auto",
    threads: int = 1,
    solver: str | None = None,
    nfe: int | None = None,
    noise_scale: float | None = None,
) -> ServedPolicy:
    """Load a checkpoint or an exported policy.

    Args:
        path: checkpoint, run folder, exported folder, or a policy of the package.
        device: of a checkpoint; ``auto`` takes a GPU if there is one.
        threads: CPU threads of a policy call.
        solver: another one than configured; checkpoints only.
        nfe: another number of network evaluations than configured; checkpoints only.
        noise_scale: another standard deviation of the noise; checkpoints only.

    Raises:
        InputError: there is no such policy, it is damaged, or the sampler does not fit.
    """
    if is_export(path):
        if (solver, nfe, noise_scale) != (None, None, None):
            raise InputError(
                f"{path}: an exported policy has its sampler inside: leave --solver, --nfe and "
                "--noise-scale out, or export it again with others"
            )
        from lfm_runtime.export.onnx_policy import OnnxPolicy

        return served_policy(OnnxPolicy(path, threads=threads))
    torch.set_num_threads(threads)
    policy = load_policy(path, device=choose_device(device))
    policy.set_sampler(solver=solver, nfe=nfe, noise_scale=noise_scale)
    return served_policy(policy)


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
    return ServedPolicy(policy, _predict_of(policy), batches)


def _predict_of(policy: Any) -> Predict:
    torch_policy = isinstance(policy, Policy)

    def predict(
        batch: Mapping[str, np.ndarray], noise: np.ndarray, prefix: np.ndarray | None
    ) -> np.ndarray:
        given = torch.from_numpy(noise) if torch_policy else noise
        options = {} if prefix is None else {"prefix": prefix}
        actions = policy.predict_action_chunk(batch, noise=given, **options)
        return actions.cpu().numpy() if torch_policy else np.asarray(actions)

    return predict
