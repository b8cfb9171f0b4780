"""Adaptive Dormand-Prince 5(4), through torchdiffeq."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lfm_policy.flow.solvers.velocity import Velocity

MAX_STEPS = 10_000
"""Give up after this many steps: a smooth block needs some ten, a diverging one never ends."""

_SOLVER_COMPLAINTS = ("underflow in dt", "non-finite values", "max_num_steps")


EVALUATIONS = 6
"""Of a step; the seventh stage is the first one of the step that follows."""


def integrate_dopri5(
    velocity: Velocity,
    x: Tensor,
    cond: Tensor | None,
    *,
    t_start: float,
    t_end: float,
    rtol: float,
    atol: float,
    n_segments: int,
    inner: Sequence[float] = (),
    accepted: list[float] | None = None,
) -> list[Tensor]:
    """Return the ``n_segments`` + 1 states at equally spaced times, ``x`` first.

    The step is chosen for the batch as a whole (root mean square of the error), so a sample's
    result depends on its batch, within the tolerances; unless ``inner`` says where steps end.

    Args:
        velocity: the field.
        x: state at ``t_start``.
        cond: passed on as it is.
        t_start: initial time.
        t_end: final time.
        rtol: relative tolerance.
        atol: absolute tolerance.
        n_segments: see above.
        inner: times at which steps end before ``t_end``; then nothing is adaptive.
        accepted: takes the times at which the steps chosen end before ``t_end``.

    Raises:
        FloatingPointError: the velocity is not finite, or too stiff to be integrated.
    """
    # Imported here: it brings in scipy (half a second), which sampling in fixed steps never needs.
    # Its coefficients are tensors made at the import, of which gradients may be asked for later.
    with torch.inference_mode(False):
        from torchdiffeq import odeint

    length = t_end - t_start
    low, high = min(t_start, t_end), max(t_start, t_end)

    # In s = 0..1 both directions are the same code. The clamp keeps the probe that selects the
    # first step inside the block's time, and `step_t` the last step.
    def field(s: Tensor, y: Tensor) -> Tensor:
        t = (t_start + s * length).clamp(low, high).to(y.dtype)
        return length * velocity(y, t.repeat(y.shape[0]), cond)

    if accepted is not None:
        taken = accepted

        def note(s: Tensor, y: Tensor, ds: Tensor) -> None:
            if float(s) > 0:
                taken.append(t_start + float(s) * length)

        field.callback_accept_step = note  # type: ignore[attr-defined]
    s = torch.linspace(0.0, 1.0, n_segments + 1, device=x.device, dtype=torch.float64)
    options: dict[str, object] = {"max_num_steps": MAX_STEPS, "step_t": s[-1:]}
    if inner:
        ends = [(t - t_start) / length for t in inner]
        options["step_t"] = torch.tensor([*ends, 1.0], device=x.device, dtype=torch.float64)
        # Steps that would go too far, and an error that is never too large: each ends at a time.
        options |= {"first_step": 2.0, "ifactor": 1e12}
        rtol = atol = math.inf
    try:
        states = odeint(field, x, s, rtol=rtol, atol=atol, method="dopri5", options=options)
    except AssertionError as error:
        if not str(error).startswith(_SOLVER_COMPLAINTS):
            raise
        reason = str(error).split(":")[0].split("{")[0].strip()
        raise FloatingPointError(
            f"dopri5 could not integrate the velocity from t = {t_start} to {t_end} "
            f"({reason}): it is not finite or too stiff for rtol {rtol}, atol {atol}"
        ) from error
    return list(states.unbind(0))
