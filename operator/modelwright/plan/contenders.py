"""From the Jobs of gangs to those that want room in a quota, or have it."""

from pydantic import ValidationError

from modelwright.api.schema import ApiModel
from modelwright.api.trainingjob import TrainingJobSpec
from modelwright.api.tuningsweep import TuningSweepSpec
from modelwright.plan.actions import Object
from modelwright.plan.attempts import JobState, finished, is_placeholder, state_of
from modelwright.plan.conditions import Reason
from modelwright.plan.queueing import queue_labels
from modelwright.plan.quotas import Contender
from modelwright.plan.requests import of_job

_SPECS: dict[str, type[ApiModel]] = {"TrainingJob": TrainingJobSpec, "TuningSweep": TuningSweepSpec}
_GOES_ON = frozenset(
    {Reason.STARTING, Reason.TRAINING, Reason.EVALUATING, Reason.SEARCHING, Reason.RESTARTING}
    | {Reason.SHRUNK, Reason.GROWN}
)
"""What is said of a job whose attempt has just failed, and until the next one begins."""


def contender(job: Object, owner: Object | None) -> Contender | None:
    """Return the gang of a Job as the quotas see it; None: it has ended, is Kueue's, or is held and not to start.

    What runs has its room, whatever has become of its owner since. What has failed keeps it for the next attempt. An
    elastic gang keeps the room for all of its workers, so that nobody has to decide anew when it grows; its placeholder
    looks for nodes within that room, and is no gang of its own.
    """
    if queue_labels(job) or is_placeholder(job):
        return None
    meta, held = job["metadata"], bool(job["spec"].get("suspend"))
    if finished(job):
        if state_of(job) is not JobState.FAILED or not _is_restarting(owner):
            return None
        held = False
    elif held and (meta.get("deletionTimestamp") or not _is_to_start(owner)):
        return None
    if owner is None:
        return Contender(meta["uid"], meta["namespace"], of_job(job), not held)
    priority, created = int(owner["spec"].get("priority") or 0), str(owner["metadata"]["creationTimestamp"])
    demand = of_job(job, at_least=_wished(owner))
    return Contender(meta["uid"], meta["namespace"], demand, not held, priority, created)


def _wished(owner: Object) -> int:
    workers = owner["spec"].get("workers") or {}
    return int(workers.get("replicas") or 1) if workers.get("elastic") else 1


def _is_restarting(owner: Object | None) -> bool:
    """Tell whether the next attempt comes by itself; one that waits for a Secret, or for S3, may not come for days."""
    conditions = ((owner or {}).get("status") or {}).get("conditions") or ()
    reason = next((entry["reason"] for entry in conditions if entry["type"] == "Ready"), None)
    return reason in _GOES_ON and _is_to_start(owner)


def _is_to_start(owner: Object | None) -> bool:
    if owner is None or owner["metadata"].get("deletionTimestamp") or owner["kind"] not in _SPECS:
        return False
    if (owner.get("status") or {}).get("completionTime") or owner["spec"].get("suspend"):
        return False
    try:
        _SPECS[owner["kind"]].model_validate(owner["spec"])
    except ValidationError:
        # Nobody would look after it.
        return False
    return True
