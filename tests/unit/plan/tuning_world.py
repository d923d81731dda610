"""A small world around one TuningSweep: the plan is asked, answered and carried out, and pods do as they are told."""

from datetime import UTC, datetime, timedelta
from typing import Any

from modelwright.api.common import Storage
from modelwright.api.run import RUN_VARIABLE, Run, SweepReport, SweepResult
from modelwright.api.tuningsweep import ParameterValue, Trial, TrialState, TuningSweepStatus
from modelwright.plan import tuning
from modelwright.plan.actions import Apply, Ask, CreateSecret, Delete, Object, Patch, Plan, Rejection
from modelwright.plan.observed import Observed
from modelwright.plan.questions import Answer, Question, ReadDocument, ReadLive, SecretExists, Unavailable
from modelwright.plan.settings import Settings
from modelwright.plan.times import stamp
from tests.simulation.kstatus import violations

START = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
SETTINGS = Settings("runtime", "server", "http://operator/report", Storage(uri="s3://models/team"))
TABULAR = {"task": "Classification", "target": "y", "neuralNetwork": {"epochs": 5}}
TEMPLATE = {
    "recipe": {"tabular": TABULAR},
    "dataset": {"uri": "s3://data/d.csv"},
    "model": {"name": "m"},
    "workers": {"replicas": 1},
}
SPACE = [
    {"name": "neuralNetwork.learningRate", "float": {"min": 0.0001, "max": 0.1, "log": True}},
    {"name": "algorithm", "choice": {"values": ["NeuralNetwork", "LightGBM"]}},
]


def trial(number: int, value: float | None, state: TrialState = TrialState.SUCCEEDED, message: str = "") -> Trial:
    parameters = (
        ParameterValue(name="neuralNetwork.learningRate", value="0.01"),
        ParameterValue(name="algorithm", value="LightGBM"),
    )
    return Trial(number=number, state=state, value=value, parameters=parameters, message=message or None)


def result(*trials: Trial, best: Trial | None = None, finished: bool = True) -> SweepResult:
    return SweepResult(attempt=1, finished=finished, trials=trials, best_trial=best)


class World:
    """The cluster and the store, as far as a TuningSweep can see them."""

    def __init__(self, **spec: Any) -> None:
        self.now = START
        self.sweep: Object = {
            "apiVersion": "modelwright.dev/v1alpha1",
            "kind": "TuningSweep",
            "metadata": {"namespace": "team", "name": "search", "uid": "sweep-uid", "generation": 1},
            "spec": {
                "template": TEMPLATE,
                "searchSpace": SPACE,
                "objective": {"metric": "roc_auc"},
                "workers": {"replicas": 2},
                **spec,
            },
        }
        self.jobs: dict[str, Object] = {}
        self.services: dict[str, Object] = {}
        self.training_jobs: dict[str, Object] = {}
        self.shown_training_jobs: dict[str, Object] | None = None
        """Those that the operator's view has; all of them where nothing is said."""
        self.live: Object | None = None
        """The sweep as the API server has it, where that is another one than the operator sees."""
        self.pods: list[Object] = []
        self.result: SweepResult | Unavailable | None = None
        self.report: SweepReport | None = None
        self.rejection: Rejection | None = None
        self.has_secret = True
        self.asked: list[Question] = []
        self.deleted = False
        self.status_writes = 0

    @property
    def status(self) -> TuningSweepStatus:
        return TuningSweepStatus.model_validate(self.sweep.get("status", {}))

    @property
    def job(self) -> Object:
        return self.jobs[max(self.jobs, key=lambda name: int(name.rpartition("-")[2]))]

    @property
    def run(self) -> Run:
        (container,) = self.job["spec"]["template"]["spec"]["containers"]
        (text,) = (entry["value"] for entry in container["env"] if entry["name"] == RUN_VARIABLE)
        return Run.model_validate_json(text)

    def condition(self, kind: str) -> tuple[str, str] | None:
        return next(((c.status, c.reason) for c in self.status.conditions if c.type == kind), None)

    def message(self) -> str:
        return next(c.message for c in self.status.conditions if c.type == "Ready")

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def pods_run(self) -> None:
        """Let all pods of the newest attempt be running."""
        self.job["status"] = {"startTime": stamp(self.now)}
        labels = self.job["spec"]["template"]["metadata"]["labels"]
        self.pods = [
            {"metadata": {"name": f"pod-{index}", "labels": labels, "uid": f"p{index}"}, "status": {"phase": "Running"}}
            for index in range(self.job["spec"]["completions"])
        ]

    def job_ends(self, how: str = "Complete") -> None:
        """Let the newest attempt's Job end; `how` is Complete or Failed."""
        phase = "Succeeded" if how == "Complete" else "Failed"
        for pod in self.pods:
            pod["status"] = {"phase": phase}
        condition = {"type": how, "status": "True", "lastTransitionTime": stamp(self.now)}
        self.job.setdefault("status", {})["conditions"] = [condition]

    def look(self, *, write: bool = True) -> Plan:
        """Ask until there is a plan and carry it out; without `write` the operator dies before it writes the status."""
        answers: dict[Question, Answer] = {}
        for _ in range(6):
            children = {
                "Job": tuple(self.jobs.values()),
                "Pod": tuple(self.pods),
                "Service": tuple(self.services.values()),
                "TrainingJob": tuple(self._visible().values()),
            }
            observed = Observed(self.sweep, children, self.report, (), self.rejection, answers)
            plan = tuning.plan(observed, SETTINGS, self.now)
            if isinstance(plan, Plan):
                self._carry_out(plan, write)
                return plan
            assert isinstance(plan, Ask)
            self.asked.extend(plan.questions)
            answers |= {question: self._answer(question) for question in plan.questions}
        raise AssertionError("the plan asks without end")

    def _visible(self) -> dict[str, Object]:
        return self.training_jobs if self.shown_training_jobs is None else self.shown_training_jobs

    def _answer(self, question: Question) -> Answer:
        match question:
            case ReadLive("TuningSweep", "team", "search"):
                return self.live or self.sweep
            case ReadLive("Job", "team", name):
                return self.jobs.get(name)
            case ReadLive("TrainingJob", "team", name):
                return self.training_jobs.get(name)
            case SecretExists():
                return self.has_secret
            case ReadDocument(_, "runs/team/sweep-uid/sweep.json"):
                return self.result.document() if isinstance(self.result, SweepResult) else self.result
        raise AssertionError(f"nobody should ask {question}")

    def _carry_out(self, plan: Plan, write: bool) -> None:
        if self.rejection is None:
            for action in plan.actions:
                self._act(action)
        if write and plan.status != self.sweep.get("status", {}):
            self.sweep["status"] = plan.status
            assert violations(self.sweep) == []
            self.status_writes += 1

    def _act(self, action: object) -> None:
        match action:
            case Apply(found):
                kinds = {"Job": self.jobs, "Service": self.services, "TrainingJob": self.training_jobs}
                name = found["metadata"]["name"]
                kept = kinds[found["kind"]].setdefault(name, found)
                kept["metadata"] |= {"uid": f"uid-{name}", "creationTimestamp": stamp(self.now)}
            case Delete(target) if target.kind == "TuningSweep":
                self.deleted = True
            case Delete(target):
                self.jobs.pop(target.name, None)
                self.pods = []
            case Patch(target, body):
                self.jobs[target.name]["spec"] |= body["spec"]
            case CreateSecret():
                pass
            case _:
                raise AssertionError(f"unexpected {action}")
