"""What the attempt of a TrainingJob was last heard to do, by its reports and by what the status has kept of them."""

from modelwright.api.run import TrainingReport
from modelwright.api.trainingjob import TrainingJobStatus
from modelwright.plan import history
from modelwright.plan.attempts import View, started_at
from modelwright.plan.conditions import Reason
from modelwright.plan.observed import Observed
from modelwright.plan.times import parse
from modelwright.plan.unanswered import Pulse


def report(observed: Observed, number: int) -> TrainingReport | None:
    """Return the newest report of an attempt; None where nothing was heard of it."""
    found = observed.report
    return found if isinstance(found, TrainingReport) and found.attempt == number else None


def is_starting(observed: Observed, status: TrainingJobStatus, number: int, *, recipe: bool) -> bool:
    """Tell whether the processes still find each other, load and compile. Of a command nobody can tell."""
    if (found := report(observed, number)) is not None:
        return found.stage == "Starting"
    return recipe and not history.has_stepped(status, number)


def is_evaluating(observed: Observed, before: TrainingJobStatus, number: int) -> bool:
    """Tell whether the last step was made, and the model is evaluated."""
    if (found := report(observed, number)) is not None:
        return found.stage == "Evaluating"
    # After a restart of the operator nobody has reported yet; what the status says of this attempt still holds.
    return history.reason(before) == Reason.EVALUATING and before.attempt == number


def pulse(observed: Observed, status: TrainingJobStatus, view: View) -> Pulse | None:
    """Return the last step that the gang is known to have made; None where one would not have heard of later ones."""
    said, progress = report(observed, view.number), status.progress
    if said is None or said.quiet or said.stage == "Evaluating":
        return None
    if progress is None or not history.has_stepped(status, view.number):
        return None
    at, pace, since = progress.last_step_time, progress.seconds_per_step, view.job and started_at(view.job)
    # One from before a pause says nothing of the pods that load after it.
    if at is None or pace is None or (since and parse(at) < parse(since)):
        return None
    return Pulse(at, pace, said.longest_step)
