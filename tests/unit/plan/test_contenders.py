"""Who wants room in a quota, or has it: gangs by their Jobs, and between two attempts by their owners."""

from decimal import Decimal
from typing import Any

import pytest

from modelwright.api.trainingjob import MANAGER
from modelwright.plan.actions import Object
from modelwright.plan.contenders import between_attempts, contender, has_passed
from modelwright.plan.observed import PLACEHOLDER_LABEL
from modelwright.plan.queueing import QUEUE_LABEL
from tests.simulation.one_sweep import SWEEP

WORKERS = {"command": ["train"], "replicas": 3, "resources": {"requests": {"cpu": "2"}}}
AT = "2026-01-01T00:00:00Z"
FAILED = {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": AT}]}
COMPLETE = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": AT}]}


def owner(reason: str = "Restarting", kind: str = "TrainingJob", **parts: dict[str, Any]) -> Object:
    """Return an object that has run before, with other fields in some of its parts."""
    meta = {"name": "a", "namespace": "ns", "uid": "uid-a", "creationTimestamp": AT}
    ready = {"type": "Ready", "status": "False", "reason": reason, "message": ""}
    return {
        "kind": kind,
        "metadata": {**meta, **parts.get("metadata", {})},
        "spec": {"workers": WORKERS, "priority": 7, **parts.get("spec", {})},
        "status": {"startTime": AT, "conditions": [ready], **parts.get("status", {})},
    }


def job(status: dict[str, Any] | None = None, labels: dict[str, str] | None = None, **parts: Any) -> Object:
    meta = {"name": "a-1", "namespace": "ns", "uid": "uid-a-1", "labels": labels or {}, **parts.get("metadata", {})}
    return {"metadata": meta, "spec": {"parallelism": 3, **parts.get("spec", {})}, "status": status or {}}


@pytest.mark.parametrize(
    "reason", ["Restarting", "Training", "Evaluating", "Starting", "Shrunk", "Grown", "WebhookUnavailable"]
)
def test_between_two_attempts_a_gang_has_what_its_next_one_will_request(reason: str) -> None:
    found = between_attempts(owner(reason))
    assert found is not None
    assert found.demand == {"cpu": Decimal(6)}
    assert (found.identity, found.namespace, found.admitted, found.priority) == ("uid-a", "ns", True, 7)


@pytest.mark.parametrize("reason", ["Unschedulable", "ImagePullFailed", "ContainerConfigInvalid", "PodsRejected"])
def test_what_kept_the_pods_of_the_lost_attempt_from_starting_does_not_keep_the_next_one(reason: str) -> None:
    assert between_attempts(owner(reason)) is not None


def test_a_sweep_keeps_its_room_in_the_same_way() -> None:
    workers = {"replicas": 2, "resources": {"requests": {"cpu": "2"}}}
    found = between_attempts(owner("Searching", "TuningSweep", spec={**SWEEP, "workers": workers}))
    assert found is not None
    assert found.demand == {"cpu": Decimal(4)}


@pytest.mark.parametrize(
    "reason",
    ["Queued", "Suspended", "SecretNotFound", "StorageUnavailable", "ApiUnavailable", "ChildRejected", "InvalidSpec"],
)
def test_who_waits_for_somebody_keeps_no_room(reason: str) -> None:
    assert between_attempts(owner(reason)) is None


@pytest.mark.parametrize(
    "parts",
    [
        {"metadata": {"deletionTimestamp": AT}},
        {"metadata": {"labels": {QUEUE_LABEL: "gpus"}}},
        {"spec": {"suspend": True}},
        {"spec": {"workers": {"replicas": -1}}},
        {"spec": {"managedBy": "kueue.x-k8s.io/multikueue"}},
        {"status": {"completionTime": AT}},
        {"status": {"startTime": None}},
        {"status": {"conditions": []}},
    ],
)
def test_one_that_does_not_go_on_or_has_never_run_or_is_not_ours_keeps_no_room(parts: dict[str, Any]) -> None:
    assert between_attempts(owner(**parts)) is None


def test_only_an_owner_that_is_there_keeps_room() -> None:
    assert between_attempts(None) is None
    assert between_attempts({**owner(), "status": {}}) is None
    assert between_attempts(owner(spec={"managedBy": MANAGER})) is not None


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        (job(FAILED), True),
        (job(COMPLETE), False),
        (job(), False),
        (job(spec={"suspend": True}), False),
        (job(metadata={"deletionTimestamp": AT}), False),
        (job(spec={"suspend": True}, metadata={"deletionTimestamp": AT}), True),
        (job(labels={PLACEHOLDER_LABEL: "1"}), True),
        (job(FAILED, {QUEUE_LABEL: "gpus"}), False),
    ],
    ids=["failed", "complete", "runs", "waits", "leaves", "leaves and waited", "placeholder", "Kueue's"],
)
def test_a_gang_has_a_job_until_that_has_failed_or_leaves_without_pods(found: Object, passed: bool) -> None:
    assert has_passed(found) is passed
    if passed:
        # So no gang is counted twice.
        assert contender(found, owner()) is None
