"""A Job that only waits until it is said that it failed has failed: the next attempt need not wait for that."""

from typing import Any

import pytest

from modelwright.plan.actions import Object
from modelwright.plan.attempts import JobState, condition_time, ended_at, jobs_of, state_of
from modelwright.plan.observed import ATTEMPT_LABEL, HELD_ANNOTATION, Observed
from modelwright.plan.podstatus import INDEX_ANNOTATION, alive, failed, over
from modelwright.plan.times import parse
from tests.simulation.nodes import finish
from tests.unit.plan.training_world import running

T1, T2, T3 = (f"2026-11-23T10:00:0{second}Z" for second in (1, 2, 3))
MARKS = {ATTEMPT_LABEL: "1"}
UID = "uid-1"


def condition(kind: str, at: str = T2, status: str = "True") -> Object:
    return {"type": kind, "status": status, "lastTransitionTime": at}


def job(*conditions: Object, **status: Any) -> Object:
    told = {"conditions": [*conditions] or [condition("FailureTarget")], **status}
    meta = {"name": "a-1", "uid": UID, "labels": MARKS}
    return {"metadata": meta, "spec": {"completions": 2}, "status": told}


def state(name: str, at: str | None, code: int = 1) -> Object:
    now = {"running": {}} if at is None else {"terminated": {"finishedAt": at, "exitCode": code}}
    return {"name": name, "state": now}


def pod(index: int, *states: Object, phase: str = "Running", beside: tuple[Object, ...] = (), **spec: Any) -> Object:
    return {
        "metadata": {
            "name": f"a-1-{index}",
            "labels": {**MARKS, INDEX_ANNOTATION: str(index)},
            "ownerReferences": [{"uid": UID}],
        },
        "spec": {"restartPolicy": "Never", "containers": [{"name": "worker"}], **spec},
        "status": {
            "phase": phase,
            "containerStatuses": [*states] or [state("worker", T1)],
            "initContainerStatuses": [*beside],
        },
    }


SIDECAR = {"initContainers": [{"name": "fetch"}, {"name": "proxy", "restartPolicy": "Always"}]}
FETCHED = state("fetch", T1, 0)


def seen(made: Object, *pods: Object) -> tuple[JobState, str | None]:
    found = jobs_of(Observed({}, {"Job": (made,), "Pod": pods}))[1]
    return state_of(found), condition_time(found, "Failed")


@pytest.mark.parametrize("policy", [{}, {"successPolicy": {"rules": []}}])
def test_a_job_must_fail_when_all_of_its_pods_are_over_and_one_has_failed(policy: Object) -> None:
    made = {**job(condition("Started"), active=1), "spec": {"completions": 2, **policy}}
    assert seen(made, pod(0), pod(1, state("worker", T3, 0))) == (JobState.FAILED, T3)


@pytest.mark.parametrize(
    ("pods", "at"),
    [
        # The end of the Job's decision, or of the last container, whichever came later.
        ((pod(0), pod(1)), T2),
        ((pod(0, phase="Failed"), pod(1, state("worker", T3))), T3),
        ((pod(0), pod(1, state("worker", T1, 0))), T2),
        ((pod(0), pod(1, beside=(FETCHED, state("proxy", T3)), **SIDECAR)), T2),
    ],
)
def test_a_job_that_is_to_fail_has_failed_when_nothing_of_it_can_run(pods: tuple[Object, ...], at: str) -> None:
    assert seen(job(), *pods) == (JobState.FAILED, at)


@pytest.mark.parametrize(
    ("made", "pods"),
    [
        pytest.param(job(), (pod(0), pod(1, state("worker", None))), id="one runs"),
        pytest.param(job(), (pod(0),), id="one is not seen"),
        pytest.param(job(), (pod(0), pod(1), pod(1, state("worker", None))), id="there are two of one worker"),
        pytest.param(job(), (pod(0), pod(1, restartPolicy="OnFailure")), id="one starts again"),
        pytest.param(
            job(), (pod(0), pod(1, beside=(FETCHED, state("proxy", None)), **SIDECAR)), id="a side-car of one runs"
        ),
        pytest.param(
            job(),
            (pod(0), pod(1, state("worker", T1), containers=[{"name": "worker"}, {"name": "more"}])),
            id="of a container of one nobody speaks",
        ),
        pytest.param(job(active=1), (pod(0), pod(1)), id="it has pods that are not known"),
        pytest.param(job(condition("Started")), (pod(0),), id="it was not decided, and one may still be made"),
        pytest.param(
            job(condition("Started")),
            (pod(0, state("worker", T1, 0)), pod(1, state("worker", T1, 0))),
            id="all ended well",
        ),
        pytest.param(
            {**job(condition("Started")), "spec": {"completions": 2, "successPolicy": {"rules": []}}},
            (pod(0, state("worker", T1, 0)), pod(1)),
            id="Ray's driver was done before a worker failed",
        ),
        pytest.param(
            job(condition("Suspended", status="False"), condition("FailureTarget")),
            (pod(0), pod(1)),
            id="its pods were made more than once",
        ),
        pytest.param(
            {**job(), "metadata": {**job()["metadata"], "annotations": {HELD_ANNOTATION: "true"}}},
            (pod(0), pod(1)),
            id="it was let in before its controller had seen that it was held",
        ),
        pytest.param(
            {**job(), "metadata": {**job()["metadata"], "uid": "another"}},
            (pod(0), pod(1)),
            id="they are pods of a Job of that name which was deleted",
        ),
        pytest.param(
            job(condition("Started")),
            (pod(0), pod(1, state("worker", None), phase="Failed")),
            id="of one that is over with its node nobody knows when it ended",
        ),
        pytest.param(
            job(condition("Started")),
            (pod(0, state("worker", T1, 0)), pod(1, state("worker", T1, 137))),
            id="one was killed, and its node may say what for",
        ),
    ],
)
def test_before_that_it_lives(made: Object, pods: tuple[Object, ...]) -> None:
    assert seen(made, *pods) == (JobState.LIVE, None)


