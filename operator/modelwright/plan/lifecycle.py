"""What happens to a gang next: start it, hold it, let it run, start it again, or give up. For training and tuning."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.run import PEER_LOST
from modelwright.plan import injected, raystatus, unanswered
from modelwright.plan.actions import Action, Delete, Object, Patch
from modelwright.plan.attempts import (
    Clock,
    JobState,
    View,
    condition_time,
    ended_at,
    finished,
    job_ref,
    leftovers,
    started_at,
)
from modelwright.plan.budgets import Budget, exhausted, ruled
from modelwright.plan.conditions import Reason, State, Verdict
from modelwright.plan.departures import forced, hastened, is_let_go, overdue, strays, unbegun
from modelwright.plan.exclusion import cornered
from modelwright.plan.failures import RESIZED, Cause, Loss, classify
from modelwright.plan.podstatus import alive, failed, over
from modelwright.plan.queueing import Queue
from modelwright.plan.raystatus import Lost
from modelwright.plan.startup import timeout
from modelwright.plan.times import parse, seconds_between, sooner
from modelwright.plan.unanswered import Pulse, Silence

LONGEST_BACKOFF = 300.0
"""Seconds that a wait doubles up to; one that is longer from the first stays what it is."""
SETTLE = 5.0
"""Seconds that a failed Job waits for a failed pod to be seen, which is watched apart; then the cause is unknown."""


SUSPENDED = Verdict(State.SUSPENDED, Reason.SUSPENDED, "suspended: set spec.suspend to false to go on")
_RESUMING = Verdict(State.SUSPENDED, Reason.SUSPENDED, "suspended: it goes on when its pods have left")


@dataclass(frozen=True)
class Rules:
    """What the user wants of the gang as it runs."""

    suspend: bool
    budget: Budget
    backoff_seconds: int
    startup_timeout_seconds: int
    active_deadline_seconds: int | None
    queue: Queue | None
    """Who keeps it owns the Job's `suspend`."""
    excluded_nodes: tuple[str, ...] = ()
    """Where its pods may not run, for what became of earlier ones there."""


@dataclass(frozen=True)
class Start:
    """Make the Job of an attempt now."""

    number: int


@dataclass(frozen=True)
class Hold:
    """Nothing more can be done now."""

    verdict: Verdict | None
    """None: nothing has changed that one could speak of."""
    actions: tuple[Action, ...] = ()
    wake_after: float | None = None
    lost: Loss | None = None
    """Why the attempt is given up, where that may not be seen again."""
    workers: int | None = None
    """How many workers the next attempt gets, where that is why."""


@dataclass(frozen=True)
class Running:
    """The Job is live and may have pods."""

    actions: tuple[Action, ...] = ()
    wake_after: float | None = None


@dataclass(frozen=True)
class Completed:
    """The Job ended well."""


@dataclass(frozen=True)
class GiveUp:
    """It ends here, badly."""

    reason: Reason | str
    message: str
    actions: tuple[Action, ...] = ()


Next: TypeAlias = Start | Hold | Running | Completed | GiveUp


def decide(
    view: View,
    clock: Clock,
    rules: Rules,
    now: datetime,
    *,
    was_suspended: bool,
    recorded: Loss | None = None,
    told: Loss | None = None,
    ended: str | None = None,
    pulse: Pulse | None = None,
) -> Next:
    """Return what happens next.

    `was_suspended` and `recorded`, why the newest attempt ended, are what the status said before; `told` is what it
    says now, and what the budget was charged for; `ended` is when it says that the attempt ended. `pulse` is the last
    sign that the newest attempt makes steps.
    """
    if view.state is JobState.COMPLETE:
        return Completed()
    deadline = rules.active_deadline_seconds
    if deadline is not None and clock.active(now) >= deadline:
        message = f"it ran longer than activeDeadlineSeconds ({deadline}) allows, all attempts together"
        return GiveUp(Reason.DEADLINE_EXCEEDED, message, leftovers(view))
    if view.number == 0:
        return _suspended(view, now) if rules.suspend and rules.queue else Start(1)
    match view.state:
        case JobState.FAILED:
            return _after_failure(view, rules, now, recorded, told, ended)
        case JobState.ABSENT if rules.suspend:
            return _suspended(view, now)
        case JobState.ABSENT:
            return _after_vanishing(view, rules, now, told or (None if was_suspended else _vanished(view)))
        case JobState.LEAVING:
            return _leaving(view, rules, now, recorded, was_suspended=was_suspended)
    if rules.suspend:
        return _pausing(view, rules, now, was_suspended=was_suspended)
    return _live(view, clock, rules, now, recorded, unanswered.lost(view.attempt_pods, pulse, now))


