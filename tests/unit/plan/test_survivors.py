"""Attempts that may live on: what the status keeps of them, and what later attempts are told."""

import pytest

from modelwright.plan.attempts import attempt_of
from tests.simulation.cluster import key_of
from tests.simulation.one_job import COMMAND, RECIPE, Simulation
from tests.simulation.trainer import run_of
from tests.unit.plan.training_world import running

PATIENT = {**RECIPE, "failurePolicy": {"backoffSeconds": 0, "budgets": {"preemption": 100, "infrastructure": 100}}}


def told(sim: Simulation) -> dict[int, int]:
    """Return by attempt which one before it may live on, as the pods are told."""
    return {attempt_of(job): run_of(job).unconfirmed for job in sim.world.cluster.of_kind("Job")}


def test_who_follows_an_attempt_on_a_lost_node_is_told_that_it_may_live_on() -> None:
    sim = running(PATIENT)
    sim.trainer.silence_node(gone=True)
    sim.until_attempt_runs(2)
    assert sim.status["attempts"][0]["reason"] == "NodeLost"
    assert (told(sim)[2], sim.status["unconfirmedAttempt"]) == (1, 1)


@pytest.mark.parametrize("how", ["evicted", "preempted", "exit", "storage", "memory"])
def test_who_follows_an_attempt_that_was_seen_to_end_is_told_of_none(how: str) -> None:
    sim = running(PATIENT)
    sim.trainer.fail(how)
    sim.until_attempt_runs(2)
    assert told(sim) == {1: 0, 2: 0}
    assert "unconfirmedAttempt" not in sim.status


def test_a_pod_that_is_deleted_by_force_counts_whatever_ended_its_attempt() -> None:
    sim = running(PATIENT)
    # One pod is evicted, and the node of the other one cannot confirm that it left for that.
    sim.world.kubelets.lost.add(sim.world.cluster.of_kind("Pod")[1]["metadata"]["uid"])
    sim.trainer.fail("evicted")
    sim.until_attempt_runs(2)
    assert sim.status["attempts"][0]["reason"] == "Evicted"
    assert told(sim)[2] == 1


def test_it_is_not_forgotten_when_the_status_tells_of_that_attempt_no_more() -> None:
    sim = running(PATIENT)
    sim.trainer.silence_node(gone=True)
    for number in range(2, 14):
        sim.until_attempt_runs(number)
        sim.trainer.fail("preempted")
    sim.until_attempt_runs(14)
    assert 1 not in [entry["number"] for entry in sim.status["attempts"]]
    assert (told(sim)[14], sim.status["unconfirmedAttempt"]) == (1, 1)


def test_it_is_written_down_before_the_pod_is_deleted_by_force() -> None:
    sim = running(COMMAND)
    lost = sim.world.cluster.of_kind("Pod")[1]
    sim.world.kubelets.lost.add(lost["metadata"]["uid"])
    sim.trainer.delete_job()
    sim.until(lambda: "unconfirmedAttempt" in sim.status)
    assert sim.world.cluster.get(key_of(lost)) is not None
    sim.until_attempt_runs(2)
    assert (sim.status["attempts"][0]["reason"], told(sim)) == ("JobDeleted", {2: 1})


def test_a_suspended_attempt_that_goes_on_is_told_of_what_is_left_of_itself() -> None:
    sim = running(COMMAND, {"kueue.x-k8s.io/queue-name": "gpus"})
    sim.world.kubelets.lost.add(sim.world.cluster.of_kind("Pod")[1]["metadata"]["uid"])
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    sim.world.edit(sim.key, suspend=False)
    sim.until_attempt_runs(1)
    assert (sim.status["attempt"], told(sim)) == (1, {1: 1})
