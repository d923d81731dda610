"""One TrainingJob in a world of its own: what it may suffer, what must hold for it, and what stays of it."""

from collections.abc import Callable
from typing import Any

from modelwright.plan import training
from modelwright.plan.actions import Object
from modelwright.plan.attempts import attempt_of
from tests.simulation.chaos import Deed, Undo
from tests.simulation.trainer import FAILURES, Trainer
from tests.simulation.world import World

RECIPE = {
    "workers": {"replicas": 2},
    "recipe": {"tabular": {"task": "Classification", "target": "y"}},
    "dataset": {"uri": "s3://data/rows.csv"},
    "model": {"name": "titanic", "promotion": {"metric": "accuracy"}},
}
COMMAND = {"workers": {"replicas": 2, "image": "mine", "command": ["python", "main.py"]}}
RAY = {**RECIPE, "framework": "Ray"}
MAX_RESTARTS = 3
KINDS = ("TrainingJob", "Job", "Pod", "Service")
_TIMES = frozenset(
    # What depends on when the operator looked, or on a report that may be lost.
    {"startTime", "completionTime", "endTime", "activeSeconds", "lastTransitionTime", "progress", "checkpoint", "at"}
    | {"resumedFromStep", "time"}
)


class Simulation:
    """One TrainingJob in a world of its own, and what must hold for it."""

    def __init__(self, spec: dict[str, Any] | None = None, labels: dict[str, str] | None = None) -> None:
        self.world = World({"TrainingJob": training.plan})
        self.trainer = Trainer(self.world)
        self.world.controllers.append(self.trainer)
        self.key = self.world.add("TrainingJob", "a", spec or RECIPE, labels)
        self.jobs_seen: set[int] = set()
        self.world.invariants += [self.budget_is_kept]

    @property
    def ready(self) -> tuple[str, str] | None:
        return self.world.condition(self.key)

    @property
    def status(self) -> dict[str, Any]:
        return self.world.status(self.key)

    def budget_is_kept(self, world: World) -> None:
        self.jobs_seen |= {attempt_of(job) for job in world.cluster.of_kind("Job")}
        assert self.jobs_seen == set(range(1, len(self.jobs_seen) + 1))
        assert len(self.jobs_seen) <= MAX_RESTARTS + 1
        assert self.status.get("restarts", 0) <= MAX_RESTARTS

    def the_end_is_final(self, world: World) -> None:
        """The first outcome stays. (Only a process that forgets its own writes may write an older status over it.)"""
        ended = [entry for entry in world.statuses.get(self.key, ()) if "completionTime" in entry]
        outcomes = {(entry["completionTime"], entry["conditions"][0]["reason"]) for entry in ended}
        assert len(outcomes) <= 1, outcomes

    def until_pods_run(self) -> None:
        """Take steps until a pod runs."""
        self.until(lambda: any(pod["status"]["phase"] == "Running" for pod in self.world.cluster.of_kind("Pod")))

    def until(self, happens: Callable[[], bool]) -> None:
        """Take steps until something is so. Raises AssertionError where that never comes."""
        for _ in range(400):
            if happens():
                return
            self.world.step()
        raise AssertionError("it never happens")

    def end_state(self) -> Object:
        """Return all that stays, without times, and without what a lost report lacks."""
        jobs = {
            key.name: attempt_of(self.world.cluster.objects[key])
            for key in self.world.cluster.objects
            if key.kind == "Job"
        }
        return {
            "status": _timeless(self.status),
            "jobs": jobs,
            "alias": self.world.bucket.moves,
            "keys": sorted(self.world.bucket.documents),
        }

    def deeds(self) -> dict[str, Deed]:
        """Return what may happen to this job, and to no other kind."""
        return {
            **{f"pod fails: {how}": self._failing(how) for how in FAILURES},
            "node lost": lambda world: self.trainer.lose_node(1),
            "pod deleted": lambda world: self.trainer.delete_pod(1),
            "job deleted": lambda world: self.trainer.delete_job(),
            "job orphaned": lambda world: self.trainer.delete_job(orphan=True),
            "dies after result": self._die_after_result,
            "suspended": self._suspend,
            "reports lost": self._lose_reports,
            "rival promoted": self._promote_rival,
            "image missing": self._hold_pods(_IMAGE_MISSING),
            "no node": self._hold_pods(_UNSCHEDULABLE),
        }

    def _failing(self, how: str) -> Deed:
        return lambda world: self.trainer.fail(how, 1)

    def _die_after_result(self, world: World) -> None:
        self.trainer.dies_after_result = True

    def _suspend(self, world: World) -> Undo:
        world.edit(self.key, suspend=True)
        return lambda: world.edit(self.key, suspend=False)

    def _lose_reports(self, world: World) -> Undo:
        self.trainer.reports_lost = True
        return lambda: setattr(self.trainer, "reports_lost", False)

    def _promote_rival(self, world: World) -> None:
        version = world.bucket.register("titanic", {"job": "rival"})
        world.bucket.set_alias("titanic", "champion", version, "rival", "it is better")

    def _hold_pods(self, status: Object) -> Deed:
        def deed(world: World) -> Undo:
            world.kubelets.obstacle = lambda pod: status
            return lambda: setattr(world.kubelets, "obstacle", None)

        return deed


SPENDING = frozenset(
    {*(f"pod fails: {how}" for how in FAILURES), "node lost", "pod deleted", "job deleted", "job orphaned"}
)
"""Each costs a restart at most."""
FINAL = "pod fails: final"
_IMAGE_MISSING = {
    "containerStatuses": [
        {"name": "worker", "image": "runtime:1", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    ]
}
_UNSCHEDULABLE = {
    "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    ]
}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(entry) for name, entry in value.items() if name not in _TIMES}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value