def loss_of(view: View) -> Loss:
    """Return why the newest attempt ended badly."""
    if view.job is None:
        return _vanished(view)
    if raystatus.is_ray_job(view.job):
        return ruled(raystatus.loss(view.job, view.attempt_pods), view.rules)
    return ruled(classify(view.attempt_pods, int(view.job["spec"]["completions"])), view.rules)


def _live(view: View, clock: Clock, rules: Rules, now: datetime, recorded: Loss | None, silence: Silence) -> Next:
    job = view.job
    assert job is not None  # noqa: S101 (a live Job is one that exists)
    held = view.state is JobState.HELD
    others = leftovers(view, keep=view.number)
    resized = _resized(recorded)
    if held and rules.queue and not resized:
        return Hold(rules.queue.verdict, (*others, *_relabelled(job, rules.queue)))
    left, wake = overdue(view, now)
    # Whom a pause has sent away is no loss, though its node be lost.
    stuck = tuple(pod for pod in left if not (is_let_go(pod) and (held or not raystatus.is_ray_job(job))))
    others = (*others, *forced(pod for pod in left if pod not in stuck))
    ending = None if resized is None else _making_way(view, job, resized)
    if stuck:
        ending = _abandoned(view, job, stuck, recorded)
    if ending is not None:
        return replace(ending, actions=(*others, *ending.actions), wake_after=wake)
    if condition_time(job, "FailureTarget"):
        loss = loss_of(view)
        return Hold(_restarting(view, loss), (*others, *_hurried(view, loss)), wake, loss)
    late, due = _late(view, job, rules, now, recorded, silence)
    if late is not None:
        loss = ruled(late, view.rules)
        return Hold(_restarting(view, loss), (*others, *_end(view, job, loss, silence)), wake, loss)
    if due is not None:
        wake = sooner(wake, due)
    if rules.active_deadline_seconds is not None:
        wake = sooner(wake, rules.active_deadline_seconds - clock.active(now))
    if not held and any(failed(pod) for pod in view.attempt_pods):
        # Whether it counts is for the Job controller to say: a suspension, and the end of Ray's driver, leave some too.
        return Hold(None, others, wake)
    return Running((*others, *(_resume(view, job) if held else ())), wake)


def _pausing(view: View, rules: Rules, now: datetime, *, was_suspended: bool) -> Hold:
    """Stop the newest attempt, for a suspension."""
    job = view.job
    assert job is not None  # noqa: S101 (a live Job is one that exists)
    others = leftovers(view, keep=view.number)
    if rules.queue and not was_suspended:
        # First why, then the end of it: who finds the Job gone has to know that it was not lost.
        return replace(_suspended(view, now, *others), wake_after=0.0)
    if rules.queue:
        # A queue starts again whatever it has admitted; only a Job that is gone stays stopped, and gives its room back.
        return _suspended(view, now, *others, Delete(job_ref(job), "Foreground"))
    held = view.state is JobState.HELD
    return _suspended(view, now, *others, *(() if held else (Patch(job_ref(job), {"spec": {"suspend": True}}),)))


def _resume(view: View, job: Object) -> tuple[Patch | Delete, ...]:
    if raystatus.is_ray_job(job) and any(alive(pod) for pod in view.attempt_pods):
        # A Job waits for the pods that the suspension ended before it makes new ones; KubeRay does not.
        return unbegun(view)
    return (Patch(job_ref(job), {"spec": {"suspend": False}}),)


def _relabelled(job: Object, queue: Queue) -> tuple[Patch, ...]:
    """Return what brings a Job that waits into the queue that its owner names by now; Kueue takes no other."""
    labels = job["metadata"].get("labels") or {}
    if queue.labels.items() <= labels.items():
        return ()
    return (Patch(job_ref(job), {"metadata": {"labels": dict(queue.labels)}}),)


def _abandoned(view: View, job: Object, stuck: tuple[Object, ...], recorded: Loss | None) -> Hold:
    """End an attempt with pods whose nodes do not answer: the Job would wait for what these cannot report.

    Only without its Job does such a pod let go. What has been told of a change of size stands all the same.
    """
    loss = _resized(recorded) or ruled(_root(view, job, stuck[0], recorded), view.rules)
    ends = (Delete(job_ref(job)), *forced(stuck), *hastened(view, but=stuck))
    return Hold(_restarting(view, loss), ends, lost=loss)


