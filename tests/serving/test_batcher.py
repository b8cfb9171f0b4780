"""Requests that share a policy call."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

pytest.importorskip("prometheus_client")

from lfm_policy.serving.batcher import Batcher, Query
from lfm_policy.serving.metrics import ServerMetrics


def test_an_answer_is_not_the_array_that_the_next_is_computed_in() -> None:
    buffer = np.zeros((1, 2, 1), np.float32)

    def predict(batch: object, noise: object, prefix: object) -> np.ndarray:
        buffer[:] += 1
        return buffer

    async def ask_twice() -> list[float]:
        batcher = Batcher(predict, ServerMetrics(), max_batch=4)
        query = Query({"state": np.zeros((1, 1))}, np.zeros((2, 1)), np.zeros((0, 1)))
        answers = [await batcher.predict(query) for _ in range(2)]
        batcher.close(20.0)
        return [float(answer.actions[0, 0]) for answer in answers]

    assert asyncio.run(ask_twice()) == [1.0, 2.0]
