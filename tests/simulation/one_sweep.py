"""One TuningSweep in a world of its own, with its winner: what it may suffer, and what must hold for both."""

import math
from typing import Any

from modelwright.plan import training, tuning
from modelwright.plan.actions import Object
from modelwright.plan.conditions import has_ended
from modelwright.plan.observed import OWNER_UID_LABEL, TRIGGER_ANNOTATION
from tests.simulation.chaos import Deed, Undo
from tests.simulation.cluster import Key, key_of
from tests.simulation.one_job import RECIPE
from tests.simulation.one_owner import OneOwner
from tests.simulation.tuner import Tuner, parameters_of, value_of
from tests.simulation.world import World

MAX_TRIALS = 4
SWEEP = {
    "template": RECIPE,
    "searchSpace": [{"name": "neuralNetwork.learningRate", "float": {"min": 0.0001, "max": 0.1, "log": True}}],
    "objective": {"metric": "accuracy"},
    "maxTrials": MAX_TRIALS,
    "parallelism": 2,
    "workers": {"replicas": 2},
    "winner": {"train": True},
}


class Simulation(OneOwner):
    """One TuningSweep in a world of its own, and what must hold for it and its winner."""

    def __init__(self, spec: dict[str, Any] | None = None, labels: dict[str, str] | None = None) -> None:
        planners = {"TuningSweep": tuning.plan, "TrainingJob": training.plan}
        super().__init__(planners, "TuningSweep", spec or SWEEP, labels)
        self.tuner = Tuner(self.world)
        self.world.controllers.append(self.tuner)
        self.uid = self.world.cluster.objects[self.key]["metadata"]["uid"]
        self.winners: dict[str, Object] = {}
        """Every TrainingJob that the sweep ever made, by its UID."""
        self.judged = 0
        self.world.invariants += [self.what_is_told_of_trials_is_true, self.one_winner_is_trained]

    @property
    def winner(self) -> Object:
        """The only TrainingJob of the sweep."""
        (only,) = self.winners.values()
        return only

    @property
    def winner_key(self) -> Key:
        """The address of that TrainingJob."""
        return key_of(self.winner)

    def until_trials_end(self, count: int) -> None:
        """Take steps until so many trials of a driver have ended."""
        self.until(lambda: any(len(driver.book.ended) >= count for driver in self.tuner.drivers.values()))

    def what_is_told_of_trials_is_true(self, world: World) -> None:
        """No NaN is ever the best, nothing in sight is better, and no more trials are told of than were ordered."""
        statuses = world.statuses.get(self.key, [])
        for status in statuses[self.judged :]:
            assert sum(status.get("trials", {}).values()) <= MAX_TRIALS, status["trials"]
            best = status.get("bestTrial")
            if best is not None:
                number = best["number"]
                assert best["value"] == value_of(number)
                assert best["parameters"] == [entry.document() for entry in parameters_of(number)]
                values = [trial.get("value") for trial in status["history"]]
                assert best["value"] == max(value for value in values if value is not None and math.isfinite(value))
        self.judged = len(statuses)

    def one_winner_is_trained(self, world: World) -> None:
        """At most one TrainingJob is ever made, of the best of all trials, and not before the search is over."""
        for job in world.cluster.of_kind("TrainingJob"):
            if job["metadata"].get("labels", {}).get(OWNER_UID_LABEL) == self.uid:
                self.winners.setdefault(job["metadata"]["uid"], job)
        assert len(self.winners) <= 1
        if self.winners and "completionTime" in self.status:
            number = self.status["bestTrial"]["number"]
            assert self.winner["metadata"]["annotations"][TRIGGER_ANNOTATION] == f"TuningSweep/a trial {number}"
            network = self.winner["spec"]["recipe"]["tabular"]["neuralNetwork"]
            assert network == {"learningRate": number / 1000}

    def the_winner_is_waited_for(self, world: World) -> None:
        """A sweep that deletes itself takes no winner with it that is being trained."""
        if self.key not in world.cluster.objects:
            for job in self.winners.values():
                assert has_ended({"status": world.statuses.get(key_of(job), [{}])[-1]})

    def deeds(self) -> dict[str, Deed]:
        """Return what may happen to this sweep."""
        return {**super().deeds(), "careless": self._be_careless, "winner refused": _refuse_winner}

    def die_after_result(self, world: World) -> None:
        """Let the driver, or a pod of the winner's, die when its result is there."""
        super().die_after_result(world)
        self.tuner.dies_after_result = True

    def lose_reports(self, world: World) -> Undo:
        """Let no report arrive."""
        heard = super().lose_reports(world)
        self.tuner.reports_lost = True

        def undo() -> None:
            heard()
            self.tuner.reports_lost = False

        return undo

    def _be_careless(self, world: World) -> Undo:
        self.tuner.careless = True
        return lambda: setattr(self.tuner, "careless", False)


def _refuse_winner(world: World) -> Undo:
    def policy(document: Object) -> str | None:
        return "no quota" if document["kind"] == "TrainingJob" else None

    world.cluster.admission.append(policy)
    return lambda: world.cluster.admission.remove(policy)
