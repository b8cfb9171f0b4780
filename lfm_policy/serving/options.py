"""What can be set of a server."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lfm_policy.errors import InputError
from lfm_runtime.wire.protocol import DEFAULT_PORT


@dataclass(frozen=True)
class ServerOptions:
    """Where a server listens and what it grants its clients.

    Attributes:
        host: address to listen on.
        port: 0: one that is free.
        max_connections: robots at the same time.
        max_message_bytes: largest message; None: what the policy's observations need, and at
            least 16 MiB.
        max_batch: robots in one policy call.
        idle_timeout: seconds without a whole message after which a connection is closed.
        send_timeout: seconds after which a client that does not read is given up.
        stall_timeout: seconds of one policy call after which ``/healthz`` says that all is lost.
        grace: seconds that running requests get when the server is told to stop.
        strict: refuse observations that the policy does not know, instead of leaving them out.
        seed: of the noise of chunks whose client names none; None: differs every time.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    max_connections: int = 128
    max_message_bytes: int | None = None
    max_batch: int = 32
    idle_timeout: float = 300.0
    send_timeout: float = 10.0
    stall_timeout: float = 60.0
    grace: float = 5.0
    strict: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise InputError(f"port is {self.port}, expected 0 to 65535")
        for name in ("max_connections", "max_message_bytes", "max_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}, expected at least 1")
        for name in ("idle_timeout", "send_timeout", "stall_timeout", "grace"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds > 0):
                raise InputError(f"{name} is {seconds}, expected a positive number of seconds")
        if self.seed is not None and self.seed < 0:
            raise InputError(f"seed is {self.seed}, expected no negative number")
