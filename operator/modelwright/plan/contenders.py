"""From the Jobs of gangs to those that want room in a quota, or have it."""

from pydantic import ValidationError

from modelwright.api.trainingjob import TrainingJobSpec
from modelwright.api.tuningsweep import TuningSweepSpec
from modelwright.plan.actions import Object
from modelwright.plan.attempts import finished
from modelwright.plan.queueing import queue_labels
from modelwright.plan.quotas import Contender, demand


def contender(job: Object, owner: Object) -> Contender | None:
    """Return the gang of a Job as the quotas see it; None: it has ended, is held by its user, or is Kueue's."""
    spec = _spec(owner)
    if spec is None or queue_labels(owner) or finished(job):
        return None
    meta, held = job["metadata"], bool(job["spec"].get("suspend"))
    if held and (spec.suspend or meta.get("deletionTimestamp")):
        return None
    created = owner["metadata"]["creationTimestamp"]
    return Contender(meta["uid"], meta["namespace"], demand(spec.workers), not held, spec.priority, created)


def _spec(owner: Object) -> TrainingJobSpec | TuningSweepSpec | None:
    kinds: dict[str, type[TrainingJobSpec | TuningSweepSpec]]
    kinds = {"TrainingJob": TrainingJobSpec, "TuningSweep": TuningSweepSpec}
    try:
        return kinds[owner["kind"]].model_validate(owner["spec"])
    except (KeyError, ValidationError):
        return None
