"""A job whose Jobs, pods and reports a test makes up, second by second, and the book that is kept of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from modelwright.api.common import Condition
from modelwright.api.goodput import Goodput, Spent
from modelwright.api.run import TrainingReport
from modelwright.api.trainingjob import Attempt, Progress, TrainingJobStatus, Workers
from modelwright.plan import goodput
from modelwright.plan.actions import Object
from modelwright.plan.attempts import View
from modelwright.plan.conditions import Reason, State, Verdict
from modelwright.plan.goodput import Look
from modelwright.plan.history import with_report
from modelwright.plan.observed import Observed
from modelwright.plan.times import stamp

CREATED = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
REPLICAS = 2


def at(second: float) -> str:
    """Return a moment as so many seconds after the job was created."""
    return stamp(CREATED + timedelta(seconds=second))


@dataclass
class History:
    """What is there to be seen, and what the status says."""

    limits: dict[str, str | int] = field(default_factory=dict)
    status: TrainingJobStatus = field(default_factory=TrainingJobStatus)
    jobs: dict[int, Object] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)
    report: TrainingReport | None = None
    elastic: bool = False

    @property
    def book(self) -> Goodput:
        assert self.status.goodput is not None
        return self.status.goodput

    @property
    def spent(self) -> dict[str, int]:
        """The buckets that hold anything."""
        return {name: value for name, value in self.book.seconds.document().items() if value}

    def ask(self, second: int, number: int = 1, *, workers: int | None = None) -> None:
        """Make the Job of an attempt, with so many pods, which starts at once."""
        meta = {"creationTimestamp": at(second), "labels": {"modelwright.dev/attempt": str(number)}}
        spec = {} if workers is None else {"completions": workers}
        self.jobs[number] = {"metadata": meta, "spec": spec, "status": {"startTime": at(second)}}
        entry = Attempt(number=number, start_time=at(second), workers=workers)
        self.status = self.status.model_copy(update={"attempts": (*self.status.attempts, entry), "attempt": number})

    def place(self, second: int, number: int = 1, *, runs: int | None = None, pods: int = REPLICAS) -> None:
        """Give pods their nodes, and let their containers run."""
        for index in range(pods):
            state = {} if runs is None else {"state": {"running": {"startedAt": at(runs)}}}
            status = {
                "phase": "Pending" if runs is None else "Running",
                "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(second)}],
                "containerStatuses": [{"name": "worker", **state}],
            }
            labels = {
                "modelwright.dev/attempt": str(number),
                "batch.kubernetes.io/job-completion-index": str(index),
            }
            meta = {"name": f"a-{number}-{index}", "labels": labels, "creationTimestamp": at(second)}
            self.pods.append({"metadata": meta, "spec": {"nodeName": "node"}, "status": status})

    def end(self, second: int, number: int = 1, kind: str = "Failed") -> None:
        """End the Job of an attempt."""
        condition = {"type": kind, "status": "True", "lastTransitionTime": at(second)}
        self.jobs[number]["status"]["conditions"] = [condition]
        reason = "Completed" if kind == "Complete" else "NodeLost"
        self.status = self.status.model_copy(
            update={
                "attempts": tuple(
                    entry.model_copy(update={"end_time": at(second), "reason": reason})
                    if entry.number == number
                    else entry
                    for entry in self.status.attempts
                )
            }
        )

    def suspend(self, second: int, number: int = 1) -> None:
        """Suspend the Job, whose pods go."""
        self.jobs[number]["spec"]["suspend"] = True
        condition = {"type": "Suspended", "status": "True", "lastTransitionTime": at(second)}
        self.jobs[number]["status"] = {"conditions": [condition]}
        self.pods = []

    def resume(self, second: int, number: int = 1) -> None:
        """Let the Job go on."""
        self.jobs[number]["spec"]["suspend"] = False
        self.jobs[number]["status"] = {"startTime": at(second)}

    def say(
        self,
        since: int,
        step: int,
        *,
        attempt: int = 1,
        resumed: int | None = None,
        stage: str = "Training",
        **spent: Any,
    ) -> None:
        """Have rank 0 report; the numbers are those of the process since it started."""
        self.report = TrainingReport(
            attempt=attempt,
            progress=None if stage == "Starting" else Progress(step=step),
            resumed_from_step=resumed,
            stage=stage,
            spent=Spent(since=at(since), **spent),
        )

    def look(self, second: float, reason: str = Reason.TRAINING, *, state: State = State.RECONCILING) -> Goodput:
        """Look at it, and write the status; the progress that was reported is in it, as the planner would have it."""
        now = CREATED + timedelta(seconds=second)
        before, after = self.before, with_report(self.status, self.report, self.status.attempt or 0, now)
        if reason in (Reason.SUCCEEDED, Reason.FAILED):
            after = after.model_copy(update={"completion_time": stamp(now)})
        document = {"metadata": {"creationTimestamp": at(0)}}
        view = View(max(self.jobs, default=0), self.jobs, tuple(self.pods))
        elastic = {"elastic": {"min": 1}} if self.elastic else {}
        workers = Workers.model_validate({"replicas": REPLICAS, "resources": {"limits": self.limits}, **elastic})
        verdict = Verdict(state, reason, "so it is")
        book = goodput.kept(Look(Observed(document, report=self.report), workers, before, after, verdict, view, now))
        said = Condition(type="Ready", status="False", reason=reason, last_transition_time=at(0))
        self.status = after.model_copy(update={"goodput": book, "conditions": (said,)})
        self.before = self.status
        assert book is not None
        return book

    def __post_init__(self) -> None:
        self.before = self.status
