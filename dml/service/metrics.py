"""What a service counts of itself, in the text that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """waiting: requests that are being answered or wait for it now."""

    def __init__(self) -> None:
        self.waiting = 0
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dml_requests", "Requests, by what was asked and the status of the answer.",
            ("route", "status"), registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "dml_request_seconds", "From a request to the end of its answer.",
            ("route",), buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._batches = Histogram(
            "dml_batch_queries",
            "Queries that were answered together.",
            buckets=SIZES,
            registry=self._registry,
        )
        waiting = Gauge("dml_requests_waiting", "Requests that are being answered.", registry=self._registry)
        waiting.set_function(lambda: self.waiting)
        self._items = Gauge("dml_items", "Images in the index.", registry=self._registry)

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request; what no route took is of none."""
        route = getattr(scope.get("endpoint"), "__name__", "none")
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_batch(self, size: int) -> None:
        self._batches.observe(size)

    def as_text(self, *, items: int) -> bytes:
        self._items.set(items)
        return generate_latest(self._registry)
