"""All that a plan may know of the world."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from modelwright.api.run import SweepReport, TrainingReport
from modelwright.plan.actions import Object, Rejection
from modelwright.plan.conditions import Verdict
from modelwright.plan.questions import Answer, Question

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "modelwright"
OWNER_UID_LABEL = "modelwright.dev/owner-uid"
"""On every child, and on the pods of children: the UID of the object of ours that it belongs to."""
ATTEMPT_LABEL = "modelwright.dev/attempt"
PLACEHOLDER_LABEL = "modelwright.dev/placeholder"
"""On a Job that only looks for room, and on its pods, in place of the label above: the attempt that is to grow."""
LOGS_ANNOTATION = "modelwright.dev/logs"
"""On the Job of an attempt: where the end of its logs is kept."""
HELD_ANNOTATION = "modelwright.dev/held"
"""On a Job that was made suspended, and waits or waited for somebody to let it in."""
TRIGGER_ANNOTATION = "modelwright.dev/trigger"
"""On a TrainingJob that nobody applied: why it exists, as in `Run.trigger`."""


@dataclass(frozen=True)
class Alert:
    """One alert of Alertmanager that somebody waits to have dealt with."""

    fingerprint: str
    starts_at: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Observed:
    """One object of ours and everything near it, at one moment."""

    object: Object
    children: Mapping[str, tuple[Object, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Objects with this object's UID in the owner label, by kind: Job, Pod, Service, Deployment, TrainingJob."""
    report: TrainingReport | SweepReport | None = None
    """The last report of the gang that reached this process; None after a restart."""
    alerts: tuple[Alert, ...] = ()
    """Alerts that came in for this object since the last plan that was carried out."""
    rejection: Rejection | None = None
    """Why the last plan could not be carried out, where repeating it will not help."""
    answers: Mapping[Question, Answer] = field(default_factory=lambda: MappingProxyType({}))
    held_back: Verdict | None = None
    """Why the API server did not let a gang in that had room in its quotas, when that was last tried."""

    def child(self, kind: str) -> tuple[Object, ...]:
        """Return the children of a kind."""
        return self.children.get(kind, ())
