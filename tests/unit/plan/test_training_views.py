"""A TrainingJob as seen by views that are behind: nothing is made twice, and nothing begins too early."""

from typing import Any

from modelwright.plan import training
from modelwright.plan.actions import Apply, Plan
from modelwright.plan.attempts import attempt_of, finished
from modelwright.plan.observed import Observed
from modelwright.plan.podstatus import failed
from modelwright.plan.questions import Answer, Question, ReadDocument, ReadLive
from tests.simulation.cluster import Key
from tests.simulation.one_job import COMMAND, Simulation
from tests.simulation.world import SETTINGS
from tests.unit.plan.training_world import running


def old_view(sim: Simulation, **live: Any) -> Plan:
    """Plan on a view without the newest Job and its pods, while the API server has the job as it is, and more."""
    found = sim.world.cluster.get(sim.key)
    jobs = [job for job in sim.world.cluster.of_kind("Job") if finished(job)]
    pods = [pod for pod in sim.world.cluster.of_kind("Pod") if failed(pod)]
    children = {"Job": tuple(jobs), "Pod": tuple(pods), "Service": tuple(sim.world.cluster.of_kind("Service"))}
    assert found is not None
    answers: dict[Question, Answer] = {}
    for _ in range(5):
        planned = training.plan(Observed(found, children, answers=answers), SETTINGS, sim.world.now)
        if isinstance(planned, Plan):
            return planned
        for question in planned.questions:
            answers[question] = None if isinstance(question, ReadDocument) else True
            if isinstance(question, ReadLive):
                now = sim.world.cluster.get(Key(question.kind, question.namespace, question.name))
                ours = now is not None and question.kind == "TrainingJob"
                answers[question] = {**now, "status": {**now["status"], **live}} if now is not None and ours else now
    raise AssertionError("it goes on asking")


def test_a_job_that_a_view_lacks_is_not_replaced_while_the_api_server_has_it() -> None:
    sim = running()
    sim.trainer.fail("exit")
    sim.world.run(3)
    sim.until_pods_run()
    sim.world.run(2)
    assert old_view(sim).actions == ()


def test_an_attempt_is_not_started_on_a_status_that_is_behind() -> None:
    sim = running({**COMMAND, "failurePolicy": {"backoffSeconds": 0}})
    sim.world.faults.frozen = dict.fromkeys(("TrainingJob", "Pod", "Job"), sim.world.cluster.version)
    sim.trainer.fail("exit")
    sim.world.run(3)
    told = old_view(sim)
    assert (told.actions, told.wake_after) == ((), 0.0), "the loss is told first"
    found = sim.world.cluster.get(sim.key)
    assert found is not None
    sim.world.cluster.update({**found, "status": told.status})
    assert any(isinstance(action, Apply) for action in old_view(sim).actions)
    assert old_view(sim, attempt=2).actions == ()
    assert old_view(sim, completionTime="2026-11-23T10:00:00Z").actions == ()


def test_a_new_attempt_waits_for_the_pods_of_a_deleted_job() -> None:
    sim = running()
    sim.world.kubelets.lost.add(sim.world.cluster.of_kind("Pod")[0]["metadata"]["uid"])
    sim.trainer.delete_job(orphan=True)
    sim.world.run(60)
    assert sim.world.cluster.of_kind("Job") == []
    assert [attempt_of(pod) for pod in sim.world.cluster.of_kind("Pod")] == [1]
    sim.until(lambda: len(sim.world.cluster.of_kind("Job")) == 1)
    assert not [pod for pod in sim.world.cluster.of_kind("Pod") if attempt_of(pod) == 1]
