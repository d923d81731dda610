"""Whose a job is, and who starts its pods: another controller, Kueue, or this operator."""

from typing import Any

import pytest

from modelwright.api.trainingjob import MANAGER
from modelwright.plan.actions import Object
from modelwright.plan.queueing import QUEUE_LABEL
from tests.simulation.cluster import Cluster, ref_of
from tests.simulation.nodes import Kueue
from tests.simulation.one_job import COMMAND, RECIPE, Simulation
from tests.unit.plan.training_world import message

PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
QUEUED = {QUEUE_LABEL: "gpus"}
MULTIKUEUE = "kueue.x-k8s.io/multikueue"


class DefaultQueue:
    """Kueue's webhook in a namespace with a default queue: a Job that names none is put into it, suspended."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def step(self) -> None:
        for job in self.cluster.of_kind("Job"):
            if QUEUE_LABEL not in job["metadata"]["labels"]:
                body = {"metadata": {"labels": {QUEUE_LABEL: "default"}}, "spec": {"suspend": True}}
                self.cluster.patch(ref_of(job), body)


def with_kueue(spec: dict[str, Any] = RECIPE, labels: dict[str, str] | None = None) -> tuple[Simulation, Kueue]:
    sim = Simulation(spec, labels)
    kueue = Kueue(sim.world.cluster, quota=False)
    sim.world.controllers.append(kueue)
    return sim, kueue


def only_job(sim: Simulation) -> Object:
    (job,) = sim.world.cluster.of_kind("Job")
    return job


@pytest.mark.parametrize("spec", [RECIPE, {**RECIPE, "workers": {"replicas": 0}}, {**COMMAND, "suspend": True}])
def test_a_job_of_another_controller_is_left_alone(spec: dict[str, Any]) -> None:
    sim = Simulation({**spec, "managedBy": MULTIKUEUE})
    sim.world.settle()
    assert (sim.status, sim.world.writes, sim.world.events) == ({}, [], [])
    assert sim.world.cluster.of_kind("Job") == []


def test_what_another_controller_says_of_its_job_stays_and_so_does_the_job() -> None:
    sim = Simulation({**RECIPE, "managedBy": MULTIKUEUE, "ttlSecondsAfterFinished": 1})
    said = {
        "completionTime": "2026-11-23T10:00:00Z",
        "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "there"}],
    }
    job = sim.world.cluster.objects[sim.key]
    sim.world.cluster.apply_status(sim.key, job["metadata"]["uid"], said)
    sim.world.now = sim.world.now.replace(hour=23)
    sim.world.settle()
    assert sim.status == said
    assert sim.world.writes == []


def test_the_name_of_this_operator_means_this_operator() -> None:
    sim = Simulation({**RECIPE, "managedBy": MANAGER})
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    # The Job of an attempt is Kubernetes' own: its controller would leave one alone that names another.
    assert "managedBy" not in only_job(sim)["spec"]


def test_the_job_of_an_attempt_has_the_queue_and_the_priority_of_its_owner() -> None:
    sim, _ = with_kueue(labels={**QUEUED, PRIORITY_LABEL: "urgent", "team": "vision"})
    sim.world.settle()
    labels = only_job(sim)["metadata"]["labels"]
    assert {name: labels.get(name) for name in (QUEUE_LABEL, PRIORITY_LABEL, "team")} == {
        QUEUE_LABEL: "gpus",
        PRIORITY_LABEL: "urgent",
        "team": None,
    }


def test_a_priority_for_kueue_says_nothing_without_a_queue() -> None:
    sim = Simulation(labels={PRIORITY_LABEL: "urgent"})
    sim.world.settle()
    assert PRIORITY_LABEL not in only_job(sim)["metadata"]["labels"]


def test_a_job_that_kueue_put_into_a_queue_by_itself_is_for_kueue_to_start() -> None:
    sim, kueue = with_kueue()
    sim.world.controllers.insert(0, DefaultQueue(sim.world.cluster))
    sim.world.settle()
    assert sim.ready == ("False", "Queued")
    assert message(sim) == "waiting for Kueue to admit it from the queue default"
    assert only_job(sim)["spec"]["suspend"] is True
    assert not [words for words in sim.world.writes if words.startswith("patch")]
    kueue.quota = True
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["restarts"] == 0


def test_a_job_that_waits_moves_to_the_queue_that_its_owner_names_now() -> None:
    sim, kueue = with_kueue(labels=QUEUED)
    sim.world.settle()
    owner = sim.world.cluster.objects[sim.key]
    sim.world.cluster.patch(ref_of(owner), {"metadata": {"labels": {QUEUE_LABEL: "spot"}}})
    sim.world.settle()
    assert only_job(sim)["metadata"]["labels"][QUEUE_LABEL] == "spot"
    assert message(sim) == "waiting for Kueue to admit it from the queue spot"
    kueue.quota = True
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


@pytest.mark.parametrize("labels", [QUEUED, {}])
def test_what_kueue_takes_back_and_gives_again_is_honoured_both_ways(labels: dict[str, str]) -> None:
    sim, kueue = with_kueue(labels=labels)
    if not labels:
        sim.world.controllers.insert(0, DefaultQueue(sim.world.cluster))
    kueue.quota = True
    sim.until(lambda: bool(sim.status.get("progress")))
    kueue.quota = False
    sim.world.cluster.patch(ref_of(only_job(sim)), {"spec": {"suspend": True}})
    sim.world.settle()
    assert sim.ready == ("False", "Queued")
    assert [pod for pod in sim.world.cluster.of_kind("Pod") if pod["status"]["phase"] == "Running"] == []
    kueue.quota = True
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["restarts"] == 0
    assert [entry["reason"] for entry in sim.status["attempts"]] == ["Completed"]
