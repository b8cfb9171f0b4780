"""Plain HTTP beside the websocket: is it alive, what does it count, may this client come in."""

from __future__ import annotations

import http
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from lfm_policy.serving.access import ApiKeys
from lfm_policy.serving.connections.session import peer_of
from lfm_policy.serving.logs import log_event
from lfm_policy.serving.metrics import ServerMetrics


@dataclass(frozen=True)
class FrontDoor:
    """Answers before a websocket is opened.

    ``GET /healthz``: 200 while policy calls come to an end. ``GET /metrics``: Prometheus' text,
    with a key if there are keys. Anything else becomes a websocket, if there is room.

    Attributes:
        keys: what opens.
        metrics: what is shown, and where refusals are counted.
        healthy: whether the policy still answers.
        full: whether there is no room for another robot.
    """

    keys: ApiKeys
    metrics: ServerMetrics
    healthy: Callable[[], bool]
    full: Callable[[], bool]

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return an answer, or None to go on with the websocket's handshake."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            if self.healthy():
                return connection.respond(http.HTTPStatus.OK, "OK\n")
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "policy call hangs\n")
        given = request.headers.get_all("Authorization")
        if not self.keys.accepts(given[0] if len(given) == 1 else None):
            return self._refuse(connection, http.HTTPStatus.UNAUTHORIZED, "key")
        if path == "/metrics":
            page = connection.respond(http.HTTPStatus.OK, self.metrics.text().decode())
            del page.headers["Content-Type"]
            page.headers["Content-Type"] = CONTENT_TYPE_LATEST
            return page
        if not self.keys and request.headers.get_all("Origin"):
            # Any web page can open a websocket to the loopback of the computer it is shown on. It
            # cannot send a key, and no robot's client sends an origin.
            return self._refuse(connection, http.HTTPStatus.FORBIDDEN, "origin")
        if self.full():
            return self._refuse(connection, http.HTTPStatus.SERVICE_UNAVAILABLE, "full")
        return None

    def _refuse(
        self, connection: ServerConnection, status: http.HTTPStatus, reason: str
    ) -> Response:
        self.metrics.refused.labels(reason).inc()
        log_event("connection refused", remote=peer_of(connection), reason=reason)
        response = connection.respond(status, f"{status.phrase}\n")
        if status is http.HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Api-Key"
        return response
