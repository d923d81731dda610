"""What Prometheus reads at /metrics about requests."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds."""


class Metrics:
    """Counters of one server. Only prediction requests count, not probes and metadata."""

    def __init__(self, model: str, version: int) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.labels = {"model": model, "version": str(version)}
        names = tuple(self.labels)
        self._requests = Counter(
            "modelwright_requests",
            "Prediction requests by HTTP status code.",
            (*names, "code"),
            registry=self.registry,
        )
        self._codes: dict[int, Counter] = {}
        self._seconds = Histogram(
            "modelwright_request_duration_seconds",
            "Time from the head of a prediction request to the end of its answer.",
            names,
            buckets=_BUCKETS,
            registry=self.registry,
        ).labels(**self.labels)
        self._rows = Counter("modelwright_rows", "Rows predicted.", names, registry=self.registry).labels(**self.labels)
        self.in_flight = Gauge(
            "modelwright_requests_in_flight", "Prediction requests being answered.", names, registry=self.registry
        ).labels(**self.labels)
        Gauge("modelwright_model_info", "The model that is served; always 1.", names, registry=self.registry).labels(
            **self.labels
        ).set(1)

    def answered(self, code: int, seconds: float) -> None:
        """Count a request that has got its answer."""
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = self._requests.labels(**self.labels, code=str(code))
        counter.inc()
        self._seconds.observe(seconds)

    def predicted(self, rows: int) -> None:
        """Count rows that the model has answered."""
        self._rows.inc(rows)

    def exposition(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self.registry)
