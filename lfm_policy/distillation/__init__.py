"""Distillation of blocks: students that take one step where the teacher takes many.

Section 5.2 and Algorithm A.1 of arXiv:2410.02548: k consecutive blocks of the teacher become one
student block that takes one step, so N' = N / k evaluations make a chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfm_policy.distillation.student import distill, student_config

__all__ = ["distill", "student_config"]


def __getattr__(name: str) -> Any:
    # Who loads a student looks its method up in `methods`, and should not wait for the training.
    if name in __all__:
        from lfm_policy.distillation import student

        return getattr(student, name)
    raise AttributeError(f"module 'lfm_policy.distillation' has no attribute '{name}'")
