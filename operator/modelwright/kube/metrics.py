"""What the operator says of itself to Prometheus. Names begin with `modelwright_`."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from modelwright import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        # One more series for each of ours, which no dashboard shows.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("modelwright_build", "The software.", registry=self.registry).info({"version": __version__})
        self.is_leader = self._gauge("modelwright_is_leader", "1 while this replica reconciles.")
        self.reconcile_seconds = Histogram(
            "modelwright_reconcile_seconds",
            "Time from taking a key to having carried out its plan.",
            ("kind", "result"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.api_calls = self._counter("modelwright_api_calls", "Calls to the API server.", "verb", "code")
        self.status_writes = self._counter("modelwright_status_writes", "Statuses written.", "kind")
        self.events_posted = self._counter("modelwright_events", "Kubernetes events.", "outcome")
        self.reports = self._counter("modelwright_reports", "Progress reports from pods.", "code")
        self.alerts = self._counter("modelwright_alert_requests", "Requests from Alertmanager.", "code")
        self.watch_repairs = self._counter(
            "modelwright_watch_repairs", "Objects of ours that a roll call found out of date.", "kind"
        )
        self.errors = self._counter("modelwright_unexpected_errors", "Bugs: exceptions that no code foresaw.", "kind")

    def collect(self, collector: Callable[[], list[Metric]]) -> None:
        """Add metrics that are worked out when Prometheus asks."""
        self.registry.register(_Callback(collector))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)


def gauge(name: str, text: str, values: Mapping[tuple[str, ...], float], labels: tuple[str, ...] = ()) -> Metric:
    """Return a gauge with a value for each tuple of label values."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


class _Callback(Collector):
    def __init__(self, function: Callable[[], list[Metric]]) -> None:
        self._function = function

    def collect(self) -> list[Metric]:
        return self._function()
