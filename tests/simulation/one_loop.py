"""A model that serves, is watched, and is trained again: what may go wrong with the whole loop, and what must hold."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from modelwright.api.run import TrainingResult
from modelwright.plan import deployment, drift, incidents, training
from modelwright.plan.actions import Object
from modelwright.plan.conditions import has_ended
from modelwright.plan.times import parse
from tests.simulation.alerts import Alertmanager
from tests.simulation.chaos import Deed, Undo
from tests.simulation.cluster import ref_of
from tests.simulation.deployments import Servers
from tests.simulation.nodes import finish
from tests.simulation.one_deployment import Guard, timeless
from tests.simulation.traffic import EVERY, MOVED, STILL, Traffic
from tests.simulation.trainer import FAILURES, Trainer
from tests.simulation.world import World

MODEL = "churn-model"
LABELS = {"team": "ml"}
COOLDOWN, PER_DAY = timedelta(seconds=100), 3
DEPLOYMENT = {
    "replicas": 1,
    "model": {"name": MODEL, "alias": "champion"},
    "monitoring": {"windowSeconds": int(EVERY.total_seconds())},
    "rollout": {"progressDeadlineSeconds": 86400, "drainSeconds": 10},
}
POLICY = {
    "deployment": {"name": "churn"},
    "test": {"windowSeconds": 60, "intervalSeconds": 30, "consecutive": 2},
    "alerts": {"matchLabels": LABELS},
    "retraining": {
        "template": {
            "recipe": {"tabular": {"task": "Classification", "target": "y"}},
            "dataset": {"uri": "s3://data/rows.csv"},
            "model": {"name": MODEL, "promotion": {"metric": "accuracy"}},
        },
        "cooldownSeconds": int(COOLDOWN.total_seconds()),
        "maxPerDay": PER_DAY,
    },
}
ALERTS = ("a", "b", "c")
_A_TEST = frozenset({"time", "samples", "consecutive", "columns", "observedGeneration"})
"""What every drift test writes, though nothing has changed."""
_A_DAY = timedelta(days=1)


class Simulation:
    """A ModelDeployment that follows an alias, and a DriftPolicy that watches it."""

    def __init__(self, policy: Mapping[str, Any] | None = None) -> None:
        planners = {"ModelDeployment": deployment.plan, "DriftPolicy": drift.plan, "TrainingJob": training.plan}
        # Enough to outlast the cooldown and the repetition of an alert.
        self.world = World(planners, idle_looks=8)
        self.trainer = Trainer(self.world)
        self.world.controllers.append(self.trainer)
        self.servers = Servers(self.world)
        self.traffic = Traffic(self.world, self.servers, "churn", MODEL)
        self.world.bucket.register(MODEL, {"number": 1})
        self.world.bucket.set_alias(MODEL, "champion", 1, "somebody", "it is the first")
        self.guard = Guard(self.world, "churn", self.servers)
        self.deployment = self.world.add("ModelDeployment", "churn", DEPLOYMENT)
        self.policy = self.world.add("DriftPolicy", "watchful", policy or POLICY)
        self.alertmanager = Alertmanager(self.world, self.policy, LABELS)
        self.started: dict[str, tuple[str, datetime]] = {}
        """Incident and time of every retraining ever, by UID."""
        self.record_may_go = False
        """Whether an old status may be written over the record of a retraining; where that is deleted too, it is gone
        without a trace, and counts no more."""
        self.moves_by_hand = {0}
        """Which moves of the alias were not the gate's."""
        self._moves_seen = 1
        self._log_read = self._changes = 0
        self.world.movement = self._movement
        self.world.invariants += [self.retrainings_are_rationed, self.alias_is_won, self.no_alert_is_lost]

    @property
    def status(self) -> dict[str, Any]:
        return self.world.status(self.policy)

    @property
    def ready(self) -> tuple[str, str] | None:
        return self.world.condition(self.policy)

    @property
    def outcomes(self) -> dict[str, str]:
        """What became of the incidents, by their names."""
        return {entry["name"]: entry["outcome"] for entry in self.status.get("incidents", ())}

    @property
    def champion(self) -> int:
        return self.world.bucket.moves[-1][1]

    def retrainings_are_rationed(self, world: World) -> None:
        """One TrainingJob an incident, one at a time, no two within the cooldown, and so many a day."""
        jobs = world.cluster.of_kind("TrainingJob")
        assert sum(not has_ended(job) for job in jobs) <= 1
        if self.record_may_go:
            traces = {job["metadata"]["uid"] for job in jobs}
            recorded = {entry["id"] for entry in self.status.get("incidents", ()) if "trainingJob" in entry}
            self.started = {uid: start for uid, start in self.started.items() if uid in traces or start[0] in recorded}
        for job in jobs:
            mark, uid = incidents.mark_of(job), job["metadata"]["uid"]
            assert mark is not None
            if uid in self.started:
                continue
            at = parse(job["metadata"]["creationTimestamp"])
            earlier = [(incident, start) for incident, start in self.started.values()]
            assert mark.id not in [incident for incident, _ in earlier], "an incident got a second TrainingJob"
            assert all(at - start >= COOLDOWN for _, start in earlier), "the cooldown was not kept"
            assert sum(at - start < _A_DAY for _, start in earlier) < PER_DAY, "the daily limit was not kept"
            self.started[uid] = (mark.id, at)

    def alias_is_won(self, world: World) -> None:
        """An alias moves to a version only where that was compared with the holder, and was better."""
        moves = world.bucket.moves
        for number in range(self._moves_seen, len(moves)):
            if number not in self.moves_by_hand:
                seen = self._result(moves[number][1]).comparison
                assert seen is not None
                assert seen.incumbent_version == moves[number - 1][1]
                assert seen.lower_bound > 0
        self._moves_seen = len(moves)

    def no_alert_is_lost(self, world: World) -> None:
        """What Alertmanager was told 200 about is on record."""
        found = world.cluster.get(self.policy)
        if found is not None and self.alertmanager.answered:
            recorded = {entry["id"] for entry in found.get("status", {}).get("incidents", ())}
            known = {incidents.of_alert(found["metadata"]["uid"], alert).id for alert in self._answered()}
            assert known <= recorded

    def until(self, happens: Callable[[], bool]) -> None:
        """Take steps until something is so. Raises AssertionError where that never comes."""
        for _ in range(600):
            if happens():
                return
            self.world.step()
        raise AssertionError("it never happens")

    def until_training(self) -> None:
        """Take steps until a worker of a TrainingJob runs."""
        self.until(lambda: any(_trains(pod) for pod in self.world.cluster.of_kind("Pod")))

    def assert_steady(self) -> None:
        """Check that nobody finds anything to write, a drift test that is due left aside."""
        self.world.operator.reconcile(self.policy)
        self.world.assert_steady()

    def end_state(self) -> Object:
        """Return all that stays, without times and what else a drift test writes."""
        status = _settled(self.status)
        # Ids and names of jobs hold times.
        for entry in status.get("incidents", ()):
            del entry["id"], entry["message"]
            entry.pop("trainingJob", None)
        status.get("incidents", []).sort(key=lambda entry: str(entry["name"]))
        return {
            "policy": {name: status[name] for name in ("drift", "incidents") if name in status},
            "ready": self.ready,
            "deployment": timeless(self.world.status(self.deployment)),
            "retrainings": len(self.started),
            "moves": self.world.bucket.moves,
        }

    def deeds(self) -> dict[str, Deed]:
        """Return what may happen to the loop."""
        return {
            **{f"alert {name}": self._alert(name) for name in ALERTS},
            **{f"training fails: {how}": self._fail(how) for how in FAILURES},
            "a minute passes": self._wait(minutes=1),
            "five minutes pass": self._wait(minutes=5),
            "hours pass": self._wait(hours=9),
            "notified again": lambda world: self.alertmanager.repeat(),
            "world moves": lambda world: setattr(self.traffic, "present", MOVED),
            "world moves back": lambda world: setattr(self.traffic, "present", STILL),
            "not better": self._not_better,
            "dies after result": lambda world: setattr(self.trainer, "dies_after_result", True),
            "retraining deleted": self._delete_retraining,
            "retraining refused": self._refuse,
            "suspended": self._suspend,
            "rival promoted": self._promote_rival,
            "server killed": lambda world: self.servers.kill(0),
            "server evicted": lambda world: self.servers.evict(0),
            "server's node lost": lambda world: self.servers.lose_node(0),
        }

    def _alert(self, name: str) -> Deed:
        def deed(world: World) -> Undo:
            self.alertmanager.fire(name)
            return lambda: self.alertmanager.resolve(name)

        return deed

    def _wait(self, **time: float) -> Deed:
        return lambda world: setattr(world, "now", world.now + timedelta(**time))

    def _fail(self, how: str) -> Deed:
        def deed(world: World) -> None:
            for pod in world.cluster.of_kind("Pod"):
                if _trains(pod):
                    finish(world.cluster, pod, **FAILURES[how])

        return deed

    def _not_better(self, world: World) -> Undo:
        self.trainer.improvement = -0.02
        return lambda: setattr(self.trainer, "improvement", 0.02)

    def _delete_retraining(self, world: World) -> None:
        # One that no status speaks of can be deleted without a trace: nobody could know that it was.
        known = {entry.get("trainingJob") for entry in self.status.get("incidents", ())}
        for job in world.cluster.of_kind("TrainingJob"):
            if job["metadata"]["name"] in known:
                world.cluster.delete(ref_of(job))

    def _refuse(self, world: World) -> Undo:
        def policy(document: Object) -> str | None:
            return "no more TrainingJobs here" if document["kind"] == "TrainingJob" else None

        world.cluster.admission.append(policy)
        return lambda: world.cluster.admission.remove(policy)

    def _suspend(self, world: World) -> Undo:
        world.edit(self.policy, suspend=True)
        return lambda: world.edit(self.policy, suspend=False)

    def _promote_rival(self, world: World) -> None:
        version = world.bucket.register(MODEL, {"job": "rival"})
        self.moves_by_hand.add(len(world.bucket.moves))
        world.bucket.set_alias(MODEL, "champion", version, "rival", "it is better")

    def _answered(self) -> list[Any]:
        return list(self.alertmanager.answered.values())

    def _result(self, version: int) -> TrainingResult:
        documents = self.world.bucket.documents
        results = [TrainingResult.model_validate_json(documents[key]) for key in documents if "/result.json" in key]
        (found,) = [result for result in results if result.model and result.model.version == version]
        return found

    def _movement(self) -> object:
        """Return what stays the same while nothing but drift tests is written."""
        log = self.world.cluster.log
        self._changes += sum(change.key.kind != "DriftPolicy" for change in log[self._log_read :])
        self._log_read = len(log)
        return self._changes, _settled(self.status), len(self.world.bucket.moves)


def _trains(pod: Object) -> bool:
    return "job-name" in pod["metadata"]["labels"] and pod["status"]["phase"] == "Running"


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _settled(entry) for name, entry in timeless(value).items() if name not in _A_TEST}
    return [_settled(entry) for entry in value] if isinstance(value, list) else value
