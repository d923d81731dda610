"""A TrainingJob in a simulated world, brought to where a test begins."""

from typing import Any

from modelwright.api.run import TrainingReport
from modelwright.plan.settings import Settings
from tests.simulation.nodes import Kueue
from tests.simulation.one_job import Simulation


def message(sim: Simulation) -> str:
    return str(sim.status["conditions"][0]["message"])


def running(spec: dict[str, Any] | None = None, labels: dict[str, str] | None = None) -> Simulation:
    """Return a job whose pods all run, and never end by themselves; one that is queued is admitted by Kueue."""
    sim = Simulation(spec, labels)
    sim.world.controllers.remove(sim.trainer)
    if labels:
        sim.world.controllers.append(Kueue(sim.world.cluster))
    sim.until_pods_run()
    sim.world.run(2)
    return sim


def with_settings(settings: Settings) -> Simulation:
    sim = Simulation()
    sim.world.settings = settings
    sim.world.crash()
    sim.world.settle()
    return sim


def report(sim: Simulation, attempt: int = 1, **fields: Any) -> None:
    uid = sim.world.cluster.objects[sim.key]["metadata"]["uid"]
    sim.world.operator.report(uid, TrainingReport(attempt=attempt, **fields))
    # Reports lead to a look every three seconds at most.
    sim.world.run(4)
