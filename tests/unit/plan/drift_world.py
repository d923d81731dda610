"""A small world around one DriftPolicy: the plan is asked, answered and carried out as the operator would."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from modelwright.api.common import Storage
from modelwright.api.driftpolicy import DriftPolicyStatus, Incident
from modelwright.plan import drift
from modelwright.plan.actions import Apply, Ask, Object, Plan, Rejection
from modelwright.plan.observed import Alert, Observed
from modelwright.plan.questions import (
    Answer,
    Question,
    ReadDocument,
    ReadDocuments,
    ReadLive,
    ReadObject,
    SecretExists,
    Unavailable,
)
from modelwright.plan.settings import Settings
from modelwright.plan.times import stamp
from tests.simulation.kstatus import violations

START = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
SETTINGS = Settings("runtime", "server", storage=Storage(uri="s3://models/team"))
TEMPLATE = {"recipe": {"tabular": {"task": "Regression", "target": "y"}}, "model": {"name": "delay"}}
AGE = {"name": "age", "kind": "Numeric", "edges": [1.0, 2.0, 3.0], "counts": [2500, 2500, 2500, 2500, 0]}
PREDICTION = {"name": "y", "kind": "Numeric", "edges": [0.0], "counts": [5000, 5000, 0]}
REFERENCE = {"rows": 10000, "columns": [AGE], "prediction": PREDICTION}
STILL, MOVED = (250, 250, 250, 250, 0), (700, 100, 100, 100, 0)


def alert(fingerprint: str = "f1", starts_at: str = "2026-11-23T09:59:00Z", name: str = "ModelError") -> Alert:
    return Alert(fingerprint, starts_at, {"alertname": name, "team": "ml"})


class World:
    """The cluster and the store, as far as a DriftPolicy can see them."""

    def __init__(self, **spec: Any) -> None:
        self.now = START
        self.settings = SETTINGS
        self.policy: Object = {
            "apiVersion": "modelwright.dev/v1alpha1",
            "kind": "DriftPolicy",
            "metadata": {"namespace": "team", "name": "delay-policy", "uid": "policy-uid", "generation": 1},
            "spec": {
                "deployment": {"name": "delay"},
                "test": {"windowSeconds": 600, "intervalSeconds": 60},
                "alerts": {"matchLabels": {"team": "ml"}},
                "retraining": {"template": TEMPLATE, "cooldownSeconds": 3600, "maxPerDay": 2},
                **spec,
            },
        }
        self.policy["spec"] = {key: value for key, value in self.policy["spec"].items() if value is not None}
        self.deployment: Object | None = {
            "spec": {"model": {"name": "delay", "alias": "champion"}},
            "status": {"serving": {"name": "delay", "version": 1}},
        }
        self.reference: Answer = REFERENCE
        self.windows: list[dict[str, Any]] | Unavailable = []
        self.jobs: dict[str, Object] = {}
        self.hidden_jobs: set[str] = set()
        self.rejection: Rejection | None = None
        self.deaf: Unavailable | None = None
        """What the API server answers to reads, while it does not."""
        self.asked: list[Question] = []
        self.created: list[Object] = []
        self.status_writes = 0
        self.slowness = timedelta(0)
        """How long it takes to answer a round of questions."""

    @property
    def status(self) -> DriftPolicyStatus:
        return DriftPolicyStatus.model_validate(self.policy.get("status", {}))

    @property
    def incident(self) -> Incident:
        (only,) = self.status.incidents
        return only

    def condition(self, kind: str) -> tuple[str, str] | None:
        return next(((c.status, c.reason) for c in self.status.conditions if c.type == kind), None)

    def message(self, kind: str = "Ready") -> str:
        return next(c.message for c in self.status.conditions if c.type == kind)

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def traffic(self, age: Sequence[int] = STILL, replicas: int = 1, version: int = 1) -> None:
        """Let every replica write one window, as of now."""
        rows = sum(age)
        window = {"model": "delay", "version": version, "start": stamp(self.now), "end": stamp(self.now), "rows": rows}
        counted = {"columns": {"age": list(age)}, "prediction": [rows // 2, rows - rows // 2, 0]}
        assert isinstance(self.windows, list)
        self.windows = [{**window, **counted, "replica": f"r{number}"} for number in range(replicas)]

    def finish(self, name: str, outcome: str | None = None, version: int = 2, message: str = "so it is") -> None:
        """Let a TrainingJob succeed; `outcome` is that of its promotion."""
        status: Object = {"conditions": [{"type": "Succeeded", "status": "True"}]}
        status["model"] = {"name": "delay", "version": version, "uri": "s3://models/team/x"}
        if outcome:
            status["promotion"] = {"alias": "champion", "outcome": outcome, "message": message}
        self.jobs[name]["status"] = status

    def fail(self, name: str, reason: str, message: str) -> None:
        condition = {"type": "Succeeded", "status": "False", "reason": reason, "message": message}
        self.jobs[name]["status"] = {"conditions": [condition]}

    def look(self, *alerts: Alert, write: bool = True) -> Plan:
        """Ask until there is a plan and carry it out; without `write` the operator dies before it writes the status."""
        answers: dict[Question, Answer] = {}
        for _ in range(5):
            shown = tuple(job for name, job in self.jobs.items() if name not in self.hidden_jobs)
            observed = Observed(
                self.policy, {"TrainingJob": shown}, alerts=alerts, rejection=self.rejection, answers=answers
            )
            plan = drift.plan(observed, self.settings, self.now)
            if isinstance(plan, Plan):
                self._carry_out(plan, write)
                return plan
            assert isinstance(plan, Ask)
            self.asked.extend(plan.questions)
            self.now += self.slowness
            answers |= {question: self._answer(question) for question in plan.questions}
        raise AssertionError("the plan asks without end")

    def _answer(self, question: Question) -> Answer:
        match question:
            case ReadObject("ModelDeployment", "team", "delay"):
                return self.deployment
            case ReadLive("DriftPolicy", "team", "delay-policy"):
                return self.deaf or self.policy
            case ReadLive("TrainingJob", "team", name):
                return self.deaf or self.jobs.get(name)
            case SecretExists():
                return False
            case ReadDocument():
                return self.reference
            case ReadDocuments():
                return self.windows if isinstance(self.windows, Unavailable) else tuple(self.windows)
        raise AssertionError(f"nobody should ask {question}")

    def _carry_out(self, plan: Plan, write: bool) -> None:
        for action in plan.actions:
            assert isinstance(action, Apply)
            job = action.object
            assert job["metadata"]["name"] not in self.jobs, "a job was created twice"
            self.jobs[job["metadata"]["name"]] = job
            job["metadata"]["creationTimestamp"] = stamp(self.now)
            self.created.append(job)
        if write and plan.status != self.policy.get("status", {}):
            self.policy["status"] = plan.status
            assert violations(self.policy) == []
            self.status_writes += 1
