"""Plain HTTP beside the websocket: is it alive, what does it count, may this client come in."""

from __future__ import annotations

import http
from collections.abc import Callable

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from lfm_policy.serving.access import ApiKeys
from lfm_policy.serving.connections.session import peer_of
from lfm_policy.serving.logs import log_event
from lfm_policy.serving.metrics import ServerMetrics


class FrontDoor:
    """Answers before a websocket is opened.

    ``GET /healthz``: 200 while policy calls come to an end. ``GET /metrics``: Prometheus' text,
    with a key if there are keys. Anything else becomes a websocket, if there is room.

    Args:
        keys: what opens.
        metrics: what is shown, and where refusals are counted.
        healthy: whether the policy still answers.
        full: whether there is no room for another robot.
    """

    def __init__(
        self,
        keys: ApiKeys,
        metrics: ServerMetrics,
        *,
        healthy: Callable[[], bool],
        full: Callable[[], bool],
    ) -> None:
        self._keys = keys
        self._metrics = metrics
        self._healthy = healthy
        self._full = full

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return an answer, or None to go on with the websocket's handshake."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            if self._healthy():
                return connection.respond(http.HTTPStatus.OK, "OK\n")
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "policy call hangs\n")
        given = request.headers.get_all("Authorization")
        if not self._keys.accepts(given[0] if len(given) == 1 else None):
            return self._refuse(connection, http.HTTPStatus.UNAUTHORIZED, "key")
        if path == "/metrics":
            return self._metrics_page()
        if not self._keys and request.headers.get_all("Origin"):
            # Any web page can open a websocket to the loopback of the computer it is shown on. It
            # cannot send a key, and no robot's client sends an origin.
            return self._refuse(connection, http.HTTPStatus.FORBIDDEN, "origin")
        if self._full():
            return self._refuse(connection, http.HTTPStatus.SERVICE_UNAVAILABLE, "full")
        return None

    def _refuse(
        self, connection: ServerConnection, status: http.HTTPStatus, reason: str
    ) -> Response:
        self._metrics.refused.labels(reason).inc()
        log_event("connection refused", remote=peer_of(connection), reason=reason)
        response = connection.respond(status, f"{status.phrase}\n")
        if status is http.HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Api-Key"
        return response

    def _metrics_page(self) -> Response:
        body = self._metrics.text()
        headers = Headers(
            [
                ("Content-Type", self._metrics.content_type),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ]
        )
        return Response(http.HTTPStatus.OK.value, http.HTTPStatus.OK.phrase, headers, body)
