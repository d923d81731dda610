"""Counters that are read off statuses: nothing is forgotten by a restart, and nothing falls."""

from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from modelwright.api.goodput import BucketSeconds
from modelwright.kube.goodput import GoodputMetrics
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Objects

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
GOODPUT = {"share": 0.75, "seconds": {"queued": 10, "training": 90, "lost": 20}, "asOf": "2026-11-23T11:59:00Z"}


def job(name: str, status: dict[str, Any] | None = None, limits: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team", "uid": name, "resourceVersion": "1"}
    spec = {"workers": {"replicas": 2, "resources": {"limits": limits or {}}}}
    return {"apiVersion": "v", "kind": "TrainingJob", "metadata": metadata, "spec": spec, "status": status or {}}


def scraped(*jobs: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """Return what Prometheus would read, by the metric, and by namespace, name and bucket."""
    objects, metrics = Objects(), Metrics()
    for document in jobs:
        objects.put(document)
    metrics.collect(GoodputMetrics(objects, lambda: NOW).metrics)
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        if family.name.startswith("modelwright_trainingjob"):
            for sample in family.samples:
                place = [sample.labels[name] for name in ("namespace", "name", "bucket") if name in sample.labels]
                found[(sample.name, *place)] = sample.value
    return found


def test_a_job_that_has_spent_nothing_yet_shows_every_bucket_so_that_its_first_seconds_are_an_increase() -> None:
    found = scraped(job("fresh"))
    names = {key[-1] for key in found}
    assert names == set(BucketSeconds.model_fields)
    assert set(found.values()) == {0.0}


def test_the_counters_are_what_the_status_says() -> None:
    found = scraped(job("a", {"goodput": GOODPUT}))
    assert found["modelwright_trainingjob_seconds_total", "team", "a", "training"] == 90
    assert found["modelwright_trainingjob_seconds_total", "team", "a", "lost"] == 20
    assert found["modelwright_trainingjob_goodput_ratio", "team", "a"] == 0.75
    assert not [key for key in found if key[0].startswith("modelwright_trainingjob_accelerator")]


def test_jobs_that_ended_long_ago_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects()
    objects.put(job("past", {"goodput": GOODPUT, "completionTime": "2026-11-23T10:59:59Z"}))
    objects.put(job("new", {"goodput": GOODPUT}))
    goodput, reads = GoodputMetrics(objects, lambda: NOW), list[str]()
    get = objects.get
    monkeypatch.setattr(objects, "get", lambda key: (reads.append(key.name), get(key))[1])
    first = goodput.metrics()
    assert [str(family) for family in goodput.metrics()] == [str(family) for family in first]
    goodput.metrics()
    assert sorted(reads) == ["new", "new", "new", "past"]


def test_accelerators_are_counted_while_the_gang_has_its_nodes() -> None:
    found = scraped(job("a", {"goodput": GOODPUT}, {"nvidia.com/gpu": "4", "cpu": "8"}))
    name = "modelwright_trainingjob_accelerator_seconds_total"
    assert found[name, "team", "a", "training"] == 2 * 4 * 90
    assert (name, "team", "a", "queued") not in found


def test_accelerators_of_an_elastic_gang_are_those_of_the_workers_that_it_had() -> None:
    book = {**GOODPUT, "workerSeconds": {"training": 130, "lost": 20}}
    found = scraped(job("a", {"goodput": book}, {"nvidia.com/gpu": "4"}))
    name = "modelwright_trainingjob_accelerator_seconds_total"
    assert found[name, "team", "a", "training"] == 4 * 130
    assert found[name, "team", "a", "lost"] == 4 * 20


def test_a_job_that_ended_long_ago_takes_no_room() -> None:
    late = job("late", {"goodput": GOODPUT, "completionTime": "2026-11-23T11:30:00Z"})
    old = job("old", {"goodput": GOODPUT, "completionTime": "2026-11-23T10:30:00Z"})
    assert {key[2] for key in scraped(late, old)} == {"late"}


def test_a_quantity_of_any_length_breaks_no_scrape() -> None:
    many = job("many", {"goodput": GOODPUT}, {"nvidia.com/gpu": "9" * 5000})
    override = job("override", {"goodput": GOODPUT})
    worker = {"name": "worker", "resources": {"limits": {"nvidia.com/gpu": "9" * 5000}}}
    override["spec"]["workers"]["podTemplate"] = {"spec": {"containers": [worker]}}
    assert {key[2] for key in scraped(many, override, job("fine"))} == {"many", "override", "fine"}


def test_a_job_that_cannot_be_read_hides_no_other_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    objects = Objects()
    for document in (job("strange", {"goodput": {"seconds": {"lost": "much"}}}), job("fine")):
        objects.put(document)
    goodput = GoodputMetrics(objects, lambda: NOW)
    for _ in range(3):
        shown = {sample.labels["name"] for family in goodput.metrics() for sample in family.samples}
        assert shown == {"fine"}
    assert len([entry for entry in caplog.records if "team/strange" in entry.getMessage()]) == 1


def test_a_status_of_somebody_elses_making_breaks_no_scrape() -> None:
    odd = job("odd", {"completionTime": "soon", "goodput": None})
    assert ("modelwright_trainingjob_seconds_total", "team", "odd", "training") in scraped(odd)
