"""What Prometheus can ask of a server."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServerMetrics:
    """Counters of one server, in a registry of their own.

    Names begin with ``lfm_policy_``; the process's memory, CPU seconds and open files come with
    them.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.connections = Gauge(
            "lfm_policy_connections", "Open connections", registry=self._registry
        )
        self.opened = self._counter("connections_opened", "Connections accepted")
        self.refused = self._counter(
            "connections_refused", "Connections refused before they were open", "reason"
        )
        self.closed = self._counter(
            "connections_closed", "Connections closed, by what ended them", "reason"
        )
        self.requests = self._counter("requests", "Observations answered with actions")
        self.resets = self._counter("resets", "Reset messages answered")
        self.errors = self._counter("errors", "Messages answered with an error", "reason")
        self.batch_rows = self._histogram("batch_rows", "Robots in one policy call", _BATCHES)
        self.infer_seconds = self._histogram("infer_seconds", "Seconds of a policy call", _SECONDS)
        self.queue_seconds = self._histogram(
            "queue_seconds", "Seconds a request waited for its policy call", _SECONDS
        )
        self.request_seconds = self._histogram(
            "request_seconds", "Seconds from a whole message to its answer being sent", _SECONDS
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"lfm_policy_{name}", meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"lfm_policy_{name}", meaning, buckets=buckets, registry=self._registry)
