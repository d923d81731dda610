"""The TrainingJob of a sweep's best trial: the template with the best parameters in it."""

from dataclasses import dataclass

from modelwright.api.schema import API_VERSION
from modelwright.api.searchspace import with_parameters
from modelwright.api.tuningsweep import Trial, TuningSweepStatus
from modelwright.plan import pods
from modelwright.plan.actions import Object
from modelwright.plan.conditions import has_ended
from modelwright.plan.names import child_name
from modelwright.plan.observed import OWNER_UID_LABEL, TRIGGER_ANNOTATION, Observed
from modelwright.plan.questions import ReadLive, Unavailable
from modelwright.plan.queueing import queue_labels


@dataclass(frozen=True)
class Taken:
    """The name of the winner's TrainingJob belongs to somebody else's."""

    message: str


def training_job(sweep: Object, best: Trial) -> Object:
    """Return the TrainingJob that trains the best parameters in full, evaluates and registers the model.

    It waits in the queue of its sweep.
    """
    name = sweep["metadata"]["name"]
    template = sweep["spec"]["template"]
    tabular = with_parameters(template["recipe"]["tabular"], best.parameters)
    annotations = {TRIGGER_ANNOTATION: f"TuningSweep/{name} trial {best.number}"}
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingJob",
        "metadata": {
            **pods.metadata(sweep, child_name(name, "winner"), queue_labels(sweep)),
            "annotations": annotations,
        },
        "spec": {**template, "recipe": {**template["recipe"], "tabular": tabular}},
    }


def find(observed: Observed, job: Object) -> bool | Taken | ReadLive | Unavailable:
    """Return whether the winner's TrainingJob exists, or what must be asked first.

    Its name can be guessed, so a TrainingJob of that name may be a user's own: that one is left alone.
    """
    meta = job["metadata"]
    question = ReadLive("TrainingJob", meta["namespace"], meta["name"])
    answer = observed.answers.get(question, question)
    if isinstance(answer, ReadLive | Unavailable):
        return answer
    if not isinstance(answer, dict):
        return False
    if _belongs_to(answer, meta["labels"][OWNER_UID_LABEL]):
        return True
    return Taken(f"a TrainingJob {meta['name']} exists that is not this sweep's: delete it, then the winner is trained")


def at_work(observed: Observed, status: TuningSweepStatus) -> bool | ReadLive | Unavailable:
    """Return whether the winner is still being trained, or what must be asked first.

    It would be deleted together with the sweep, so that it is gone is believed only of the API server itself.
    """
    seen, name = observed.child("TrainingJob"), status.winner_training_job
    if seen or name is None or observed.object["spec"].get("ttlSecondsAfterFinished") is None:
        return not all(map(has_ended, seen))
    meta = observed.object["metadata"]
    question = ReadLive("TrainingJob", meta["namespace"], name)
    answer = observed.answers.get(question, question)
    if isinstance(answer, ReadLive | Unavailable):
        return answer
    return isinstance(answer, dict) and _belongs_to(answer, meta["uid"]) and not has_ended(answer)


def _belongs_to(job: Object, uid: str) -> bool:
    return (job["metadata"].get("labels") or {}).get(OWNER_UID_LABEL) == uid
