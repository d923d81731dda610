"""TuningSweep: one gang of Ray pods per attempt until the budget is spent, then the winner's TrainingJob."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from modelwright.api.layout import sweep_key
from modelwright.api.run import Run, SweepResult
from modelwright.api.tuningsweep import TuningSweepSpec, TuningSweepStatus
from modelwright.plan import owner, podtemplate, trials, winner
from modelwright.plan.actions import Action, Apply, Ask, Plan
from modelwright.plan.attempts import Clock, JobState, View, look, outdated, tick
from modelwright.plan.budgets import Budget
from modelwright.plan.conditions import Reason, State, Verdict, is_suspended
from modelwright.plan.gang import Gang, Launcher, gang
from modelwright.plan.launch import program
from modelwright.plan.lifecycle import Completed, GiveUp, Hold, Next, Rules, Running, Start, decide, when_quiet
from modelwright.plan.observed import Observed
from modelwright.plan.questions import FailedCreates, ReadDocument, Store, Unavailable
from modelwright.plan.queueing import Queue, held_back, queue_of
from modelwright.plan.settings import Settings
from modelwright.plan.sweep_checks import problem
from modelwright.plan.times import soonest, stamp
from modelwright.plan.validation import sentence, status_before

MODULE = "modelwright.runtime.tune"
_BACKOFF = 5
_STARTUP_TIMEOUT = 1800
"""Seconds; the default of TrainingJob."""


@dataclass(frozen=True)
class _Sweep:
    """One look at a TuningSweep that has not ended."""

    observed: Observed
    spec: TuningSweepSpec
    before: TuningSweepStatus
    status: TuningSweepStatus
    """Brought up to what is observed, all but the conditions."""
    view: View
    clock: Clock
    store: Store | None
    settings: Settings
    now: datetime


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan | Ask:
    """Return what is to be done about a TuningSweep."""
    before = status_before(TuningSweepStatus, observed.object)
    if observed.object["metadata"].get("deletionTimestamp"):
        return owner.unchanged(observed)
    if before.completion_time is not None:
        busy = winner.at_work(observed, before)
        if not isinstance(busy, bool):
            return owner.ask(observed, busy, before, now)
        return owner.after_the_end(observed, before, now, busy=busy)
    try:
        spec = TuningSweepSpec.model_validate(observed.object["spec"])
        wrong = problem(spec) or podtemplate.problem(spec.workers)
    except ValidationError as error:
        wrong = sentence(error)
    if wrong is not None:
        return owner.say(observed, before, before, Verdict(State.STALLED, Reason.INVALID_SPEC, wrong), now)
    view = look(observed, before.attempt)
    if not isinstance(view, View):
        return owner.ask(observed, view, before, now)
    wanted = _next(_bring_up(observed, spec, before, view, settings, now))
    return owner.unless_refused(observed, before, wanted, now)


def _next(sweep: _Sweep) -> Plan | Ask:
    rules = Rules(
        suspend=sweep.spec.suspend,
        budget=Budget(sweep.spec.max_restarts, spent=sweep.view.number),
        backoff_seconds=_BACKOFF,
        startup_timeout_seconds=_STARTUP_TIMEOUT,
        active_deadline_seconds=sweep.spec.active_deadline_seconds,
        queue=held_back(_queue(sweep), sweep.observed, sweep.before),
    )
    was_suspended = is_suspended(sweep.before.conditions)
    step = decide(sweep.view, sweep.clock, rules, sweep.now, was_suspended=was_suspended)
    if isinstance(step, GiveUp) and step.reason == Reason.DEADLINE_EXCEEDED:
        # A trial may still end while its pods stop: which one is the best is known when they are gone.
        stopping = Verdict(State.RECONCILING, Reason.SEARCHING, "activeDeadlineSeconds is over: the pods stop")
        step = when_quiet(sweep.view, sweep.now, stopping) or step
    # A lost gang may have found all that there was to find; and where it did not, its trials are not forgotten.
    lost = sweep.view.number > 0 and sweep.view.state in (JobState.FAILED, JobState.ABSENT)
    if isinstance(step, Completed | GiveUp) or (isinstance(step, Start) and lost):
        return _with_result(sweep, step)
    return _proceed(sweep, step)


def _queue(sweep: _Sweep) -> Queue | None:
    return queue_of(sweep.observed.object, sweep.spec.workers, sweep.settings, sweep.view.job)


def _with_result(sweep: _Sweep, step: Next) -> Plan | Ask:
    """Read what the sweep has found so far, and end it or go on."""
    if sweep.store is None or sweep.view.number == 0:
        return _proceed(sweep, step)
    meta = sweep.observed.object["metadata"]
    question = ReadDocument(sweep.store, sweep_key(meta["namespace"], meta["uid"]))
    answer = sweep.observed.answers.get(question, question)
    if isinstance(answer, ReadDocument):
        return Ask((answer,))
    actions = step.actions if isinstance(step, GiveUp) else ()
    if isinstance(answer, Unavailable):
        why = owner.unreadable(sweep.observed, sweep.store, answer)
        if not isinstance(why, Verdict):
            return Ask((why,))
        return replace(_report(sweep, owner.held_up(sweep.before, why)), actions=actions, wake_after=owner.SOON)
    try:
        result = SweepResult.model_validate(answer)
    except ValidationError:
        result = SweepResult(attempt=0, finished=False)
    uri = f"{sweep.store.storage.uri}/{question.key}"
    known = replace(sweep, status=trials.from_result(sweep.status, result, uri))
    if result.finished:
        return _and_first(_conclude(known, "the search is over"), actions)
    if isinstance(step, GiveUp) and step.reason == Reason.DEADLINE_EXCEEDED and known.status.best_trial is not None:
        # A time budget is a budget: what was found within it counts.
        return _and_first(_conclude(known, "activeDeadlineSeconds ended the search"), actions)
    return _proceed(known, step)


def _proceed(sweep: _Sweep, step: Next) -> Plan | Ask:
    match step:
        case Start(number):
            return _start(sweep, number)
        case Running():
            return _search(sweep, step)
        case Hold(verdict, actions, wake):
            said = owner.unchanged(sweep.observed) if verdict is None else _report(sweep, verdict)
            return replace(said, actions=actions, wake_after=wake)
        case GiveUp(reason, message, actions):
            return _and_first(_end(sweep, Verdict(State.STALLED, reason, message)), actions)
        case Completed():
            message = "the driver ended well, but left no complete result: see the log of pod 0"
            return _end(sweep, Verdict(State.STALLED, Reason.FAILED, message))


def _start(sweep: _Sweep, number: int) -> Plan | Ask:
    """Begin an attempt, once there is a place to keep its trials and a key to it."""
    found = owner.obstacle(sweep.observed, sweep.store, sweep.view.number)
    if isinstance(found, owner.Obstacle):
        verdict = found.verdict and owner.held_up(sweep.before, found.verdict)
        said = owner.unchanged(sweep.observed) if verdict is None else _report(sweep, verdict)
        return replace(said, wake_after=found.wake_after)
    if found is not None:
        return owner.ask(sweep.observed, found, sweep.before, sweep.now)
    return _launch(sweep, number)


def _launch(sweep: _Sweep, number: int) -> Plan:
    spec, store = sweep.spec, sweep.store
    queue = _queue(sweep)
    assert store is not None  # noqa: S101 (nothing starts without)
    made = Gang(
        owner=sweep.observed.object,
        run=_run(sweep, number, store),
        workers=spec.workers,
        program=program(MODULE),
        launcher=Launcher.RAY,
        secret_name=store.secret_name,
        suspend=spec.suspend,
        queue=queue,
    )
    update: dict[str, Any] = {"attempt": number, "restarts": number - 1}
    if not spec.suspend and queue is None:
        update |= owner.clock_fields(sweep.clock.running(stamp(sweep.now)))
    started = replace(sweep, status=sweep.status.model_copy(update=update))
    return replace(_report(started, owner.begun(made)), actions=gang(made, sweep.settings))


def _search(sweep: _Sweep, step: Running) -> Plan | Ask:
    """Say how the pods are doing; what is missing beside the Job is put back."""
    standing = owner.standing(sweep.observed, sweep.view, sweep.spec.workers, sweep.settings, sweep.now)
    if isinstance(standing, FailedCreates):
        return Ask((standing,))
    searching = f"attempt {sweep.view.number} searches on {owner.pods(sweep.spec.workers.replicas)}"
    told = _report(sweep, standing.verdict or Verdict(State.RECONCILING, Reason.SEARCHING, searching))
    actions = (*owner.put_back(sweep.observed, standing.together), *step.actions)
    return replace(told, actions=actions, wake_after=soonest(step.wake_after, standing.wake_after))


def _conclude(sweep: _Sweep, why: str) -> Plan | Ask:
    """End the search by its best trial, and hand that over to a TrainingJob where the user wants one."""
    best = sweep.status.best_trial
    if best is None:
        message = f"{why}, and no trial succeeded: {trials.last_failure(sweep.status)}"
        return _end(sweep, Verdict(State.STALLED, Reason.NO_TRIAL_SUCCEEDED, message))
    metric = sweep.spec.objective.metric
    message = f"{why}: trial {best.number} is the best, with {metric} {best.value:.6g}"
    succeeded = Verdict(State.READY, Reason.SUCCEEDED, message)
    if not sweep.spec.winner.train:
        return _end(sweep, succeeded)
    job = winner.training_job(sweep.observed.object, best)
    found = winner.find(sweep.observed, job)
    if isinstance(found, winner.Taken):
        verdict = Verdict(State.STALLED, Reason.CHILD_REJECTED, found.message)
        return replace(_report(sweep, verdict), wake_after=owner.SELDOM)
    if not isinstance(found, bool):
        return owner.ask(sweep.observed, found, sweep.before, sweep.now)
    # A winner that was trained, and is gone again, must not come back because this view of the sweep is old.
    old = False if found else outdated(sweep.observed, sweep.view.number)
    if not isinstance(old, bool):
        return owner.ask(sweep.observed, old, sweep.before, sweep.now)
    if old:
        return replace(owner.unchanged(sweep.observed), wake_after=owner.SOON)
    update = {"winner_training_job": job["metadata"]["name"]}
    named = replace(sweep, status=sweep.status.model_copy(update=update))
    return _and_first(_end(named, succeeded), () if found else (Apply(job),))


def _bring_up(
    observed: Observed,
    spec: TuningSweepSpec,
    before: TuningSweepStatus,
    view: View,
    settings: Settings,
    now: datetime,
) -> _Sweep:
    clock = tick(view, before, now)
    update: dict[str, Any] = owner.clock_fields(clock)
    if view.number:
        update |= {"attempt": view.number, "restarts": view.number - 1}
    status = trials.with_report(before.model_copy(update=update), observed.report, view.number)
    if view.state is not JobState.LIVE:
        status = trials.none_running(status)
    store = owner.store_of(observed, spec.template.storage, settings)
    return _Sweep(observed, spec, before, status, view, clock, store, settings, now)


def _run(sweep: _Sweep, number: int, store: Store) -> Run:
    meta = sweep.observed.object["metadata"]
    return Run(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        attempt=number,
        storage=store.storage,
        training=sweep.spec.template,
        sweep=sweep.spec,
        image=sweep.spec.workers.image or sweep.settings.runtime_image,
    )


def _end(sweep: _Sweep, verdict: Verdict) -> Plan:
    """End the sweep for good: a completion time is never taken back."""
    over = sweep.status.model_copy(update=owner.ending(sweep.clock, sweep.now))
    ended = replace(sweep, status=trials.none_running(over))
    ttl = sweep.spec.ttl_seconds_after_finished
    return replace(_report(ended, verdict, ended=True), wake_after=None if ttl is None else float(ttl))


def _and_first(said: Plan | Ask, actions: tuple[Action, ...]) -> Plan | Ask:
    return said if isinstance(said, Ask) else replace(said, actions=(*actions, *said.actions))


def _report(sweep: _Sweep, verdict: Verdict, *, ended: bool = False) -> Plan:
    return owner.say(sweep.observed, sweep.before, sweep.status, verdict, sweep.now, ended=ended)
