"""Nodes that do not answer: a gang that stands still is given up for one, and a gang that makes steps is not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.trainingjob import Progress
from modelwright.plan import unanswered
from modelwright.plan.actions import Object
from modelwright.plan.attempts import attempt_of
from modelwright.plan.times import seconds_between, stamp
from modelwright.plan.unanswered import Pulse
from tests.simulation.nodes import MONITOR_GRACE, TOLERATION
from tests.simulation.one_job import COMMAND, Simulation
from tests.unit.plan.training_world import report, running

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def pod(index: int = 0, ready: str = "False", containers: str = "True", **fields: Any) -> Object:
    """Return a running pod; as it stands, the node controller has taken its Ready away."""
    conditions = [
        {"type": "ContainersReady", "status": containers, "lastTransitionTime": stamp(NOON)},
        {"type": "Ready", "status": ready, "lastTransitionTime": stamp(NOON), **fields.pop("why", {})},
    ]
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {
        "metadata": {"name": f"a-1-{index}", "labels": labels, **fields},
        "spec": {"nodeName": f"gpu-{index}"},
        "status": {"phase": "Running", "conditions": conditions},
    }


def heard(before: float, seconds_per_step: float = 0.5) -> Pulse:
    return Pulse(stamp(NOON - timedelta(seconds=before)), seconds_per_step)


def test_a_gang_that_stands_still_is_lost_with_the_node_that_does_not_answer() -> None:
    gone = unanswered.lost([pod(0, ready="True"), pod(1)], heard(45), NOON)
    assert [each["metadata"]["name"] for each in gone.pods] == ["a-1-1"]
    loss = unanswered.loss(gone.pods[0])
    assert (loss.reason, loss.failure_class, loss.node) == ("NodeLost", FailureClass.INFRASTRUCTURE, "gpu-1")
    assert loss.message == "pod a-1-1 (worker 1) is lost: its node does not answer"


@pytest.mark.parametrize(("before", "pace", "left"), [(10, 0.5, 20), (29, 5, 1), (45, 20, 55), (599, 120, 1)])
def test_it_is_given_the_time_of_some_steps(before: float, pace: float, left: float) -> None:
    waiting = unanswered.lost([pod(0, ready="True"), pod(1)], heard(before, pace), NOON)
    assert (waiting.pods, waiting.wake) == ((), left)


@pytest.mark.parametrize(("before", "longest", "left"), [(45, 40, 35), (45, 10, None)])
def test_of_a_gang_that_tells_few_of_its_steps_the_next_is_waited_for(
    before: float, longest: float, left: float | None
) -> None:
    waiting = unanswered.lost([pod(0, ready="True"), pod(1)], replace(heard(before), longest_step=longest), NOON)
    assert (not waiting.pods, waiting.wake) == (left is not None, left)


@pytest.mark.parametrize(
    "answers",
    [
        pod(ready="True"),
        pod(containers="False"),
        pod(why={"reason": "ReadinessGatesNotReady"}),
        pod(deletionTimestamp=stamp(NOON)),
        {**pod(), "status": {"phase": "Failed", "conditions": pod()["status"]["conditions"]}},
    ],
    ids=["ready", "restarting", "gated", "leaving", "over"],
)
def test_what_its_kubelet_says_of_a_pod_is_no_silence(answers: Object) -> None:
    assert unanswered.lost([answers], heard(1000), NOON) == unanswered.Silence()


def test_of_a_gang_that_tells_no_steps_nothing_is_known() -> None:
    assert unanswered.lost([pod()], None, NOON) == unanswered.Silence()


def stepping(sim: Simulation, step: int, **fields: Any) -> None:
    report(sim, progress=Progress(step=step, seconds_per_step=0.5), **fields)


def silence(sim: Simulation, *, gone: bool) -> datetime:
    """Let the node of worker 1 fall silent, and return since when it is."""
    sim.trainer.silence_node(1, gone=gone)
    return sim.world.now


def until_restarted(sim: Simulation, since: datetime) -> float:
    sim.until(lambda: sim.status["attempt"] == 2)
    return seconds_between(stamp(since), sim.world.now)


def test_a_vanished_node_costs_little_more_than_kubernetes_takes_to_notice() -> None:
    sim = running()
    stepping(sim, 7)
    vanished = silence(sim, gone=True)
    assert until_restarted(sim, vanished) <= MONITOR_GRACE + 20
    entry = sim.status["attempts"][0]
    assert (entry["reason"], entry["failureClass"], entry["lastStep"]) == ("NodeLost", "Infrastructure", 7)
    assert sim.status["failures"] == [{"failureClass": "Infrastructure", "count": 1}]
    sim.until_attempt_runs(2)
    left = [each for each in sim.world.cluster.of_kind("Pod") if attempt_of(each) == 1]
    assert all(each["status"]["phase"] == "Failed" for each in left), "what is lost is gone, and its peers have ended"


def test_a_gang_trains_on_while_a_kubelet_is_silent() -> None:
    sim = running()
    since = silence(sim, gone=False)
    for step in range(1, 60):
        stepping(sim, step)
        assert sim.status["attempt"] == 1
    assert (sim.world.now - since).total_seconds() > MONITOR_GRACE + 3 * unanswered.PATIENCE
    assert any(unanswered.is_on_one(each) for each in sim.world.cluster.of_kind("Pod")), "Kubernetes had noticed"
    sim.world.nodes.answer()
    sim.world.run(20)
    assert "reason" not in sim.status["attempts"][0]


@pytest.mark.parametrize(
    "how", ["a program that reports nothing", "an operator that has not heard it", "evaluation", "no step is due"]
)
def test_without_a_word_of_steps_kubernetes_says_when_a_pod_is_lost(how: str) -> None:
    sim = running(COMMAND if how.startswith("a program") else None)
    if how == "evaluation":
        stepping(sim, 7, stage="Evaluating")
    elif how == "no step is due":
        stepping(sim, 7, quiet=True)
    elif how.startswith("an operator"):
        stepping(sim, 7)
        sim.world.crash()
    vanished = silence(sim, gone=True)
    sim.until(lambda: sim.world.now - vanished > timedelta(seconds=MONITOR_GRACE + TOLERATION - 5))
    assert sim.status["attempt"] == 1
    # Its grace period passes; that it cannot be confirmed is known already.
    assert until_restarted(sim, vanished) <= MONITOR_GRACE + TOLERATION + 60
    assert sim.status["attempts"][0]["reason"] == "NodeLost"


def test_a_node_that_answers_again_does_not_bring_back_what_was_told() -> None:
    sim = running()
    stepping(sim, 7)
    silence(sim, gone=False)
    sim.until(lambda: sim.status["attempts"][0].get("reason") == "NodeLost")
    sim.world.nodes.answer()
    sim.until(lambda: sim.status["attempt"] == 2)
    assert sim.status["failures"] == [{"failureClass": "Infrastructure", "count": 1}]


def test_steps_from_before_a_pause_say_nothing_of_a_gang_that_loads() -> None:
    sim = running()
    stepping(sim, 7)
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    sim.world.edit(sim.key, suspend=False)
    sim.until_pods_run()
    silence(sim, gone=False)
    sim.world.run(MONITOR_GRACE + 20)
    assert any(unanswered.is_on_one(each) for each in sim.world.cluster.of_kind("Pod")), "Kubernetes has noticed"
    assert (sim.status["attempt"], sim.status["attempts"][0].get("reason")) == (1, None)
    stepping(sim, 8)
    sim.until(lambda: sim.status["attempts"][0].get("reason") == "NodeLost")
