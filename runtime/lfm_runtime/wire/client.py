"""A policy that is computed on another machine."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from ssl import SSLContext
from typing import Any

import numpy as np

from lfm_runtime.closing import Closing
from lfm_runtime.errors import InputError
from lfm_runtime.policy.chunk_policy import ChunkPolicy
from lfm_runtime.policy.spec import TASK_KEY
from lfm_runtime.wire.connection import PolicyConnection
from lfm_runtime.wire.packing import packb
from lfm_runtime.wire.protocol import NOISE, PREFIX, PROMPT, RESET
from lfm_runtime.wire.server_metadata import PolicyChangedError, policy_changes, read_metadata


class WebsocketClientPolicy(ChunkPolicy, Closing):
    """The policy behind ``lfm-policy serve``, with the methods that a local one has::

        with WebsocketClientPolicy("10.0.0.5", 8000, api_key="...") as policy:
            policy.reset()
            action = policy.select_action({"joints": joints})  # (action_dim,)

    `infer` is openpi's: one frame in, a dictionary with ``actions`` out; the server remembers the
    frames. `predict_action_chunk` and `select_action` are those of `OnnxPolicy`: the history is
    kept here, so that a server that was started again lacks nothing.

    A lost connection is opened again by itself, within the time of a call; what the server knew
    of the old one (its frames) is forgotten, as after `reset`. When that fails, a call raises
    ConnectionError or TimeoutError, and a later call tries again.

    Args:
        host: name or address, or a URI that begins with ``ws://`` or ``wss://``.
        port: 8000 when left out, or what the URI says.
        api_key: for servers that ask for one.
        timeout: seconds that a call may take, opening a lost connection included.
        wait: seconds to wait here for a server that is still starting.
        ssl_context: for ``wss://``; the system's certificates when left out.

    Raises:
        InputError: the server refuses the key, or does not say what its policy needs.
        ConnectionError: there is no server after ``wait`` seconds.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 5.0,
        wait: float = 10.0,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self._timeout = timeout
        self._wait = wait
        self._server_metadata: dict[str, Any] = {}
        self._connection = PolicyConnection(
            host, port, api_key=api_key, ssl_context=ssl_context, on_metadata=self._take_metadata
        )
        self._begin()
        self.server_timing: dict[str, float] = {}

    @property
    def metadata(self) -> dict[str, Any]:
        """What the server says of its policy: shapes, dtypes, horizons, network evaluations."""
        return copy.deepcopy(self._server_metadata)

    def get_server_metadata(self) -> dict[str, Any]:
        """Return `metadata`; openpi's name for it."""
        return self.metadata

    @property
    def connections_opened(self) -> int:
        """How often a connection was opened; more than 1 after one was lost."""
        return self._connection.opened

    def accept_policy(self) -> list[str]:
        """Take the policy that is served now for this client's, whatever it is.

        History and queued actions are forgotten, as by `reset`.

        Returns:
            In what it differs from the one before.

        Raises:
            InputError: the server does not say what its policy needs.
            ConnectionError: there is no server.
        """
        before, seed, task = self._server_metadata, self._seed, self._task
        steps = self.n_action_steps
        self._connection.close()
        self._server_metadata = {}
        try:
            self._begin()
        except BaseException:
            self._connection.close()
            self._server_metadata = before
            raise
        self._seed = seed
        if task != before.get("task") and task in self.spec.tasks:  # by choice
            self.task = task
        if steps < before["n_action_steps"]:  # fewer than are answered, by choice
            self.n_action_steps = min(steps, self._answered_steps)
        return policy_changes(before, self._server_metadata)

    def infer(self, obs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the server's answer to one observation, as openpi's client does.

        Args:
            obs: observations by name, each one frame of shape ``spec.obs_shapes[name]``, or all
                with their history, (n_obs_steps, *shape).

        Returns:
            ``actions`` (n_action_steps, action_dim) of ``spec.dtype("action")``, the first of
            them for this observation, and ``server_timing``: ``{"infer_ms": ...}``.

        Raises:
            PolicyServerError: the server refuses the observation; its message says why.
            PolicyChangedError: another policy is served than the one that this client is for.
            ConnectionError, TimeoutError: the server cannot be reached or does not answer.
        """
        told = self._server_metadata.get("task")  # what the server adds by itself
        if self._task not in (None, told) and not {TASK_KEY, PROMPT} & obs.keys():
            obs = {**obs, TASK_KEY: self._task}
        return self._ask(obs)

    def reset(self) -> None:
        """Forget the history and the queued actions, here and on the server.

        Without a connection nothing is sent: a new one has no history anyway.
        """
        super().reset()
        if not self._connection.is_open:
            return
        with contextlib.suppress(ConnectionError, TimeoutError):  # then it is closed by now
            self._connection.ask(packb({RESET: True}), self._timeout, resend=False)

    def predict_action_chunk(
        self, batch: Mapping[str, Any], *, prefix: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the actions to execute, (B, n_action_steps, action_dim).

        Rows are asked one after the other: the protocol knows no batches.

        Args:
            batch: observations by name, each (B, n_obs_steps, *shape), in the units of the
                demonstrations.
            prefix: (B, d, action_dim) in the robot's units, d at most `max_prefix`: actions that
                are executed first whatever the policy says. The answer begins with them.

        Raises:
            InputError: an observation or the prefix has another shape, or is not finite, or an
                observation is missing.
            PolicyServerError, PolicyChangedError, ConnectionError, TimeoutError: as `infer`.
        """
        obs, n_rows = self._checked_batch(batch)
        self._padded_prefix(prefix, n_rows)  # refuses a bad one before anything is sent
        actions = np.empty(
            (n_rows, self._answered_steps, self.spec.action_dim), self.spec.dtype("action")
        )
        self._chunks_drawn += 1
        for row in range(n_rows):
            message: dict[str, Any] = {key: value[row] for key, value in obs.items()}
            if self._seed is not None:
                seed, episode = self._seed
                message[NOISE] = [seed, episode + row, self._chunks_drawn - 1]
            if prefix is not None and np.shape(prefix)[1]:
                message[PREFIX] = np.asarray(prefix)[row]
            actions[row] = self._checked_actions(self._ask(message).get("actions"))
        return actions[:, : self.n_action_steps]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _longest_execution(self) -> int:
        return self._answered_steps

    # -- inside -------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Connect, and be a client of the policy that is served."""
        self._connection.open(self._wait)
        spec, horizons = read_metadata(self._server_metadata, self._connection.uri)
        self._answered_steps = horizons["n_action_steps"]
        super().__init__(spec, **horizons)
        max_prefix = self._server_metadata.get("max_prefix")
        self.max_prefix = max_prefix if isinstance(max_prefix, int) else 0
        self._take_told_task()

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._connection.ask(packb(dict(message)), self._timeout)
        timing = answer.get("server_timing")
        self.server_timing = dict(timing) if isinstance(timing, dict) else {}
        return answer

    def _checked_actions(self, actions: Any) -> np.ndarray:
        expected = (self._answered_steps, self.spec.action_dim)
        found = getattr(actions, "shape", type(actions).__name__)
        if not isinstance(actions, np.ndarray) or found != expected or actions.dtype.kind != "f":
            raise InputError(
                f"{self._connection.uri}: the answer's actions are {found}, expected {expected}"
            )
        if not np.isfinite(actions).all():
            raise FloatingPointError(f"{self._connection.uri}: the action is not finite")
        return actions

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest values in training of an observation, no image."""
        described = self._server_metadata["observations"][key]
        shape = self.spec.obs_shapes[key]
        try:
            ends = (np.array(described[end], self.spec.dtype(key)) for end in ("low", "high"))
            low, high = (np.broadcast_to(end, shape) for end in ends)
            return low, high
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"{self._connection.uri}: does not say in what range '{key}' is"
            ) from None

    def _take_metadata(self, metadata: dict[str, Any]) -> None:
        """Keep what a new connection says, unless it is about another policy.

        Raises:
            PolicyChangedError: it is, or describes no policy at all any more.
        """
        if self._server_metadata and (changes := policy_changes(self._server_metadata, metadata)):
            raise PolicyChangedError(self._connection.uri, changes)
        before, self._server_metadata = self._server_metadata, metadata
        if before and self._task == before.get("task"):  # nobody here has chosen another one
            self._take_told_task()

    def _take_told_task(self) -> None:
        told = self._server_metadata.get("task")
        self.task = told if told in self.spec.tasks else None
