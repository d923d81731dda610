"""One TrainingJob in a world of its own: what it may suffer beside what every owner of gangs does."""

from itertools import pairwise
from typing import Any

from modelwright.api.failurepolicy import FailurePolicy
from modelwright.plan import training
from modelwright.plan.failures import RESIZED, Cause
from modelwright.plan.times import parse, seconds_between
from tests.simulation.chaos import Deed
from tests.simulation.one_owner import MAX_RESTARTS, OneOwner
from tests.simulation.world import World

RECIPE = {
    "workers": {"replicas": 2},
    "recipe": {"tabular": {"task": "Classification", "target": "y"}},
    "dataset": {"uri": "s3://data/rows.csv"},
    "model": {"name": "titanic", "promotion": {"metric": "accuracy"}},
    "failurePolicy": {"maxRestarts": MAX_RESTARTS},
}
COMMAND = {
    "workers": {"replicas": 2, "image": "mine", "command": ["python", "main.py"]},
    "failurePolicy": {"maxRestarts": MAX_RESTARTS},
}
LOGGED_COMMAND = {**COMMAND, "workers": {"replicas": 2, "command": ["python", "main.py"]}}
"""Of our own image, which keeps the end of the log, and that the program ended well."""
RAY = {**RECIPE, "framework": "Ray"}


class Simulation(OneOwner):
    """One TrainingJob in a world of its own, and what must hold for it."""

    def __init__(self, spec: dict[str, Any] | None = None, labels: dict[str, str] | None = None) -> None:
        super().__init__({"TrainingJob": training.plan}, "TrainingJob", spec or RECIPE, labels)
        self.world.invariants += [self.budgets_hold, self.every_second_is_in_one_bucket]

    @property
    def most_restarts(self) -> int:
        """Preemptions are free."""
        return MAX_RESTARTS + self.trainer.preempted

    def budgets_hold(self, world: World) -> None:
        """No class of failure has cost more than its budget, and the loss that ended the job; each loss cost once."""
        job = world.cluster.get(self.key)
        if job is None:
            return
        budgets = FailurePolicy.model_validate(job["spec"].get("failurePolicy", {})).budgets.document()
        charged = sum(entry["count"] for entry in self.status.get("failures", ()))
        # Nor does anybody pay for one whose time was up, when its user gives it more.
        unpaid = {*RESIZED, Cause.DEADLINE_EXCEEDED}
        free = sum(entry.get("reason") in unpaid for entry in self.status.get("attempts", ()))
        assert self.status.get("restarts", 0) - free <= charged <= self.status.get("attempt", 0), self.status
        for entry in self.status.get("failures", ()):
            kind = entry["failureClass"]
            limit = budgets.get(kind[0].lower() + kind[1:])
            assert limit is None or entry["count"] <= limit + 1, entry

    def every_second_is_in_one_bucket(self, world: World) -> None:
        """The book adds up to the time that has passed, and knows of no training that did not happen."""
        job = world.cluster.get(self.key)
        book = self.status.get("goodput")
        if job is None or book is None:
            return
        counted = sum(book["seconds"].values()) + book["suspendedSeconds"]
        assert counted == seconds_between(job["metadata"]["creationTimestamp"], parse(book["asOf"])), book
        assert parse(book["asOf"]) <= world.now
        assert ("current" in book) == ("completionTime" not in self.status)
        assert self.status.get("completionTime", book["asOf"]) == book["asOf"]
        assert book["seconds"]["training"] + book["seconds"]["lost"] <= self.trainer.trained, book

    def no_bucket_is_emptied(self, world: World) -> None:
        """What was counted stays where it is. (Only a process that forgets its own writes may go back.)"""
        books = [status["goodput"]["seconds"] for status in world.statuses.get(self.key, ()) if "goodput" in status]
        for before, after in pairwise(books[-2:]):
            assert all(after[bucket] >= seconds for bucket, seconds in before.items()), (before, after)

    def deeds(self) -> dict[str, Deed]:
        """Return what may happen to this job."""
        return {**super().deeds(), "rival promoted": self._promote_rival}

    def _promote_rival(self, world: World) -> None:
        version = world.bucket.register("titanic", {"job": "rival"})
        world.bucket.set_alias("titanic", "champion", version, "rival", "it is better")
