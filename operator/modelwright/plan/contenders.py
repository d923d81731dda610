"""From the Jobs of gangs to those that want room in a quota, or have it."""

from pydantic import ValidationError

from modelwright.api.schema import ApiModel
from modelwright.api.trainingjob import TrainingJobSpec
from modelwright.api.tuningsweep import TuningSweepSpec
from modelwright.plan.actions import Object
from modelwright.plan.attempts import finished
from modelwright.plan.queueing import queue_labels
from modelwright.plan.quotas import Contender
from modelwright.plan.requests import of_job

_SPECS: dict[str, type[ApiModel]] = {"TrainingJob": TrainingJobSpec, "TuningSweep": TuningSweepSpec}


def contender(job: Object, owner: Object | None) -> Contender | None:
    """Return the gang of a Job as the quotas see it; None: it has ended, is Kueue's, or is held and not to start.

    What runs has its room, whatever has become of its owner since.
    """
    if finished(job) or queue_labels(job):
        return None
    meta, held = job["metadata"], bool(job["spec"].get("suspend"))
    if held and (meta.get("deletionTimestamp") or not _is_to_start(owner)):
        return None
    if owner is None:
        return Contender(meta["uid"], meta["namespace"], of_job(job), not held)
    priority, created = int(owner["spec"].get("priority") or 0), str(owner["metadata"]["creationTimestamp"])
    return Contender(meta["uid"], meta["namespace"], of_job(job), not held, priority, created)


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
