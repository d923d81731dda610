"""A TrainingJob whose attempts are RayJobs, in a cluster with KubeRay, and in one without."""

import json
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from modelwright.plan.actions import Object
from modelwright.plan.attempts import attempt_of
from modelwright.plan.quotas import Quota
from modelwright.plan.settings import Settings
from modelwright.plan.times import seconds_between, stamp
from tests.simulation.cluster import ref_of
from tests.simulation.kuberay import KubeRay
from tests.simulation.nodes import finish
from tests.simulation.one_job import RAY, Simulation
from tests.simulation.world import SETTINGS

GROUP = "ray.io/v1"


class Ray(Simulation):
    """One TrainingJob that KubeRay runs."""

    def __init__(self, *, installed: bool = True, settings: Settings = SETTINGS, **spec: Any) -> None:
        super().__init__({**RAY, "ray": {"kuberay": True}, **spec})
        self.kuberay = KubeRay(self.world, self.trainer)
        self.world.controllers.append(self.kuberay)
        if settings is not SETTINGS:
            self.world.settings = settings
            self.world.crash()
        if installed:
            self.install()

    def install(self) -> None:
        self.world.cluster.served[GROUP] = frozenset({"RayCluster", "RayJob"})

    @property
    def jobs(self) -> list[Object]:
        return self.world.cluster.of_kind("RayJob")

    def until_driven(self, number: int = 1) -> None:
        """Take steps until the driver of an attempt runs."""

        def driven() -> bool:
            states = [
                job.get("status", {}).get("jobDeploymentStatus") for job in self.jobs if attempt_of(job) == number
            ]
            return states == ["Running"]

        self.until(driven)
        self.world.run(1)

    def endless(self) -> None:
        self.trainer.total = 1000


def test_an_attempt_is_a_ray_job_and_ends_with_a_version() -> None:
    sim = Ray()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["model"]["version"] == 1
    (job,) = sim.jobs
    assert attempt_of(job) == 1
    assert not [entry for kind in ("Job", "Service") for entry in sim.world.cluster.of_kind(kind)]
    assert not sim.world.cluster.of_kind("Pod")
    sim.world.assert_steady()


def test_pods_that_are_refused_are_told_of_with_the_words_of_who_refused_them() -> None:
    sim = Ray()
    pods = partial(sim.world.cluster.of_kind, "Pod")
    sim.world.cluster.admission.append(
        lambda document: "exceeded quota: team" if document["kind"] == "Pod" and pods() else None
    )
    sim.world.run(20)
    assert sim.ready == ("False", "Starting")
    sim.world.run(20)
    assert sim.ready == ("False", "PodsRejected")
    said = sim.status["conditions"][0]["message"]
    assert said == "1 of 2 pods are missing, for the cluster refuses them: exceeded quota: team"
    told = len(sim.world.statuses[sim.key])
    sim.world.run(300)
    assert len(sim.world.statuses[sim.key]) == told, "it is said once, though it is tried again and again"

    sim.world.cluster.admission.clear()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["restarts"] == 0


def test_without_kuberay_it_is_said_what_to_do_and_it_goes_on_when_that_is_done() -> None:
    sim = Ray(installed=False)
    sim.world.run(90)
    assert sim.ready == ("False", "KubeRayNotInstalled")
    assert sim.jobs == []
    writes = len(sim.world.writes)
    sim.world.run(300)
    assert len(sim.world.writes) == writes
    sim.install()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_a_worker_that_runs_out_of_memory_moves_the_whole_gang() -> None:
    sim = Ray(failurePolicy={"backoffSeconds": 0, "budgets": {"outOfMemory": 2}})
    sim.endless()
    sim.until_driven()
    sim.kuberay.restart_container(1)
    sim.until_driven(2)
    first, second = sim.jobs
    assert first["status"]["reason"] == "DeadlineExceeded", "the operator has ended it, and it stays as a record"
    assert [attempt_of(job) for job in (first, second)] == [1, 2]
    (attempt, _) = sim.status["attempts"]
    assert (attempt["reason"], attempt["failureClass"]) == ("OutOfMemory", "OutOfMemory")
    assert "(worker 1) ran out of memory" in attempt["message"]
    assert sim.status["failures"] == [{"failureClass": "OutOfMemory", "count": 1}]


def test_a_lost_head_moves_the_whole_gang_and_is_not_started_again() -> None:
    sim = Ray(failurePolicy={"backoffSeconds": 0})
    sim.endless()
    sim.until_driven()
    head = sim.kuberay.pod(0)
    sim.world.cluster.delete(ref_of(head))
    sim.until_driven(2)
    assert sim.status["attempts"][0]["reason"] == "PodDeleted"
    assert sim.status["failures"] == [{"failureClass": "Infrastructure", "count": 1}]


