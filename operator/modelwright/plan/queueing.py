"""What a gang waits for before its pods start: Kueue, or room in a quota of the operator's own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from modelwright.api.common import Status
from modelwright.api.trainingjob import Workers
from modelwright.api.tuningsweep import SweepWorkers
from modelwright.plan.actions import Object
from modelwright.plan.conditions import Reason, State, Verdict
from modelwright.plan.observed import Observed
from modelwright.plan.quantity import words
from modelwright.plan.quotas import Quota, impossible, limiting
from modelwright.plan.requests import of_gang
from modelwright.plan.settings import Settings

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""On an object of ours: the LocalQueue of Kueue that admits its gangs."""
_REFUSED = "there is room for its pods, but they may not start: "
_PASSED_ON = (QUEUE_LABEL, "kueue.x-k8s.io/priority-class")
"""What Kueue reads on a Job, and people write on what makes it."""


@dataclass(frozen=True)
class Queue:
    """Somebody else lets the gang in, by taking `suspend` from its Job."""

    verdict: Verdict
    """What is said of a gang that waits."""
    labels: Mapping[str, str]
    """What its Job carries for it."""


def queue_of(
    owner: Object, workers: Workers | SweepWorkers, settings: Settings, job: Object | None = None
) -> Queue | None:
    """Return what the gangs of an object wait for; None: they start when they are made. Kueue, if named, decides.

    `job` is that of its newest attempt, if it has one: Kueue puts Jobs that name no queue into the one that is the
    namespace's default, and suspends what it has not admitted. Who started that would fight with it.
    """
    labels = queue_labels(owner) or ({} if job is None else queue_labels(job))
    if labels:
        message = f"waiting for Kueue to admit it from the queue {labels[QUEUE_LABEL]}"
        return Queue(Verdict(State.RECONCILING, Reason.QUEUED, message), labels)
    namespace, wanted = owner["metadata"]["namespace"], of_gang(workers, workers.replicas)
    found = limiting(settings.quotas, namespace, wanted)
    if not found:
        return None
    never = impossible(found, namespace, wanted)
    if never is not None:
        return Queue(Verdict(State.STALLED, Reason.QUOTA_TOO_SMALL, f"it can never start: {never}"), {})
    needs = "; ".join(_needs(quota, wanted) for quota in found)
    return Queue(Verdict(State.RECONCILING, Reason.QUEUED, f"waiting for room: {needs}"), {})


def held_back(queue: Queue | None, observed: Observed, before: Status) -> Queue | None:
    """Return a queue that says, where the API server refused to let the gang in, why that was.

    What was said of it stays until its pods start: after a restart of the operator nobody has tried yet.
    """
    if queue is None or queue.labels or queue.verdict.reason != Reason.QUEUED:
        return queue
    told = observed.held_back
    if told is not None:
        return replace(queue, verdict=replace(told, message=f"{_REFUSED}{told.message}"))
    ready = next((entry for entry in before.conditions if entry.type == "Ready"), None)
    if ready is None or not ready.message.startswith(_REFUSED):
        return queue
    stalled = any(entry.type == State.STALLED for entry in before.conditions)
    state = State.STALLED if stalled else State.RECONCILING
    return replace(queue, verdict=Verdict(state, ready.reason, ready.message))


def queue_labels(of: Object) -> dict[str, str]:
    """Return the labels that put a Job, or what an object makes, into its Kueue queue."""
    found = of["metadata"].get("labels") or {}
    return {name: str(found[name]) for name in _PASSED_ON if found.get(name)} if found.get(QUEUE_LABEL) else {}


def _needs(quota: Quota, wanted: Mapping[str, Decimal]) -> str:
    share = quota.share(wanted)
    parts = (f"{words(value)} of {words(quota.resources[name])} {name}" for name, value in sorted(share.items()))
    return f"it needs {', '.join(parts)} of the quota {quota.name}"