def _making_way(view: View, job: Object, resized: Loss) -> Hold:
    """End an attempt for one with another number of workers, as told, whatever becomes of its pods meanwhile."""
    verdict = _restarting(view, resized)
    if view.state is JobState.HELD:
        # It has no pods, and a Job that is suspended does not end.
        return Hold(verdict, (Delete(job_ref(job), "Foreground"),))
    return Hold(verdict, _given_up(job))


def _resized(recorded: Loss | None) -> Loss | None:
    return recorded if recorded is not None and recorded.reason in RESIZED else None


def _root(view: View, job: Object, stuck: Object, recorded: Loss | None) -> Loss:
    """Return why a gang is lost that has a pod which cannot leave: that came first, or only shows in the end."""
    return (recorded or loss_of(view)) if condition_time(job, "FailureTarget") else unanswered.loss(stuck)


def _end(view: View, job: Object, loss: Loss, silence: Silence) -> tuple[Action, ...]:
    """Return what ends an attempt that would not end by itself, or not soon."""
    by_kuberay = raystatus.is_ray_job(job)
    if silence.pods or (loss.reason == Cause.NODE_LOST and not by_kuberay):
        # As with a pod that is stuck; and the others stand still, and have nothing to save.
        return (Delete(job_ref(job)), *forced(silence.pods), *hastened(view, but=silence.pods))
    unbegun = loss.reason in (Cause.START_TIMEOUT, Cause.NODES_EXCLUDED) and not by_kuberay
    return (Delete(job_ref(job), "Foreground"),) if unbegun else _given_up(job)


def _given_up(job: Object) -> tuple[Patch, ...]:
    """Return what fails a Job, so that its pods are asked to leave, and it keeps its place in a quota."""
    if job["spec"].get("activeDeadlineSeconds") is not None:
        return ()
    return (Patch(job_ref(job), {"spec": {"activeDeadlineSeconds": 1}}),)


def _hurried(view: View, loss: Loss) -> tuple[Delete, ...]:
    return hastened(view) if loss.reason == Cause.HANG else ()


def _late(
    view: View, job: Object, rules: Rules, now: datetime, recorded: Loss | None, silence: Silence
) -> tuple[Loss | None, float | None]:
    if recorded is not None and recorded.reason in (Cause.START_TIMEOUT, Cause.NODES_EXCLUDED, Cause.NODE_LOST):
        # What has been told is carried out, though the pod may have started since, or its node answer again.
        return recorded, None
    if silence.pods:
        return unanswered.loss(silence.pods[0]), None
    gone, kept = _gone(view, now, recorded), injected.look(job, view.attempt_pods, now)
    late, due = timeout(view.attempt_pods, rules.startup_timeout_seconds, now, view.pods)
    stuck, then = cornered(view.attempt_pods, rules.excluded_nodes, now)
    for wait in (then, gone.wake, kept.wake, silence.wake):
        due = due if wait is None else sooner(due, wait)
    return gone.loss or kept.loss or late or stuck, due


def _gone(view: View, now: datetime, recorded: Loss | None) -> Lost:
    """Return whether a gang is lost that a Job would have ended by itself, and KubeRay does not."""
    if view.job is None or not raystatus.is_ray_job(view.job) or view.state is JobState.HELD:
        return Lost(None)
    return Lost(recorded) if recorded is not None else raystatus.lost(view.job, view.attempt_pods, now)


def _leaving(view: View, rules: Rules, now: datetime, recorded: Loss | None, *, was_suspended: bool) -> Hold:
    left, wake = overdue(view, now)
    verdict = SUSPENDED
    if not rules.suspend:
        # A pause that is over before the pods have left is none that the attempt is lost by.
        paused = was_suspended and recorded is None
        verdict = _RESUMING if paused else _restarting(view, recorded or _vanished(view))
    return Hold(verdict, forced(left), wake)


