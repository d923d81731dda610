"""A TrainingJob that is suspended and goes on, whatever happens to its pods meanwhile."""

import pytest

from modelwright.plan.podstatus import alive
from modelwright.plan.queueing import QUEUE_LABEL
from tests.simulation.nodes import Kueue
from tests.simulation.one_job import COMMAND, RECIPE, Simulation
from tests.unit.plan.training_world import running


def living(sim: Simulation) -> list[str]:
    return [pod["metadata"]["name"] for pod in sim.world.cluster.of_kind("Pod") if alive(pod)]


def paused(sim: Simulation) -> None:
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    assert sim.ready == ("False", "Suspended")


def resumed(sim: Simulation) -> None:
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()


@pytest.mark.parametrize("infrastructure", [0, 3])
def test_a_pause_that_ends_before_the_pods_have_left_costs_nothing(infrastructure: int) -> None:
    sim = Simulation(
        {**RECIPE, "failurePolicy": {"budgets": {"infrastructure": infrastructure}}}, {QUEUE_LABEL: "gpus"}
    )
    sim.world.controllers.append(Kueue(sim.world.cluster))
    sim.world.controllers.remove(sim.trainer)
    sim.until_pods_run()
    sim.world.kubelets.leaves_after = 20.0
    sim.world.edit(sim.key, suspend=True)
    sim.until(lambda: any("deletionTimestamp" in job["metadata"] for job in sim.world.cluster.of_kind("Job")))
    sim.world.run(3)
    sim.world.edit(sim.key, suspend=False)
    sim.world.run(3)
    assert living(sim), "it has not left yet"
    assert sim.ready == ("False", "Suspended")
    sim.world.settle()
    assert (sim.ready, sim.status["restarts"]) == (("False", "Starting"), 0)
    assert not sim.status.get("failures")


def test_pods_that_lost_their_job_go_when_the_user_suspends() -> None:
    sim = running()
    sim.world.edit(sim.key, suspend=True)
    sim.trainer.delete_job(orphan=True)
    sim.world.settle()
    assert sim.ready == ("False", "Suspended")
    assert living(sim) == []


@pytest.mark.parametrize("spec", [RECIPE, COMMAND])
def test_a_node_that_is_lost_during_a_pause_costs_nothing_and_holds_nothing_up(spec: dict[str, object]) -> None:
    sim = running({**spec, "failurePolicy": {"budgets": {"infrastructure": 0}}})
    sim.trainer.silence_node(1, gone=True)
    paused(sim)
    sim.world.run(200)
    assert living(sim) == []
    resumed(sim)
    assert sim.ready == ("False", "Training" if spec is COMMAND else "Starting")
    assert (sim.status["attempt"], sim.status["restarts"]) == (1, 0)


def test_a_pod_that_could_not_leave_before_the_pause_was_over_is_no_loss_either() -> None:
    sim = running({**RECIPE, "failurePolicy": {"budgets": {"infrastructure": 0}}})
    sim.trainer.silence_node(1, gone=True)
    sim.world.edit(sim.key, suspend=True)
    sim.world.run(5)
    assert (sim.ready, len(living(sim))) == (("False", "Suspended"), 1)
    resumed(sim)
    assert (sim.ready, sim.status["restarts"]) == (("False", "Starting"), 0)
