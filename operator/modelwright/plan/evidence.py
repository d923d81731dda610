"""What lies on S3 of the work of a gang, and when that has to be read before a TrainingJob goes on or ends."""

from modelwright.api.layout import completed_key, result_key
from modelwright.api.run import STORAGE_UNAVAILABLE
from modelwright.api.trainingjob import TrainingJobSpec
from modelwright.plan import raystatus
from modelwright.plan.actions import Object
from modelwright.plan.attempts import JobState, View
from modelwright.plan.conditions import Reason
from modelwright.plan.failures import Cause, Loss
from modelwright.plan.lifecycle import Completed, GiveUp, Next, Running, Start, loss_of
from modelwright.plan.questions import ReadDocument, Store


def of_recipe(
    owner: Object, view: View, store: Store, step: Next, lost: Loss | None, *, started: bool
) -> ReadDocument | None:
    """Return the question for the result, where there may be one; None where the children tell all.

    A worker can end, badly, by a suspension or because time is up, after rank 0 has registered the version. And while
    S3 cannot be read, a restart would only spend the budget. `lost`: why the newest attempt was lost, where that has
    been told. `started`: the pods were there before.
    """
    if isinstance(step, Completed) or _may_be_done(view, step, lost, started=started):
        return _result(owner, store)
    return None


def of_command(
    owner: Object, spec: TrainingJobSpec, view: View, store: Store, step: Next, lost: Loss | None
) -> ReadDocument | None:
    """Return what to ask when a command was `lost`; None where the children tell all.

    A command leaves no result. But where its Job is gone, what worker 0 left behind says whether it had ended well. And
    where the store was what it lost, the next attempt would lose it again: what is there does not matter then, only
    that the store answers.
    """
    if lost is None or not isinstance(step, Start | GiveUp):
        return None
    # Nobody keeps what an image of the user's does, and KubeRay starts the driver past who would.
    kept = spec.workers.image is None and not raystatus.wanted(owner)
    if kept and view.state is JobState.ABSENT and lost.reason == Cause.JOB_DELETED:
        return _end_of(owner, store, view.number)
    return _result(owner, store) if isinstance(step, Start) and lost.reason == STORAGE_UNAVAILABLE else None


def tells_of_the_end(question: ReadDocument, owner: Object, attempt: int) -> bool:
    """Tell whether an answer, other than None, means that the command of an attempt had ended well.

    Worker 0 speaks for its peers: torchrun's agents leave together, and a Ray job is done when its driver is. It speaks
    wrongly only where another worker fails after that, and the Job is deleted before anybody sees it Failed.
    """
    return question == _end_of(owner, question.store, attempt)


def _may_be_done(view: View, step: Next, lost: Loss | None, *, started: bool) -> bool:
    if isinstance(step, Running):
        return view.state is JobState.HELD and started
    if isinstance(step, GiveUp) and step.reason == Reason.DEADLINE_EXCEEDED:
        return True
    ended = view.number > 0 and view.state in (JobState.FAILED, JobState.ABSENT)
    # By what was told, as the step is: since then, rules may have been changed, and the pods that showed it be gone.
    return isinstance(step, Start | GiveUp) and ended and (lost or loss_of(view)).retryable


def _result(owner: Object, store: Store) -> ReadDocument:
    meta = owner["metadata"]
    return ReadDocument(store, result_key(meta["namespace"], meta["uid"]))


def _end_of(owner: Object, store: Store, attempt: int) -> ReadDocument:
    meta = owner["metadata"]
    return ReadDocument(store, completed_key(meta["namespace"], meta["uid"], attempt))
