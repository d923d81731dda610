"""When a loss is charged, and for which class, when it is not seen at once as it was."""

from datetime import UTC, datetime
from typing import Any

from modelwright.api.failurepolicy import FailureClass, FailureRule
from modelwright.api.run import TrainingReport
from modelwright.api.trainingjob import Attempt, Progress, ReportedMetric, TrainingJobStatus
from modelwright.plan import history
from modelwright.plan.actions import Object
from modelwright.plan.attempts import View
from modelwright.plan.events import on_restarts
from modelwright.plan.failures import Cause, Loss

AT = "2026-11-23T10:00:00Z"
NOW = datetime(2026, 11, 23, 10, 0, 5, tzinfo=UTC)
BEGUN = TrainingJobStatus(attempt=1, attempts=(Attempt(number=1, start_time=AT),))
PEER = Loss("PeerLost", "pod a-1-1 (worker 1): worker 0 is gone", node="node-1", output="link is down")
MEMORY = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": AT}
PEER_SAID = {"message": '{"reason": "PeerLost", "message": "worker 0 is gone"}', "exitCode": 1, "finishedAt": AT}


def job(condition: str | None = "Failed") -> Object:
    conditions = [] if condition is None else [{"type": condition, "status": "True", "lastTransitionTime": AT}]
    metadata = {"name": "a-1", "namespace": "team", "uid": "1", "creationTimestamp": AT}
    return {"metadata": metadata, "spec": {"completions": 2}, "status": {"conditions": conditions, "startTime": AT}}


def pod(index: int, ended: dict[str, Any]) -> Object:
    labels = {"batch.kubernetes.io/job-completion-index": str(index), "modelwright.dev/attempt": "1"}
    status = {"phase": "Failed", "containerStatuses": [{"name": "worker", "state": {"terminated": ended}}]}
    return {"metadata": {"name": f"a-1-{index}", "labels": labels}, "spec": {"nodeName": "node-0"}, "status": status}


def brought_up(status: TrainingJobStatus, *pods: Object, job: Object | None) -> TrainingJobStatus:
    view = View(1, {} if job is None else {1: job}, pods)
    return history.brought_up(status, view, None, NOW, suspended=False)


def charged(status: TrainingJobStatus) -> dict[str, int]:
    return {str(entry.failure_class): entry.count for entry in status.failures}


def test_a_root_that_is_seen_after_what_it_took_along_is_what_is_charged() -> None:
    noted = history.noted(BEGUN, 1, PEER, ())
    assert charged(noted) == {}, "the others have not ended"
    over = brought_up(noted, pod(0, MEMORY), pod(1, PEER_SAID), job=job())
    assert (over.attempts[0].reason, over.attempts[0].node) == (Cause.OUT_OF_MEMORY, "node-0")
    assert charged(over) == {"OutOfMemory": 1}
    assert charged(brought_up(over, job=None)) == {"OutOfMemory": 1}, "once"


def test_a_root_whose_pod_is_gone_by_the_end_is_still_what_is_charged() -> None:
    preempted = Loss(Cause.PREEMPTED, "pod a-1-0 (worker 0) was preempted", FailureClass.PREEMPTION)
    noted = history.noted(BEGUN, 1, preempted, ())
    assert history.noted(noted, 1, PEER, ()) == noted
    over = brought_up(noted, pod(1, PEER_SAID), job=job())
    assert charged(over) == charged(brought_up(noted, job=None)) == {"Preemption": 1}


def test_a_loss_that_was_noted_is_charged_though_the_job_was_suspended_since() -> None:
    noted = history.noted(BEGUN, 1, PEER, ())
    assert charged(history.brought_up(noted, View(1, {}, ()), None, NOW, suspended=True)) == {"Infrastructure": 1}
    assert history.brought_up(BEGUN, View(1, {}, ()), None, NOW, suspended=True) == BEGUN


