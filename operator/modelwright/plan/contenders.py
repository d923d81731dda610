"""From gangs to those that want room in a quota, or have it: by their Jobs, and by their owners between attempts."""

from pydantic import ValidationError

from modelwright.api.trainingjob import TrainingJobSpec
from modelwright.api.tuningsweep import TuningSweepSpec
from modelwright.plan.actions import Object
from modelwright.plan.attempts import JobState, finished, is_placeholder, state_of
from modelwright.plan.conditions import Reason, find
from modelwright.plan.owner import is_ours
from modelwright.plan.queueing import queue_labels
from modelwright.plan.quotas import Contender
from modelwright.plan.requests import Amounts, of_gang, of_job

_SPECS: dict[str, type[TrainingJobSpec] | type[TuningSweepSpec]] = {
    "TrainingJob": TrainingJobSpec,
    "TuningSweep": TuningSweepSpec,
}
_GOES_ON = frozenset(
    {Reason.STARTING, Reason.TRAINING, Reason.EVALUATING, Reason.SEARCHING, Reason.RESTARTING}
    | {Reason.SHRUNK, Reason.GROWN}
    | {Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED, Reason.CONTAINER_CONFIG_INVALID}
    | {Reason.PODS_REJECTED, Reason.WEBHOOK_UNAVAILABLE}
)
"""What is said of a job as long as its attempt lives, and until the next one begins."""


def contender(job: Object, owner: Object | None) -> Contender | None:
    """Return the gang of a Job as the quotas see it; None: it has ended, is Kueue's, or is held and not to start.

    What runs has its room, whatever has become of its owner since. An elastic gang keeps the room for all of its
    workers, so that nobody has to decide anew when it grows; its placeholder looks for nodes within that room, and is
    no gang of its own.
    """
    if queue_labels(job) or is_placeholder(job) or finished(job):
        return None
    meta, held = job["metadata"], bool(job["spec"].get("suspend"))
    if held and (meta.get("deletionTimestamp") or _to_start(owner) is None):
        return None
    if owner is None:
        return Contender(meta["uid"], meta["namespace"], of_job(job), not held)
    return _of(owner, meta["uid"], of_job(job, at_least=_wished(owner)), admitted=not held)


def has_passed(job: Object) -> bool:
    """Tell whether a Job of an owner says nothing against that the next attempt comes, or comes soon."""
    if queue_labels(job):
        return False
    leaves = bool(job["spec"].get("suspend") and job["metadata"].get("deletionTimestamp"))
    return is_placeholder(job) or leaves or state_of(job) is JobState.FAILED


def between_attempts(owner: Object | None) -> Contender | None:
    """Return the gang of an owner whose last attempt is lost and whose next one comes by itself; None: it does not.

    It keeps the room that it had. One that waits for a Secret, or for S3, may not come for days, and one that has never
    run had none.
    """
    spec = _to_start(owner)
    if owner is None or spec is None or queue_labels(owner) or not is_ours(owner):
        return None
    if (find(owner, "Ready") or {}).get("reason") not in _GOES_ON or not owner["status"].get("startTime"):
        return None
    return _of(owner, owner["metadata"]["uid"], of_gang(spec.workers, spec.workers.replicas), admitted=True)


def _of(owner: Object, identity: str, demand: Amounts, *, admitted: bool) -> Contender:
    meta, priority = owner["metadata"], int(owner["spec"].get("priority") or 0)
    return Contender(identity, meta["namespace"], demand, admitted, priority, str(meta["creationTimestamp"]))


def _wished(owner: Object) -> int:
    workers = owner["spec"].get("workers") or {}
    return int(workers.get("replicas") or 1) if workers.get("elastic") else 1


def _to_start(owner: Object | None) -> TrainingJobSpec | TuningSweepSpec | None:
    """Return what an owner says of the gang that it is to start; None: it is to start none."""
    if owner is None or owner["metadata"].get("deletionTimestamp") or owner["kind"] not in _SPECS:
        return None
    if (owner.get("status") or {}).get("completionTime") or owner["spec"].get("suspend"):
        return None
    try:
        return _SPECS[owner["kind"]].model_validate(owner["spec"])
    except ValidationError:
        # Nobody would look after it.
        return None
