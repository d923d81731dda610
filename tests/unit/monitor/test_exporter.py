"""What Prometheus sees of the counts."""

import math

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest

from modelwright.api.artifacts import ColumnKind, Reference, ReferenceColumn
from modelwright.runtime.monitor.counters import Counters
from modelwright.runtime.monitor.exporter import MAX_FEATURES, DriftCollector
from modelwright.runtime.monitor.windows import WindowWriter
from tests.unit.monitor.test_counters import LABEL, REFERENCE, record
from tests.unit.monitor.test_windows import SERVE

LABELS = {"model": "churn", "version": "3"}


def registry_of(reference: Reference, counters: Counters) -> CollectorRegistry:
    registry = CollectorRegistry()
    writer = WindowWriter(SERVE, "pod-1", counters, lambda key, document: None)
    registry.register(DriftCollector(reference, counters, writer, LABELS))
    return registry


def test_counts_and_the_reference_stand_side_by_side():
    counters = Counters(REFERENCE, ["age"], ["city"])
    registry = registry_of(REFERENCE, counters)
    record(counters, [20, 40, 40], ["Bern", "x", ""], ["yes", "no", "no"])

    def value(name: str, feature: str, bin_: str) -> float | None:
        return registry.get_sample_value(name, {**LABELS, "feature": feature, "bin": bin_})

    assert value("modelwright_feature_bin_total", "age", "2") == 2
    assert value("modelwright_feature_bin_total", "city", "missing") == 1
    assert value("modelwright_feature_bin_total", "__prediction__", "0") == 2
    assert value("modelwright_reference_bin_ratio", "age", "2") == 0.5
    assert value("modelwright_reference_bin_ratio", "__prediction__", "1") == 2 / 6


def test_a_psi_can_be_computed_from_what_is_exported():
    counters = Counters(REFERENCE, ["age"], ["city"])
    registry = registry_of(REFERENCE, counters)
    record(counters, [0, 20, 20, 40, 40, 40], ["Bern"] * 6, ["no"] * 6)
    psi = 0.0
    for bin_ in ("0", "1", "2"):
        labels = {**LABELS, "feature": "age", "bin": bin_}
        share = (registry.get_sample_value("modelwright_feature_bin_total", labels) or 0) / 6
        expected = registry.get_sample_value("modelwright_reference_bin_ratio", labels) or 0
        psi += (share - expected) * math.log(share / expected)
    assert psi == 0


def test_wide_models_export_only_so_many_features_and_always_the_prediction():
    columns = tuple(
        ReferenceColumn(name=f"c{i}", kind=ColumnKind.NUMERIC, edges=(0.0,), counts=(1, 1, 0))
        for i in range(MAX_FEATURES + 10)
    )
    reference = Reference(rows=2, columns=columns, prediction=LABEL)
    counters = Counters(reference, [column.name for column in columns], [])
    counters.record(np.zeros((len(columns), 1), np.float32), np.empty((0, 1), object), np.array(["no"], object))
    text = generate_latest(registry_of(reference, counters)).decode()
    features = {line.split('feature="')[1].split('"')[0] for line in text.splitlines() if 'feature="' in line}
    assert len(features) == MAX_FEATURES + 1
    assert "__prediction__" in features


def test_the_fate_of_windows_is_exported():
    text = generate_latest(registry_of(REFERENCE, Counters(REFERENCE, ["age"], ["city"]))).decode()
    for outcome in ("written", "failed", "dropped"):
        assert f'modelwright_monitor_windows_total{{model="churn",outcome="{outcome}",version="3"}} 0.0' in text
