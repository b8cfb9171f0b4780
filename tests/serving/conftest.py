"""A policy without weights, and servers that run in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lfm_runtime.policy.chunk_policy import ChunkPolicy, Frame
from lfm_runtime.policy.spec import DataSpec, is_image

pytest.importorskip("prometheus_client")
pytest.importorskip("websockets")

from lfm_policy.serving import PolicyServer, ServerOptions, served_policy

WAIT = 20.0
SHAPES = {"state": (3,), "camera": (2, 3, 3)}


class ToyPolicy(ChunkPolicy):
    """Its actions tell which history and noise they were made from.

    Action k is ``[sum of the last state, sum of the first state, camera's last pixel]`` plus the
    noise of that action.

    Attributes:
        rows: of every call.
        prefixes: shapes of the prefixes of calls that had any.
        running: set while a call runs.
        hold: a call waits until this is set.
        broken: raised by calls whose last state sums to more than 1e6.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        *,
        horizon: int = 6,
        n_action_steps: int = 4,
    ) -> None:
        spec = DataSpec(SHAPES if shapes is None else shapes, 3)
        super().__init__(spec, n_obs_steps=2, horizon=horizon, n_action_steps=n_action_steps)
        self.rows: list[int] = []
        self.prefixes: list[tuple[int, ...]] = []
        self.running = threading.Event()
        self.hold = threading.Event()
        self.hold.set()
        self.broken: Exception = FloatingPointError("the policy's action is not finite")

    @property
    def max_prefix(self) -> int:
        return 2

    @property
    def metadata(self) -> dict[str, Any]:
        return {**super().metadata, "name": "toy", "nfe": 1}

    def predict_action_chunk(
        self, batch: Mapping[str, Any], *, noise: np.ndarray | None = None, prefix: Any = None
    ) -> np.ndarray:
        self.rows.append(len(batch["state"]))
        self.running.set()
        assert self.hold.wait(WAIT)
        self.running.clear()
        last = batch["state"][:, -1].sum(axis=-1)
        if (last > 1e6).any():
            raise self.broken
        if noise is None:
            noise = self._seeded_noise(len(last))
            assert noise is not None
        values = [last, batch["state"][:, 0].sum(axis=-1), batch["camera"][:, -1, -1, -1, -1]]
        actions = self._executed(np.stack(values, axis=-1)[:, None] + noise)
        if prefix is not None:
            self.prefixes.append(prefix.shape)
            actions[:, : prefix.shape[1]] = prefix
        return np.asarray(actions, dtype=np.float32)

    def _actions_of_history(self, frames: Sequence[Frame]) -> np.ndarray:
        batch = {
            key: np.stack([frame.obs[key] for frame in frames])[None]
            for key in self.spec.obs_shapes
        }
        return self.predict_action_chunk(batch)[0]

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        shape = self.spec.obs_shapes[key]
        return np.full(shape, -1.0), np.full(shape, 1.0)


@dataclass
class RunningServer:
    """A server in a thread."""

    server: PolicyServer
    policy: ChunkPolicy
    port: int = 0
    ready: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def stop(self) -> None:
        """Stop it and wait until it has ended."""
        assert self.thread is not None
        self.server.stop()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric."""
        value = self.server._metrics._registry.get_sample_value(f"lfm_policy_{name}", labels)
        return 0.0 if value is None else value


@pytest.fixture
def toy() -> ToyPolicy:
    return ToyPolicy()


@pytest.fixture
def start() -> Iterator[Callable[..., RunningServer]]:
    """Return a function that starts a server; options as in `ServerOptions`, ``keys``, ``tls``."""
    running: list[RunningServer] = []

    def start_server(
        policy: ChunkPolicy, *, keys: Any = None, tls: Any = None, **options: Any
    ) -> RunningServer:
        given = ServerOptions(**({"port": 0, "grace": 2.0} | options))
        one = RunningServer(PolicyServer(served_policy(policy), given, keys=keys, tls=tls), policy)

        def ready(port: int) -> None:
            one.port = port
            one.ready.set()

        one.thread = threading.Thread(
            target=lambda: asyncio.run(one.server.run(ready)), daemon=True
        )
        one.thread.start()
        assert one.ready.wait(WAIT)
        running.append(one)
        return one

    yield start_server
    for one in running:
        if isinstance(one.policy, ToyPolicy):
            one.policy.hold.set()
        one.stop()


@pytest.fixture
def make_toy() -> Callable[..., ToyPolicy]:
    return ToyPolicy


@pytest.fixture
def obs() -> Callable[..., dict[str, np.ndarray]]:
    """Return a function that makes an observation whose state sums to a number."""

    def make(total: float = 0.0, pixel: int = 7) -> dict[str, np.ndarray]:
        assert all(is_image(shape) == (key == "camera") for key, shape in SHAPES.items())
        return {
            "state": np.array([total, 0.0, 0.0], dtype=np.float32),
            "camera": np.full(SHAPES["camera"], pixel, dtype=np.uint8),
        }

    return make