def _after_failure(
    view: View, rules: Rules, now: datetime, recorded: Loss | None, told: Loss | None, told_end: str | None
) -> Next:
    loss = told or loss_of(view)
    # The Job says a little later that it failed than its pods were over, which is what was told.
    ended = parse(told_end or ended_at(view.job, now))
    # A RayJob tells of its driver; who was lost to that, only the pods can tell.
    by_driver = view.job is not None and raystatus.is_ray_job(view.job) and loss.reason != PEER_LOST
    seen = by_driver or any(failed(pod) for pod in view.attempt_pods)
    known = recorded is not None and recorded.reason != Cause.POD_DELETED
    if not seen and not known and _may_be_seen(view, ended) and now < ended + timedelta(seconds=SETTLE):
        return Hold(None, wake_after=SETTLE)
    if told is not None and recorded is None and (said := _first_said(view, rules, told)) is not None:
        return said
    if loss.reason in RESIZED:
        return _retry(view, rules, loss, now, not_before=ended)
    # Preemptions are not counted, so they do not lengthen the wait of others either.
    earlier = min(max(rules.budget.spent - 1, 0), 20)
    longest = max(LONGEST_BACKOFF, rules.backoff_seconds)
    wait = min(rules.backoff_seconds * 2.0**earlier, longest)
    started = view.job and started_at(view.job)
    if loss.failure_class is FailureClass.PREEMPTION and started and seconds_between(started, ended) >= wait:
        # One that comes at once may come again and again, as on a node that is being shut down.
        wait = 0.0
    return _retry(view, rules, loss, now, not_before=ended + timedelta(seconds=wait))


def _first_said(view: View, rules: Rules, loss: Loss) -> Hold | None:
    """Return a look at which a loss is only told, for those who follow the job; None where it is told with its end."""
    ends = rules.suspend or _the_last(view, rules, loss) is not None
    return None if ends else Hold(_restarting(view, loss), wake_after=0.0)


def _the_last(view: View, rules: Rules, loss: Loss) -> GiveUp | None:
    """Return the end, where no other attempt may follow this loss."""
    if not loss.retryable:
        return GiveUp(loss.reason, loss.message, strays(view))
    last = None if loss.reason in RESIZED else exhausted(rules.budget, loss, view.number)
    return None if last is None else GiveUp(*last, strays(view))


def _may_be_seen(view: View, ended: datetime) -> bool:
    """Tell whether more may come to be known of the pods of a Job that has ended.

    Those of an attempt that ran for a while were seen; where none of them is there any more, all are deleted.
    """
    started = view.job and started_at(view.job)
    return bool(view.attempt_pods) or not started or seconds_between(started, ended) < SETTLE


def _after_vanishing(view: View, rules: Rules, now: datetime, loss: Loss | None) -> Next:
    if loss is None:
        # It went for the suspension, not for a failure: the same attempt goes on.
        message = f"attempt {view.number} goes on when the pods that it had before the pause are gone"
        return when_quiet(view, now, Verdict(State.RECONCILING, Reason.STARTING, message)) or Start(view.number)
    return _retry(view, rules, loss, now, not_before=now)


def _retry(view: View, rules: Rules, loss: Loss, now: datetime, *, not_before: datetime) -> Next:
    if (last := _the_last(view, rules, loss)) is not None:
        return last
    if rules.suspend:
        return _suspended(view, now)
    verdict = _restarting(view, loss)
    if (busy := when_quiet(view, now, verdict)) is not None:
        return busy
    if now < not_before:
        return Hold(verdict, wake_after=(not_before - now).total_seconds())
    return Start(view.number + 1)


def when_quiet(view: View, now: datetime, verdict: Verdict) -> Hold | None:
    """Return a pause as long as anything of an earlier gang may still run."""
    unfinished = any(not finished(job) for job in view.jobs.values())
    if not unfinished and all(over(pod) for pod in view.pods):
        return None
    left, wake = overdue(view, now)
    return Hold(verdict, (*leftovers(view), *strays(view), *forced(left), *unbegun(view)), wake)


def _suspended(view: View, now: datetime, *actions: Action) -> Hold:
    """Hold everything: no pod stays, though its Job is gone, or its node does not answer."""
    left, wake = overdue(view, now)
    gone = [pod for pod in left if view.job is None or is_let_go(pod)]
    return Hold(SUSPENDED, (*actions, *strays(view), *forced(gone)), wake)


def _restarting(view: View, loss: Loss) -> Verdict:
    if loss.reason in RESIZED:
        return Verdict(State.RECONCILING, loss.reason, loss.message)
    message = f"attempt {view.number} is lost ({loss.failure_class}): {loss.message}"
    return Verdict(State.RECONCILING, Reason.RESTARTING, message)


def _vanished(view: View) -> Loss:
    return Loss(Cause.JOB_DELETED, f"the Job of attempt {view.number} was deleted")
