"""From a history of observations to all the actions of a chunk that may still be executed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from lfm_runtime.control.planning.chunk import Request
from lfm_runtime.errors import InputError
from lfm_runtime.policy.spec import DataSpec


class ControlPolicy(Protocol):
    """What the control loop needs of a policy: `Policy`, `OnnxPolicy` or a client of a server.

    With ``sample`` (whole chunks) there is something to continue with when the next chunk is
    late; otherwise ``predict_action_chunk`` is called, which returns n_action_steps. Policies
    with ``max_prefix`` above 0 take ``prefix=`` (1, d, action_dim) in both.
    """

    spec: DataSpec

    @property
    def n_obs_steps(self) -> int:
        """Frames of observation history."""

    @property
    def n_action_steps(self) -> int:
        """Actions executed of each chunk."""

    def reset(self) -> None:
        """Forget everything; called once per run, before the first chunk."""

    def predict_action_chunk(self, batch: dict[str, np.ndarray]) -> Any:
        """Return (1, n_action_steps, action_dim)."""


class Planner:
    """Asks a policy for the chunks of one run and checks what comes back."""

    def __init__(self, policy: ControlPolicy) -> None:
        self._policy: Any = policy
        self._fresh = False

    def __call__(self, request: Request) -> np.ndarray:
        """Return the actions for the steps from ``request.step`` on, (n, action_dim) of
        ``policy.spec.dtype("action")``.

        Raises:
            InputError: the policy refuses the observations or the prefix, or returns something
                else than a chunk.
            FloatingPointError: the policy's actions are not finite.
        """
        policy = self._policy
        if not self._fresh:
            # Here and not before the run: a policy on another machine may be out of reach.
            policy.reset()
            self._fresh = True
        batch = {key: frames[None] for key, frames in request.obs.items()}
        dtype = policy.spec.dtype("action")
        options = {"prefix": request.prefix[None]} if len(request.prefix) else {}
        if hasattr(policy, "sample"):
            chunk = _array(policy.sample(batch, **options).chunk, dtype)
            actions = chunk[0, policy.n_obs_steps - 1 :]
        else:
            actions = _array(policy.predict_action_chunk(batch, **options), dtype)[0]
        if actions.ndim != 2 or actions.shape[1] != policy.spec.action_dim or not len(actions):
            raise InputError(
                f"the policy returned a chunk of shape {actions.shape}, expected (n, "
                f"{policy.spec.action_dim})"
            )
        if not np.isfinite(actions).all():
            raise FloatingPointError("the policy's actions are not finite")
        return actions


def _array(value: Any, dtype: str) -> np.ndarray:
    # A torch tensor may be on a GPU; here nobody knows torch.
    on_cpu = value.cpu().numpy() if hasattr(value, "cpu") else value
    return np.array(on_cpu, dtype=dtype)