def test_a_pod_that_fails_and_is_replaced_before_anybody_looks_is_missed_all_the_same() -> None:
    sim = Ray(failurePolicy={"backoffSeconds": 0})
    sim.endless()
    sim.until_driven()
    sim.world.faults.frozen = {"Pod": sim.world.cluster.version}
    finish(sim.world.cluster, sim.kuberay.pod(1), code=137, reason="Evicted")
    sim.world.kubelets.obstacle = lambda pod: {}
    sim.world.run(3)
    sim.world.faults.frozen = {}
    sim.until(lambda: sim.status["attempts"][0].get("reason") is not None)
    assert sim.status["attempts"][0]["failureClass"] == "Infrastructure"


def test_the_worker_that_kuberay_makes_for_a_lost_one_is_not_waited_for() -> None:
    sim = Ray(failurePolicy={"backoffSeconds": 0})
    sim.endless()
    sim.until_driven()
    # Its init container waits for the head, and is the first process of a container: a signal does not end it.
    sim.world.kubelets.obstacle = lambda pod: {}
    sim.world.kubelets.deaf = True
    sim.world.faults.frozen = {"Pod": sim.world.cluster.version}
    sim.world.cluster.delete(ref_of(sim.kuberay.pod(1)))
    sim.world.run(3)
    assert sim.kuberay.pod(1)["status"]["phase"] == "Pending"
    sim.world.faults.frozen, seen = {}, stamp(sim.world.now)
    sim.until(lambda: len(sim.jobs) == 2)
    assert seconds_between(seen, sim.world.now) < 15


def test_what_the_driver_left_decides_what_its_failure_costs() -> None:
    sim = Ray(failurePolicy={"backoffSeconds": 0})
    sim.endless()
    sim.until_driven()
    sim.kuberay.driver_error = json.dumps({"reason": "DataInvalid", "message": "no column y", "retryable": False})
    sim.world.settle()
    assert sim.ready == ("False", "DataInvalid")
    assert "(worker 0): no column y" in sim.status["conditions"][0]["message"]


def test_a_suspension_takes_the_pods_and_the_same_attempt_goes_on_when_they_are_gone() -> None:
    sim = Ray()
    sim.endless()
    sim.until_driven()
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    assert sim.ready == ("False", "Suspended")
    assert not sim.world.cluster.of_kind("Pod")
    assert sim.jobs[0]["status"]["jobDeploymentStatus"] == "Suspended"
    sim.trainer.total = 4
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    (job,) = sim.jobs
    assert sim.status["attempt"] == attempt_of(job) == 1


def test_pods_that_leave_for_the_end_of_their_ray_job_are_no_loss_though_that_is_not_seen_yet() -> None:
    sim = Ray()
    sim.endless()
    sim.until_driven()
    sim.world.faults.frozen = {"RayJob": sim.world.cluster.version}
    sim.trainer.total = sim.kuberay.rounds[sim.jobs[0]["status"]["rayClusterName"]] + 1
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["attempt"] == 1
    assert not sim.status.get("failures")


def test_a_deleted_ray_job_costs_an_attempt_and_a_finished_one_nothing() -> None:
    sim = Ray(failurePolicy={"backoffSeconds": 0})
    sim.endless()
    sim.until_driven()
    sim.world.cluster.delete(ref_of(sim.jobs[0]))
    sim.until_driven(2)
    assert sim.status["attempts"][0]["reason"] == "JobDeleted"
    sim.trainer.total = 4
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    for job in sim.jobs:
        sim.world.cluster.delete(ref_of(job))
    sim.world.settle()
    assert sim.jobs == []
    assert sim.ready == ("True", "Succeeded")


def test_a_quota_lets_ray_jobs_in_as_it_does_jobs() -> None:
    quota = Quota("cpus", {"cpu": Decimal(4)})
    workers = {"replicas": 2, "resources": {"requests": {"cpu": "1"}}}
    sim = Ray(settings=Settings("runtime:1", "server:1", storage=SETTINGS.storage, quotas=(quota,)), workers=workers)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert any("patch RayJob" in words for words in sim.world.writes)


def test_a_crash_after_any_write_changes_nothing_in_the_end() -> None:
    calm = Ray()
    calm.world.settle()
    for number in range(1, len(calm.world.writes) + 1):
        sim = Ray()
        sim.world.faults.crash_after = number
        sim.world.settle()
        assert sim.ready == ("True", "Succeeded"), number
        assert len(sim.jobs) == 1
        sim.world.assert_steady()


def test_what_kuberay_refuses_costs_its_budget_where_a_quota_lets_it_in_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: KubeRay, job: Object, status: Object) -> None:
        status |= {"jobDeploymentStatus": "ValidationFailed", "message": "a name is too long"}

    monkeypatch.setattr(KubeRay, "_sync", refuse)
    quotas = replace(SETTINGS, quotas=(Quota("cluster", {"cpu": Decimal(4)}),))
    workers = {"replicas": 2, "resources": {"requests": {"cpu": 1}}}
    rules = [{"message": "*", "restart": True}]
    sim = Ray(settings=quotas, workers=workers, failurePolicy={"maxRestarts": 2, "rules": rules})
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted")
    assert [entry["reason"] for entry in sim.status["attempts"]] == ["RayJobRefused"] * 3
