"""What is read from a RayJob and its pods."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelwright.api.failurepolicy import FailureClass
from modelwright.plan import raystatus
from modelwright.plan.actions import Object
from modelwright.plan.attempts import JobState, started_at, state_of
from modelwright.plan.failures import Cause
from modelwright.plan.podstatus import index
from modelwright.plan.times import stamp

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LOGS = "Job entrypoint command failed with exit code {}, last available logs (truncated to 20,000 chars):\n{}"


def rayjob(workers: int = 1, *, suspend: bool = False, **status: Any) -> Object:
    groups = [{"replicas": workers}] if workers else []
    return raystatus.as_job(
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": {"name": "a-1", "namespace": "team", "uid": "u", "creationTimestamp": stamp(NOW)},
            "spec": {"suspend": suspend, "rayClusterSpec": {"headGroupSpec": {}, "workerGroupSpecs": groups}},
            "status": status,
        }
    )


def pod(number: int, phase: str = "Running", cluster: str = "c", **more: Any) -> Object:
    kind = {"ray.io/node-type": "head"}
    if number:
        kind = {"ray.io/node-type": "worker", "ray.io/worker-group-replica-index": str(number - 1)}
    meta = {"name": f"pod-{number}", "labels": {"ray.io/cluster": cluster, **kind}, **more.pop("meta", {})}
    status = {"phase": phase, "containerStatuses": [{"name": "worker", "state": {"running": {}}, **more}]}
    return {"metadata": meta, "spec": {"nodeName": f"node-{number}"}, "status": status}


def running(**info: Any) -> Object:
    driven = stamp(NOW - timedelta(seconds=60))
    return rayjob(rayClusterName="c", jobDeploymentStatus="Running", rayJobInfo={"startTime": driven, **info})


OOM = {"restartCount": 1, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
LEAVING = {"deletionTimestamp": stamp(NOW), "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("status", "suspend", "state"),
    [
        ({}, False, JobState.LIVE),
        ({"jobDeploymentStatus": "Initializing"}, False, JobState.LIVE),
        ({"jobDeploymentStatus": "Running", "jobStatus": "SUCCEEDED"}, False, JobState.LIVE),
        ({"jobDeploymentStatus": "Running"}, True, JobState.HELD),
        ({"jobDeploymentStatus": "Suspended"}, True, JobState.HELD),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, False, JobState.COMPLETE),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, True, JobState.COMPLETE),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, False, JobState.FAILED),
        ({"jobDeploymentStatus": "Failed", "reason": "AppFailed"}, False, JobState.FAILED),
        ({"jobDeploymentStatus": "ValidationFailed"}, False, JobState.FAILED),
    ],
)
def test_a_ray_job_stands_as_a_job_would(status: Object, suspend: bool, state: JobState) -> None:
    assert state_of(rayjob(suspend=suspend, **status)) is state


def test_its_size_and_the_number_of_each_pod_are_known() -> None:
    assert rayjob(3)["spec"]["completions"] == 4
    assert rayjob(0)["spec"]["completions"] == 1
    assert [index(pod(number)) for number in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("state", "suspend", "started"),
    [("Initializing", False, True), ("Running", True, False), ("Suspended", True, False), ("Suspended", False, False)],
)
def test_one_that_is_held_has_not_started_whatever_was_before(state: str, suspend: bool, started: bool) -> None:
    found = rayjob(suspend=suspend, jobDeploymentStatus=state, startTime=stamp(NOW))
    assert (started_at(found) is not None) is started


@pytest.mark.parametrize(
    ("pods", "reason", "failure_class"),
    [
        ([pod(0), pod(1, **OOM)], "OutOfMemory", FailureClass.OUT_OF_MEMORY),
        ([pod(0, **OOM), pod(1)], "OutOfMemory", FailureClass.OUT_OF_MEMORY),
        ([pod(0), pod(1, meta=LEAVING)], "PodDeleted", FailureClass.INFRASTRUCTURE),
        ([pod(0), pod(1, "Failed")], "WorkerFailed", FailureClass.APPLICATION_ERROR),
        # KubeRay has made a new one, which has yet to begin, or no new one at all.
        ([pod(0), pod(1, "Pending")], "PodDeleted", FailureClass.INFRASTRUCTURE),
        ([pod(1)], "PodDeleted", FailureClass.INFRASTRUCTURE),
    ],
)
def test_a_gang_that_has_lost_a_pod_is_lost_though_kuberay_goes_on(
    pods: list[Object], reason: str, failure_class: FailureClass
) -> None:
    found = raystatus.lost(running(), pods, NOW).loss
    assert found is not None
    assert (found.reason, found.failure_class) == (reason, failure_class)


def test_a_preempted_worker_costs_no_failure() -> None:
    leaving = pod(1, meta=LEAVING)
    reason = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    leaving["status"]["conditions"] = [reason]
    found = raystatus.lost(running(), [pod(0), leaving], NOW).loss
    assert found is not None
    assert found.failure_class is FailureClass.PREEMPTION
    assert found.message.startswith("pod pod-1 (worker 1) was preempted")


def test_nothing_is_lost_while_all_is_well_or_still_begins() -> None:
    whole = [pod(0), pod(1)]
    assert raystatus.lost(running(), whole, NOW) == raystatus.Lost(None)
    begins = rayjob(rayClusterName="c", jobDeploymentStatus="Initializing")
    assert raystatus.lost(begins, [pod(0), pod(1, "Pending")], NOW) == raystatus.Lost(None)
    # Those of the time before a suspension are on their way out.
    assert raystatus.lost(running(), [*whole, pod(1, cluster="before", meta=LEAVING)], NOW) == raystatus.Lost(None)


def test_a_pod_that_is_not_seen_yet_is_waited_for_when_the_driver_has_just_started() -> None:
    just = running(startTime=stamp(NOW - timedelta(seconds=4)))
    assert raystatus.lost(just, [pod(0)], NOW) == raystatus.Lost(None, 6.0)


@pytest.mark.parametrize(
    ("message", "reason", "failure_class", "says"),
    [
        (
            LOGS.format(1, "Traceback\nValueError: no\n"),
            "WorkerFailed",
            FailureClass.APPLICATION_ERROR,
            "ValueError: no",
        ),
        (LOGS.format(-9, "step 3\n"), "WorkerFailed", FailureClass.APPLICATION_ERROR, "was killed: step 3"),
        (
            LOGS.format(1, 'x\n{"reason": "Hang", "message": "no step", "failureClass": "Hang"}\n'),
            "Hang",
            FailureClass.HANG,
            "no step",
        ),
        (
            LOGS.format(1, "(RayTrainWorker pid=3) torch.OutOfMemoryError: CUDA out of memory\nend\n"),
            "OutOfMemory",
            FailureClass.OUT_OF_MEMORY,
            "CUDA out of memory",
        ),
        (
            "Job entrypoint command failed with exit code 7. No logs available.",
            "WorkerFailed",
            None,
            "exited with code 7",
        ),
        (
            # As seen: it is Ray's own watch that kills, and the one it killed was to tell of the driver.
            "Unexpected error occurred: 2 worker(s) were killed due to the node running low on memory. Memory on the",
            "OutOfMemory",
            FailureClass.OUT_OF_MEMORY,
            "raise workers.resources.limits.memory",
        ),
        ("The actor died unexpectedly", "RayJobFailed", FailureClass.INFRASTRUCTURE, "RayJob a-1 failed (AppFailed)"),
    ],
)
def test_why_the_driver_failed_is_read_from_what_ray_tells_of_it(
    message: str, reason: str, failure_class: FailureClass | None, says: str
) -> None:
    failed = rayjob(jobDeploymentStatus="Failed", reason="AppFailed", message=message)
    found = raystatus.loss(failed, [])
    assert found.reason == reason
    assert found.failure_class is failure_class or failure_class is None
    assert says in found.message


def test_who_the_driver_lost_is_blamed_and_not_those_that_leave_after_it() -> None:
    told = LOGS.format(1, '{"reason": "PeerLost", "message": "A Ray worker or its node was lost"}')
    failed = rayjob(jobDeploymentStatus="Failed", reason="AppFailed", message=told)
    assert raystatus.loss(failed, [pod(0, meta=LEAVING), pod(1, **OOM)]).reason == "OutOfMemory"
    alone = raystatus.loss(failed, [pod(0, meta=LEAVING), pod(1, meta=LEAVING)])
    assert (alone.reason, alone.node) == ("PeerLost", "node-0")


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        ({"jobDeploymentStatus": "ValidationFailed", "message": "no"}, Cause.RAY_JOB_REFUSED, False),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, Cause.RAY_JOB_STOPPED, True),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, Cause.JOB_DELETED, True),
        ({"jobDeploymentStatus": "Failed", "reason": "SubmissionFailed"}, Cause.RAY_JOB_FAILED, True),
    ],
)
def test_an_end_without_a_driver_is_told_by_kuberays_own_words(status: Object, reason: Cause, retryable: bool) -> None:
    found = raystatus.loss(rayjob(**status), [])
    assert (found.reason, found.retryable) == (reason, retryable)
