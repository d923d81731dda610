"""One object that owns gangs, in a world of its own: what it may suffer, what must hold for it, and what is left."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from modelwright.plan.actions import Object
from modelwright.plan.attempts import attempt_of, is_placeholder
from modelwright.plan.observed import OWNER_UID_LABEL
from tests.simulation.chaos import Deed, Undo
from tests.simulation.nodes import Kueue
from tests.simulation.operator import Planner
from tests.simulation.profile import THOROUGH
from tests.simulation.trainer import FAILURES, Trainer
from tests.simulation.world import World

MAX_RESTARTS = 3
_TIMES = frozenset(
    # What depends on when the operator looked, or on a report that may be lost.
    {"startTime", "completionTime", "endTime", "activeSeconds", "lastTransitionTime", "progress", "checkpoint", "at"}
    | {"resumedFromStep", "lastStep", "lostSteps", "time", "goodput"}
)


class OneOwner:
    """One object that owns gangs, in a world of its own, and what must hold for it."""

    def __init__(
        self, planners: Mapping[str, Planner], kind: str, spec: Mapping[str, Any], labels: Mapping[str, str] | None
    ) -> None:
        self.world = World(planners)
        self.trainer = Trainer(self.world)
        self.world.controllers.append(self.trainer)
        self.key = self.world.add(kind, "a", spec, labels)
        self.attempts_seen: dict[str, set[int]] = {}
        """By the UID of who owns the Jobs."""
        self.world.invariants.append(self.restarts_are_counted)

    @property
    def ready(self) -> tuple[str, str] | None:
        return self.world.condition(self.key)

    @property
    def status(self) -> dict[str, Any]:
        return self.world.status(self.key)

    @property
    def most_restarts(self) -> int:
        """How many restarts the object may have had by now."""
        return MAX_RESTARTS

    def restarts_are_counted(self, world: World) -> None:
        for job in world.cluster.of_kind("Job"):
            if is_placeholder(job):
                continue
            self.attempts_seen.setdefault(job["metadata"]["labels"][OWNER_UID_LABEL], set()).add(attempt_of(job))
        for seen in self.attempts_seen.values():
            assert seen == set(range(1, len(seen) + 1))
            assert len(seen) <= self.most_restarts + 1
        assert self.status.get("restarts", 0) <= self.most_restarts

    def the_end_is_final(self, world: World) -> None:
        """The first outcome stays. (Only a process that forgets its own writes may write an older status over it.)"""
        for statuses in world.statuses.values():
            ended = [entry for entry in statuses if "completionTime" in entry]
            outcomes = {(entry["completionTime"], entry["conditions"][0]["reason"]) for entry in ended}
            assert len(outcomes) <= 1, outcomes

    def until_pods_run(self) -> None:
        """Take steps until a pod runs."""
        self.until(lambda: any(pod["status"]["phase"] == "Running" for pod in self.world.cluster.of_kind("Pod")))

    def until_attempt_runs(self, number: int) -> None:
        """Take steps until a pod of an attempt runs."""

        def runs() -> bool:
            pods = [pod for pod in self.world.cluster.of_kind("Pod") if attempt_of(pod) == number]
            return any(pod["status"]["phase"] == "Running" for pod in pods)

        self.until(runs)

    def until(self, happens: Callable[[], bool]) -> None:
        """Take steps until something is so. Raises AssertionError where that never comes."""
        for _ in range(400):
            if happens():
                return
            self.world.step()
        raise AssertionError("it never happens")

    def end_state(self) -> Object:
        """Return all that stays, without times, and without what a lost report lacks."""
        cluster, bucket = self.world.cluster, self.world.bucket
        left = sorted(key for key in self.world.statuses if key in cluster.objects)
        return {
            "statuses": [(key, _timeless(self.world.status(key))) for key in left],
            "jobs": [(job["metadata"]["name"], attempt_of(job)) for job in cluster.of_kind("Job")],
            "alias": bucket.moves,
            "keys": sorted(bucket.documents),
        }

    def deeds(self) -> dict[str, Deed]:
        """Return what may happen to an owner of gangs."""
        return {
            **{f"pod fails: {how}": self._failing(how) for how in FAILURES},
            "node lost": lambda world: self.trainer.lose_node(1),
            "node vanishes": lambda world: self.trainer.silence_node(1, gone=True),
            "kubelet silent": self._silence,
            "pod deleted": lambda world: self.trainer.delete_pod(1),
            "job deleted": lambda world: self.trainer.delete_job(),
            "job orphaned": lambda world: self.trainer.delete_job(orphan=True),
            "dies after result": self.die_after_result,
            "suspended": self._suspend,
            "reports lost": self.lose_reports,
            "image missing": self._hold_pods(_IMAGE_MISSING),
            "no node": self._hold_pods(_UNSCHEDULABLE),
        }

    def die_after_result(self, world: World) -> None:
        """Let a pod die when the result is there."""
        self.trainer.dies_after_result = True

    def lose_reports(self, world: World) -> Undo:
        """Let no report arrive."""
        self.trainer.reports_lost = True
        return lambda: setattr(self.trainer, "reports_lost", False)

    def _silence(self, world: World) -> Undo:
        self.trainer.silence_node(gone=False)
        return world.nodes.answer

    def _failing(self, how: str) -> Deed:
        return lambda world: self.trainer.fail(how, 1)

    def _suspend(self, world: World) -> Undo:
        world.edit(self.key, suspend=True)
        return lambda: world.edit(self.key, suspend=False)

    def _hold_pods(self, status: Object) -> Deed:
        def deed(world: World) -> Undo:
            world.kubelets.obstacle = lambda pod: status
            return lambda: setattr(world.kubelets, "obstacle", None)

        return deed


SPENDING = frozenset(
    {*(f"pod fails: {how}" for how in FAILURES), "node lost", "node vanishes"}
    | {"pod deleted", "job deleted", "job orphaned"}
)
"""Each costs a restart at most."""
FINAL = "pod fails: final"
_FATES = ("conflict", "error", "timeout")
"""Of a write that fails."""
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


class Play(Protocol):
    """A scenario, to be played as often as one likes; each time another write may go wrong."""

    def __call__(self, crash_after: int | None = None, fates: tuple[str, ...] = ()) -> OneOwner:
        """Play it to its end."""


def prepare(sim: OneOwner, crash_after: int | None, fates: tuple[str, ...]) -> None:
    """Add what every scenario has: Kueue for those that queue, and the write that goes wrong."""
    sim.world.controllers.append(Kueue(sim.world.cluster))
    sim.world.faults.crash_after = crash_after
    sim.world.faults.next_writes.extend(fates)


def assert_no_crash_changes_anything(play: Play) -> None:
    """Let the operator die after every write of a scenario, each in a run of its own."""
    calm = play()
    for number in range(1, len(calm.world.writes) + 1):
        crashed = play(crash_after=number)
        assert crashed.world.crashes == 1
        assert crashed.end_state() == calm.end_state(), f"after write {number}, {calm.world.writes[number - 1]}"
        # What was done and not recorded is done once more at most: the actions of one plan, and its status.
        assert len(crashed.world.writes) <= len(calm.world.writes) + 4
        crashed.world.assert_steady()


def assert_every_failed_write_is_made_good(play: Play, turn: int = 0) -> None:
    """Let every write of a scenario fail, each in a run of its own; the thorough way in every manner.

    Else the manners take turns: scenarios with another `turn` let the same write fail in another one.
    """
    calm = play()
    for number in range(len(calm.world.writes)):
        for fate in _FATES if THOROUGH else [_FATES[(number + turn) % len(_FATES)]]:
            hurt = play(fates=(*["ok"] * number, fate))
            assert hurt.end_state() == calm.end_state(), f"{fate} at write {number + 1}, {calm.world.writes[number]}"
            hurt.world.assert_steady()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(entry) for name, entry in value.items() if name not in _TIMES}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value