def test_an_attempt_that_vanishes_before_it_began_is_charged_too() -> None:
    never = TrainingJobStatus(attempt=1)
    over = brought_up(never, job=None)
    assert charged(over) == charged(brought_up(over, job=None)) == {"Infrastructure": 1}
    assert over.attempts[0].reason == Cause.JOB_DELETED


def test_the_step_that_broke_the_program_outlives_a_report_of_an_earlier_one() -> None:
    broken = Loss("WorkerFailed", "ValueError: no", FailureClass.APPLICATION_ERROR, step=40)
    over = brought_up(history.noted(BEGUN, 1, broken, ()), job=job())
    said = history.with_report(over, TrainingReport(attempt=1, progress=Progress(step=10)), 1, NOW)
    assert said.attempts[0].last_step == 40
    later = history.with_report(over, TrainingReport(attempt=1, progress=Progress(step=42)), 1, NOW)
    assert later.attempts[0].last_step == 42


def test_a_node_is_kept_away_from_as_soon_as_its_loss_is_noted() -> None:
    rules = [FailureRule(message="link is down", exclude_node=True)]
    noted = history.noted(BEGUN, 1, PEER, rules)
    assert noted.excluded_nodes == ("node-1",)
    over = history.brought_up(noted, View(1, {}, (), tuple(rules)), None, NOW, suspended=False)
    assert over.excluded_nodes == ("node-1",)


def reported(status: TrainingJobStatus, attempt: int, step: int, **fields: Any) -> TrainingJobStatus:
    report = TrainingReport(attempt=attempt, progress=Progress(step=step), **fields)
    return history.with_report(status, report, attempt, NOW)


def test_where_processes_started_again_in_their_pods_is_not_where_their_attempt_began() -> None:
    two = (Attempt(number=1, start_time=AT, last_step=50), Attempt(number=2, start_time=AT))
    status = reported(TrainingJobStatus(attempt=2, attempts=two), 2, 60, resumed_from_step=40)
    again = reported(status, 2, 90, resumed_from_step=80, restarts=1)
    first, second = again.attempts
    assert (first.lost_steps, second.resumed_from_step, second.process_restarts) == (10, 40, 1)
    assert (status.attempts[1].process_restarts, second.last_step) == (None, 90)


def test_an_attempt_of_which_only_the_second_start_was_heard_began_there() -> None:
    two = (Attempt(number=1, start_time=AT, last_step=50), Attempt(number=2, start_time=AT))
    status = history.with_report(
        TrainingJobStatus(attempt=2, attempts=two), TrainingReport(attempt=2, stage="Starting", restarts=2), 2, NOW
    )
    assert status.attempts[1].process_restarts == 2
    first, second = reported(status, 2, 45, resumed_from_step=40, restarts=2).attempts
    assert (first.lost_steps, second.resumed_from_step) == (10, 40)


def test_a_late_report_does_not_take_a_restart_back() -> None:
    status = reported(BEGUN, 1, 20, restarts=2)
    assert reported(status, 1, 30, restarts=1).attempts[0].process_restarts == 2


def test_processes_that_start_again_are_told_of_once() -> None:
    before, after = reported(BEGUN, 1, 20).attempts, reported(BEGUN, 1, 20, restarts=1).attempts
    (event,) = on_restarts(before, after)
    assert (event.type, event.reason) == ("Warning", "ProcessRestarted")
    assert "(1 so far)" in event.message
    assert on_restarts(after, after) == on_restarts(before, before) == ()


def test_a_name_that_is_told_twice_does_not_cost_the_whole_status() -> None:
    # The API server would refuse it: metrics are a map there.
    metrics = tuple(ReportedMetric(name=name, value=value) for name, value in (("a", 1.0), ("b", 2.0), ("a", 3.0)))
    told = TrainingReport(attempt=1, progress=Progress(step=1, metrics=metrics))
    progress = history.with_report(BEGUN, told, 1, NOW).progress
    assert progress is not None
    assert [(metric.name, metric.value) for metric in progress.metrics or ()] == [("a", 1.0), ("b", 2.0)]
