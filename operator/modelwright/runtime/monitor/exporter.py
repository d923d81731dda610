"""The counts for Prometheus, and the reference beside them, so that a PSI is an expression of PromQL:

    sum by (model, version, feature) (
      (share - ref) * ln(share / ref)
    )

where `share` is the bin's part of `increase(modelwright_feature_bin_total[1h])` and `ref` is
`modelwright_reference_bin_ratio`, both held above a small number by `clamp_min`.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modelwright.api.artifacts import Reference, ReferenceColumn
from modelwright.runtime.monitor.bins import bin_names
from modelwright.runtime.monitor.counters import PREDICTION, Counters
from modelwright.runtime.monitor.windows import WindowWriter

MAX_FEATURES = 50
"""Features that are exported, in the reference's order, for each is a dozen series a pod; windows on S3 hold all."""


class DriftCollector(Collector):
    """Bin counts, reference ratios, and how the writing of windows goes."""

    def __init__(
        self, reference: Reference, counters: Counters, writer: WindowWriter, labels: Mapping[str, str]
    ) -> None:
        self._columns = {column.name: column for column in reference.columns[:MAX_FEATURES]}
        self._columns[PREDICTION] = reference.prediction
        self._counters = counters
        self._writer = writer
        self._labels = labels

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not count."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families as they stand."""
        names = [*self._labels, "feature", "bin"]
        counted = CounterMetricFamily("modelwright_feature_bin", "Values by bin of the reference.", labels=names)
        expected = GaugeMetricFamily(
            "modelwright_reference_bin_ratio", "The part of the training rows in each bin.", labels=names
        )
        total = self._counters.total()
        for feature, column in self._columns.items():
            counts = total.prediction if feature == PREDICTION else total.columns.get(feature)
            if counts is None:
                continue
            for name, count, ratio in zip(bin_names(column), counts.tolist(), _ratios(column), strict=True):
                values = [*self._labels.values(), feature, name]
                counted.add_metric(values, count)
                expected.add_metric(values, ratio)
        yield from (counted, expected, *self._windows())

    def _windows(self) -> Iterator[Metric]:
        outcomes = CounterMetricFamily(
            "modelwright_monitor_windows",
            "Windows written to S3, tries that failed, and windows given up for want of room.",
            labels=[*self._labels, "outcome"],
        )
        for outcome, count in self._writer.outcomes.items():
            outcomes.add_metric([*self._labels.values(), outcome], count)
        yield outcomes


def _ratios(column: ReferenceColumn) -> list[float]:
    rows = max(1, sum(column.counts))
    return [count / rows for count in column.counts]