def at_version(known: Object, version: int) -> Object:
    return {**known, "metadata": {**known["metadata"], "resourceVersion": str(version)}}


@pytest.mark.parametrize(
    ("version", "state"), [(9, JobState.LIVE), (10, JobState.LIVE), (11, JobState.FAILED), (100, JobState.FAILED)]
)
def test_a_pod_that_is_missing_is_gone_if_another_one_was_seen_later_than_the_job(
    version: int, state: JobState
) -> None:
    assert seen(at_version(job(), 10), at_version(pod(1), version))[0] is state


def test_the_end_of_an_attempt_is_between_its_start_and_now_whatever_the_clocks_of_nodes_say() -> None:
    now = parse(T2)
    for told, end in ((T1, T2), (T2, T2), (T3, T2)):
        made = job(condition("Failed", told), startTime=T2)
        assert ended_at(made, now) == end


@pytest.mark.parametrize("reason", ["Evicted", "NodeShutdown"])
def test_why_a_node_ended_a_pod_is_waited_for(reason: str) -> None:
    killed = pod(1, state("worker", T1, 137))
    assert seen(job(condition("Started")), pod(0), killed)[0] is JobState.LIVE
    told = {**killed, "status": {**killed["status"], "phase": "Failed", "reason": reason}}
    assert seen(job(condition("Started")), pod(0), told) == (JobState.FAILED, T1)
    out_of_memory = pod(1, {"name": "worker", "state": {"terminated": OUT_OF_MEMORY}})
    assert seen(job(condition("Started")), pod(0), out_of_memory) == (JobState.FAILED, T1)


OUT_OF_MEMORY = {"finishedAt": T1, "exitCode": 137, "reason": "OOMKilled"}


def test_a_job_that_is_deleted_is_not_waited_for_in_another_way() -> None:
    leaving = job()
    leaving["metadata"]["deletionTimestamp"] = T3
    assert seen(leaving, pod(0), pod(1))[0] is JobState.LEAVING


def test_a_pod_whose_containers_have_ended_has_failed_if_one_of_them_has() -> None:
    badly, well, begun = pod(0), pod(0, state("worker", T1, 0)), pod(0, state("worker", None))
    assert [failed(each) for each in (badly, well, begun)] == [True, False, False]
    assert [over(each) for each in (badly, well, begun)] == [True, True, False]
    assert all(alive(each) for each in (badly, well, begun))


def test_the_next_attempt_is_there_before_it_is_said_that_the_job_has_failed() -> None:
    sim = running({"workers": {"replicas": 2, "command": ["main"]}, "failurePolicy": {"backoffSeconds": 0}})
    sim.world.kubelets.tells_after = 20
    sim.trainer.fail("exit")
    sim.until_attempt_runs(2)
    first, second = sim.world.cluster.of_kind("Job")
    assert (state_of(first), state_of(second)) == (JobState.LIVE, JobState.LIVE)
    attempts = sim.status["attempts"]
    assert "endTime" in attempts[0]
    sim.world.run(25)
    assert state_of(sim.world.cluster.of_kind("Job")[0]) is JobState.FAILED
    assert sim.status["attempts"] == attempts
    assert sim.status["failures"] == [{"failureClass": "ApplicationError", "count": 1}]


def test_a_loss_is_told_before_the_next_attempt_follows_it_at_once() -> None:
    sim = running({"workers": {"replicas": 2, "command": ["main"]}, "failurePolicy": {"backoffSeconds": 0}})
    for pod in sim.world.cluster.of_kind("Pod"):
        finish(sim.world.cluster, pod, code=1)
    sim.until_attempt_runs(2)
    told = [status["conditions"][0]["reason"] for status in sim.world.statuses[sim.key]]
    assert "Restarting" in told
    assert told.index("Restarting") < len(told) - 1 - told[::-1].index("Starting")
