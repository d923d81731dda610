"""One elastic TrainingJob on nodes that have room for so many pods, and not always for as many."""

from dataclasses import dataclass
from typing import Any

from modelwright.api.goodput import HELD
from modelwright.plan.actions import Object
from modelwright.plan.attempts import attempt_of, is_placeholder
from modelwright.plan.failures import RESIZED
from modelwright.plan.times import parse, stamp
from tests.simulation.chaos import Deed, Undo
from tests.simulation.cluster import key_of, ref_of
from tests.simulation.nodes import finish, pods_of
from tests.simulation.one_job import RECIPE, Simulation
from tests.simulation.world import World

WAIT, PAUSE = 10, 16
"""Seconds that a gang waits for room, and until it looks for more."""
WORKERS = {"replicas": 3, "elastic": {"min": 1, "waitSeconds": WAIT, "growAfterSeconds": PAUSE}}
ELASTIC = {**RECIPE, "workers": WORKERS}


@dataclass
class Nodes:
    """Nodes with room for so many pods of any kind, which they keep until the pod has ended."""

    world: World
    slots: int

    def obstacle(self, pod: Object) -> Object | None:
        """Return the status of a pod that finds no room; see `Kubelets`."""
        lost = self.world.kubelets.lost
        pods = self.world.cluster.of_kind("Pod")
        taken = [pod for pod in pods if pod["status"]["phase"] == "Running" and pod["metadata"]["uid"] not in lost]
        if len(taken) < self.slots:
            return None
        now = stamp(self.world.now)
        why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have room"}
        known = next(iter(pod["status"].get("conditions", ())), {"lastTransitionTime": now})
        return {"conditions": [{**why, "lastTransitionTime": known["lastTransitionTime"]}]}

    def step(self) -> None:
        """Let placeholders end whose time is up."""
        cluster = self.world.cluster
        for job in filter(is_placeholder, cluster.of_kind("Job")):
            (container,) = job["spec"]["template"]["spec"]["containers"]
            program, seconds = container["command"]
            assert program == "sleep"
            for pod in pods_of(cluster, job):
                (status,) = pod["status"].get("containerStatuses", [{}])
                since = status.get("state", {}).get("running", {}).get("startedAt")
                if since and (self.world.now - parse(since)).total_seconds() >= int(seconds):
                    finish(cluster, pod)


class Elastic(Simulation):
    """An elastic TrainingJob, and what must hold for it."""

    def __init__(
        self, spec: dict[str, Any] | None = None, *, slots: int = 3, labels: dict[str, str] | None = None
    ) -> None:
        super().__init__(spec or ELASTIC, labels)
        self.nodes = Nodes(self.world, slots)
        self.world.kubelets.obstacle = self.nodes.obstacle
        self.world.controllers.append(self.nodes)
        self.trainer.total, self.trainer.pause = 120, 10
        self.world.movement = self.moved
        self.world.invariants += [
            self.a_gang_is_as_large_as_it_says,
            self.placeholders_have_a_gang,
            self.workers_are_counted,
        ]

    @property
    def most_restarts(self) -> int:
        """Those for another number of workers are free."""
        statuses = self.world.statuses.get(self.key, ())
        told = {
            entry["number"]
            for status in statuses
            for entry in status.get("attempts", ())
            if entry.get("reason") in RESIZED
        }
        return super().most_restarts + len(told)

    @property
    def placeholders(self) -> list[Object]:
        return [job for job in self.world.cluster.of_kind("Job") if is_placeholder(job)]

    @property
    def sizes(self) -> list[tuple[int, str | None]]:
        """How many workers each attempt had, and why it ended."""
        return [(entry["workers"], entry.get("reason")) for entry in self.status["attempts"]]

    def moved(self) -> object:
        """Return what changes while anybody works, reported or not."""
        world, bucket = self.world, self.world.bucket
        done = (len(bucket.documents), len(bucket.moves), sum(self.trainer.steps.values()))
        return world.cluster.version, len(world.writes), *done

    def a_gang_is_as_large_as_it_says(self, world: World) -> None:
        """A Job has as many pods as its workers are told, and never fewer than the user allows."""
        wished = WORKERS["replicas"]
        for job in world.cluster.of_kind("Job"):
            if is_placeholder(job):
                continue
            (container,) = job["spec"]["template"]["spec"]["containers"]
            told = {entry["name"]: entry.get("value") for entry in container["env"]}["MODELWRIGHT_WORKERS"]
            assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(str(told)) <= wished
            recorded = [entry for entry in self.status.get("attempts", ()) if entry["number"] == attempt_of(job)]
            assert all(entry["workers"] == int(str(told)) for entry in recorded), recorded

    def workers_are_counted(self, world: World) -> None:
        """No second of the book has fewer workers than may be, or more than are wished for."""
        book = self.status.get("goodput", {})
        for bucket, weighted in book.get("workerSeconds", {}).items():
            seconds = book["seconds"][bucket]
            assert weighted == 0 or seconds <= weighted <= WORKERS["replicas"] * seconds, book
        held = sum(book.get("seconds", {}).get(bucket, 0) for bucket in HELD)
        assert sum(book.get("workerSeconds", {}).values()) >= held, book

    def placeholders_have_a_gang(self, world: World) -> None:
        """Nothing looks for room for a job that is gone, has ended or stands still, beyond the time to see that."""
        assert len([job for job in self.placeholders if "deletionTimestamp" not in job["metadata"]]) <= 1

    def lose_room(self, index: int = 1) -> None:
        """Take a node away, with the pod on it."""
        self.nodes.slots -= 1
        self.trainer.lose_node(index)

    def deeds(self) -> dict[str, Deed]:
        """Return what may happen to this job; its room is not for others to say."""
        others = {name: deed for name, deed in super().deeds().items() if name not in ("no node", "image missing")}
        return {**others, "less room": self._less_room, "placeholder gone": self._remove_placeholder}

    def _less_room(self, world: World) -> Undo:
        self.nodes.slots -= 1
        self.trainer.fail("evicted", 1)

        def undo() -> None:
            self.nodes.slots += 1

        return undo

    def _remove_placeholder(self, world: World) -> None:
        for job in self.placeholders:
            found = world.cluster.get(key_of(job))
            if found is not None:
                world.cluster.delete(ref_of(found))
