"""Distillation of blocks: students that take one step where the teacher takes many.

Section 5.2 and Algorithm A.1 of arXiv:2410.02548: k consecutive blocks of the teacher become one
student block that takes one step, so N' = N / k evaluations make a chunk.
"""

from __future__ import annotations

from lfm_policy.distill.distill import distill, student_config

__all__ = ["distill", "student_config"]
