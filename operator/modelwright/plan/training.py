"""TrainingJob: one gang per attempt until a version is registered, or until every budget is spent."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from modelwright.api.artifacts import Alias
from modelwright.api.checkpoint import StartedFrom
from modelwright.api.elastic import Elastic
from modelwright.api.layout import alias_key, manifest_key
from modelwright.api.run import Run, TrainingResult
from modelwright.api.trainingjob import (
    Framework,
    PromotionOutcome,
    PromotionStatus,
    TrainingJobSpec,
    TrainingJobStatus,
)
from modelwright.plan import (
    elastic,
    evidence,
    goodput,
    heard,
    history,
    owner,
    podtemplate,
    rayjob,
    rayscaling,
    raystatus,
    survivors,
    warmstart,
)
from modelwright.plan.actions import Action, Apply, Ask, MoveAlias, Plan
from modelwright.plan.attempts import (
    Clock,
    View,
    look,
    outlived,
    tick,
)
from modelwright.plan.budgets import of_policy
from modelwright.plan.conditions import Reason, State, Verdict, is_suspended
from modelwright.plan.events import on_restarts
from modelwright.plan.failures import Cause
from modelwright.plan.gang import Gang, Launcher, gang, logs_uri
from modelwright.plan.launch import program
from modelwright.plan.lifecycle import (
    Completed,
    GiveUp,
    Hold,
    Next,
    Rules,
    Running,
    Start,
    decide,
    when_quiet,
)
from modelwright.plan.observed import TRIGGER_ANNOTATION, Observed
from modelwright.plan.placeholder import name_of, placeholder
from modelwright.plan.promotion import Candidate, is_registered_by, judge, move
from modelwright.plan.questions import Answer, FailedCreates, KindServed, Question, ReadDocument, Store, Unavailable
from modelwright.plan.queueing import Queue, held_back, queue_of
from modelwright.plan.settings import Settings
from modelwright.plan.times import soonest, stamp
from modelwright.plan.validation import sentence, status_before

MODULE = "modelwright.runtime.train"


@dataclass(frozen=True)
class _Job:
    """One look at a TrainingJob that has not ended."""

    observed: Observed
    spec: TrainingJobSpec
    before: TrainingJobStatus
    status: TrainingJobStatus
    """Brought up to what is observed, all but the conditions."""
    view: View
    clock: Clock
    store: Store | None
    settings: Settings
    now: datetime


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan | Ask:
    """Return what is to be done about a TrainingJob."""
    before = status_before(TrainingJobStatus, observed.object)
    if observed.object["metadata"].get("deletionTimestamp") or not owner.is_ours(observed.object):
        return owner.unchanged(observed)
    if before.completion_time is not None:
        return owner.after_the_end(observed, before, now)
    try:
        spec = TrainingJobSpec.model_validate(observed.object["spec"])
        wrong = podtemplate.problem(spec.workers) or rayscaling.problem(spec) or warmstart.problem(observed, spec)
    except ValidationError as error:
        wrong = sentence(error)
    if wrong is not None:
        return owner.say(observed, before, before, Verdict(State.STALLED, Reason.INVALID_SPEC, wrong), now)
    view = look(observed, before.attempt, spec.failure_policy.rules, now)
    if not isinstance(view, View):
        return owner.ask(observed, view, before, now)
    wanted = _next(_bring_up(observed, spec, before, view, settings, now))
    if _is_without_room(observed, view.number):
        # That nothing may look for room to grow is no trouble of a gang that trains.
        observed = replace(observed, rejection=None)
    return owner.unless_refused(observed, before, wanted, now)


def _next(job: _Job) -> Plan | Ask:
    policy, resumable = job.spec.failure_policy, warmstart.can_follow(job.spec, job.status)
    rules = Rules(
        suspend=job.spec.suspend,
        budget=of_policy(policy, job.status.failures, job.status.attempts, resumable=resumable),
        backoff_seconds=policy.backoff_seconds,
        startup_timeout_seconds=policy.startup_timeout_seconds,
        active_deadline_seconds=job.spec.active_deadline_seconds,
        queue=held_back(_queue(job), job.observed, job.before),
        excluded_nodes=job.before.excluded_nodes,
    )
    step = decide(
        job.view,
        job.clock,
        rules,
        job.now,
        was_suspended=is_suspended(job.before.conditions),
        recorded=history.loss_told(job.before.attempts, job.view.number),
        told=history.loss_told(job.status.attempts, job.view.number),
        ended=history.end_told(job.status.attempts, job.view.number),
        pulse=heard.pulse(job.observed, job.status, job.view),
    )
    if isinstance(step, GiveUp) and step.reason == Reason.DEADLINE_EXCEEDED and job.spec.recipe is not None:
        job, step = _once_stopped(job, step)
    growing = elastic.is_growing(job.status, job.view.number) and isinstance(step, Hold) and not job.spec.suspend
    keep = job.view.number if growing else None
    if isinstance(step, Running) and job.spec.workers.elastic is not None:
        adjustment = _adjusted(job, step, job.spec.workers.elastic)
        step, keep = adjustment.step, job.view.number if adjustment.wanted else keep
    asked = _question(job, step)
    made = _proceed(job, step) if asked is None else _conclude(job, step, asked)
    superfluous = elastic.room_of(job.observed).dismissed(keep=keep)
    return made if isinstance(made, Ask) else replace(made, actions=(*superfluous, *made.actions))


def _queue(job: _Job) -> Queue | None:
    return queue_of(job.observed.object, job.spec.workers, job.settings, job.view.job)


def _once_stopped(job: _Job, step: GiveUp) -> tuple[_Job, Next]:
    """Let the pods of a recipe stop before its time is said to be up: rank 0 may register the version as it leaves."""
    reason = Reason.EVALUATING if _evaluating(job) else Reason.TRAINING
    stopping = Verdict(State.RECONCILING, reason, "activeDeadlineSeconds is over: the pods stop")
    hold = when_quiet(job.view, job.now, stopping)
    if hold is None:
        return job, step
    told = history.over(job.status, job.view.number, Cause.DEADLINE_EXCEEDED, stamp(job.now), step.message)
    if told is not job.status:
        # First why, then the end of it: a Job that is gone does not say.
        hold = replace(hold, actions=(), wake_after=0.0)
    return replace(job, status=told), hold


def _proceed(job: _Job, step: Next) -> Plan | Ask:
    match step:
        case Start(number):
            return _start(job, number)
        case Running():
            return _train(job, step)
        case Hold(verdict, actions, wake, lost, workers):
            if workers is not None:
                job = replace(job, status=job.status.model_copy(update={"workers": workers}))
            number, before = job.view.number, job.before
            unsaid = lost is not None and history.loss_told(before.attempts, number) is None
            if lost is not None:
                rules = job.spec.failure_policy.rules
                job = replace(job, status=history.noted(job.status, number, lost, rules))
            said = owner.unchanged(job.observed) if verdict is None else _report(job, verdict)
            if survivors.are_left_by(actions):
                unsaid = unsaid or (before.unconfirmed_attempt or 0) < number
                said = replace(said, status={**said.status, "unconfirmedAttempt": number})
            if unsaid and actions:
                # First why, then the end of it: what is left when the operator dies between would not show it.
                actions, wake = (), 0.0
            return replace(said, actions=actions, wake_after=wake)
        case GiveUp(reason, message, actions):
            return _end(job, Verdict(State.STALLED, reason, message), actions)
        case Completed():
            return _end(job, Verdict(State.READY, Reason.SUCCEEDED, "the program ended well on every pod"))


def _start(job: _Job, number: int) -> Plan | Ask:
    """Begin an attempt, once there is a place to keep its work and a key to it."""
    found = owner.obstacle(job.observed, job.store, job.view.number) or _without_kuberay(job)
    if isinstance(found, owner.Obstacle):
        verdict = found.verdict and owner.held_up(job.before, found.verdict)
        said = owner.unchanged(job.observed) if verdict is None else _report(job, verdict)
        return replace(said, wake_after=found.wake_after)
    if found is not None:
        return owner.ask(job.observed, found, job.before, job.now)
    if warmstart.wanted(job.spec) is not None and job.status.started_from is None:
        return _settle(job)
    return _launch(job, number)


def _without_kuberay(job: _Job) -> owner.Obstacle | Question | Unavailable | None:
    """Return that nobody would run a RayJob, or what must be asked first; None: somebody would, or none is wanted."""
    if not raystatus.wanted(job.observed.object):
        return None
    question = KindServed(rayjob.API_VERSION, rayjob.KIND)
    answer = job.observed.answers.get(question, question)
    if isinstance(answer, KindServed | Unavailable):
        return answer
    if answer:
        return None
    message = (
        f"KubeRay is not installed: the cluster has no kind {rayjob.KIND} of {rayjob.API_VERSION}; install KubeRay 1.6 "
        "or newer, or leave ray.kuberay out of a new TrainingJob"
    )
    return owner.Obstacle(Verdict(State.RECONCILING, Reason.KUBERAY_NOT_INSTALLED, message), owner.LATER)


def _settle(job: _Job) -> Plan | Ask:
    """Decide which checkpoint of another job this one starts from, and write that down before a pod is told of it."""
    assert job.store is not None  # noqa: S101 (an attempt does not start without)
    found = warmstart.find(job.observed, job.spec, job.store, job.settings)
    match found:
        case warmstart.Waiting(verdict, watch, wake_after):
            said = _report(job, owner.held_up(job.before, verdict))
            return replace(said, wake_after=wake_after, watches=() if watch is None else (watch,))
        case warmstart.Impossible(message):
            return _end(job, Verdict(State.STALLED, Reason.WARM_START_IMPOSSIBLE, message))
        case Unavailable():
            return owner.ask(job.observed, found, job.before, job.now)
        case StartedFrom(training_job=name, step=step):
            settled = replace(job, status=job.status.model_copy(update={"started_from": found}))
            message = f"it starts from the checkpoint of step {step} of TrainingJob {name}"
            verdict = owner.held_up(job.before, Verdict(State.RECONCILING, Reason.STARTING, message))
            return replace(_report(settled, verdict), wake_after=0.0)
    return Ask(found)


def _launch(job: _Job, number: int) -> Plan:
    spec, store = job.spec, job.store
    assert store is not None  # noqa: S101 (an attempt does not start without)
    size = elastic.size_of(job.status, number, spec.workers.replicas)
    made = _gang(job, number, size, store)
    update: dict[str, Any] = {"attempt": number, "restarts": number - 1, "workers": size}
    update["unconfirmed_attempt"] = survivors.newest(job.status) or None
    if not spec.suspend and made.queue is None:
        update |= owner.clock_fields(job.clock.running(stamp(job.now)))
        update["attempts"] = history.begun(job.status.attempts, number, stamp(job.now), logs_uri(made), size)
    launched = replace(job, status=job.status.model_copy(update=update))
    actions = (*gang(made, job.settings), *outlived(job.view, number - history.SHOWN + 1))
    return replace(_report(launched, owner.begun(made)), actions=actions)


def _gang(job: _Job, number: int, size: int, store: Store) -> Gang:
    """Return what an attempt with so many workers is made of."""
    workers = job.spec.workers.model_copy(update={"replicas": size})
    return Gang(
        owner=job.observed.object,
        run=_run(job, number, store, job.spec.model_copy(update={"workers": workers})),
        workers=workers,
        program=program(MODULE, workers.command, workers.args),
        launcher=Launcher.RAY if job.spec.framework is Framework.RAY else Launcher.TORCH,
        secret_name=store.secret_name,
        suspend=job.spec.suspend,
        avoided_nodes=job.status.excluded_nodes,
        # A quota counts all the workers that are wished for, so that it need not be asked again when the gang grows.
        queue=_queue(job),
        kuberay=raystatus.wanted(job.observed.object),
    )


def _adjusted(job: _Job, step: Running, wish: Elastic) -> elastic.Adjustment:
    """Let an elastic gang shrink, or look for room to grow."""
    view, replicas, progress = job.view, job.spec.workers.replicas, job.status.progress
    ready = owner.getting_ready(view.attempt_pods, view.number, view.workers(replicas)) is None
    # Kueue would have to admit it anew, and might let somebody else in meanwhile.
    is_queued = (queue := _queue(job)) is not None and bool(queue.labels)
    learns = ready and history.has_stepped(job.status, view.number) and not _evaluating(job)
    may_grow = learns and job.status.checkpoint is not None and not is_queued
    room, eta = elastic.room_of(job.observed), None if progress is None else progress.eta_seconds
    pause = elastic.pause_of(job.status, wish)
    found = elastic.adjusted(step, elastic.Look(view, wish, replicas, room, may_grow, pause, eta, job.now))
    store, running = job.store, found.step
    missing = found.wanted and room.of(view.number) is None and not _is_without_room(job.observed, view.number)
    if not missing or store is None or not isinstance(running, Running):
        return found
    like = _gang(job, view.number, view.workers(replicas), store)
    apply = Apply(placeholder(like, wish, found.wanted, job.settings))
    return replace(found, step=replace(running, actions=(*running.actions, apply)))


def _is_without_room(observed: Observed, number: int) -> bool:
    """Tell whether the API server refused what looks for room for an attempt."""
    refused = observed.rejection
    return refused is not None and refused.action == f"apply Job {name_of(observed.object, number)}"


def _train(job: _Job, step: Running) -> Plan | Ask:
    """Say how the pods are doing; what is missing beside the Job is put back."""
    number, wished = job.view.number, job.spec.workers.replicas
    size = job.view.workers(wished)
    standing = owner.standing(job.observed, job.view, job.spec.workers, job.settings, job.now)
    if isinstance(standing, FailedCreates):
        return Ask((standing,))
    verdict = standing.verdict
    if verdict is None and _evaluating(job):
        verdict = Verdict(State.RECONCILING, Reason.EVALUATING, f"attempt {number} evaluates the model")
    elif verdict is None and heard.is_starting(job.observed, job.status, number, recipe=job.spec.recipe is not None):
        message = f"attempt {number} has its pods, and has told of no step yet"
        verdict = Verdict(State.RECONCILING, Reason.STARTING, message)
    elif verdict is None:
        where = owner.pods(size) if size == wished else f"{size} of {owner.pods(wished)}"
        message = f"attempt {number} trains on {where}"
        verdict = Verdict(State.RECONCILING, Reason.TRAINING, message)
    put_back = () if raystatus.wanted(job.observed.object) else owner.put_back(job.observed, standing.together)
    actions = (*put_back, *step.actions)
    return replace(_report(job, verdict), actions=actions, wake_after=soonest(step.wake_after, standing.wake_after))


def _question(job: _Job, step: Next) -> ReadDocument | None:
    """Return what is to be read on S3 before a step is taken; None where the children tell all."""
    owned = job.observed.object
    if job.store is None:
        return None
    lost = history.loss_told(job.status.attempts, job.view.number)
    if job.spec.recipe is not None:
        return evidence.of_recipe(owned, job.view, job.store, step, lost, started=job.before.start_time is not None)
    return evidence.of_command(owned, job.spec, job.view, job.store, step, lost)


def _conclude(job: _Job, step: Next, question: ReadDocument) -> Plan | Ask:
    """End the job by what is read, or go on where there is nothing."""
    store, key = question.store, question.key
    answer = job.observed.answers.get(question, question)
    if isinstance(answer, ReadDocument):
        return Ask((answer,))
    if job.spec.recipe is None:
        return _conclude_command(job, step, question, answer)
    if isinstance(answer, Unavailable):
        return _unreadable(job, store, answer)
    if answer is None and not isinstance(step, Completed):
        return _proceed(job, step)
    try:
        result = TrainingResult.model_validate(answer)
    except ValidationError:
        message = f"the pods ended well, but left no result at {store.storage.uri}/{key}"
        return _end(job, Verdict(State.STALLED, Reason.FAILED, message))
    update = {"metrics": result.metrics, "model": result.model}
    return _at_the_gate(replace(job, status=job.status.model_copy(update=update)), result, store)


def _conclude_command(job: _Job, step: Next, question: ReadDocument, answer: Answer) -> Plan | Ask:
    number, uncharged = job.view.number, job
    tells_the_end = evidence.tells_of_the_end(question, job.observed.object, number)
    if tells_the_end:
        # That its Job is gone costs nothing as long as it may have been done.
        uncharged = _bring_up(job.observed, job.spec, job.before, job.view, job.settings, job.now, lost=False)
    if isinstance(answer, Unavailable):
        return _unreadable(uncharged, question.store, answer)
    if answer is None or not tells_the_end:
        return _proceed(job, step)
    message = f"the program of attempt {number} ended well; its Job was deleted after that"
    return _end(uncharged, Verdict(State.READY, Reason.SUCCEEDED, message))


def _at_the_gate(job: _Job, result: TrainingResult, store: Store) -> Plan | Ask:
    """Let the new version take its alias, if the gate says so, and end."""
    wanted = job.spec.model
    promotion = wanted.promotion if wanted else None
    if result.model is None:
        return _end(job, Verdict(State.READY, Reason.SUCCEEDED, "trained"))
    registered = f"version {result.model.version} of {result.model.name} is registered"
    if wanted is None or promotion is None:
        return _end(job, Verdict(State.READY, Reason.SUCCEEDED, registered))
    manifest = ReadDocument(store, manifest_key(result.model.name, result.model.version))
    question = ReadDocument(store, alias_key(result.model.name, promotion.alias))
    written, answer = (job.observed.answers.get(each, each) for each in (manifest, question))
    if asked := tuple(each for each in (written, answer) if isinstance(each, ReadDocument)):
        return Ask(asked)
    for each in (written, answer):
        if isinstance(each, Unavailable):
            return _unreadable(job, store, each)
    if not is_registered_by(job.observed.object["metadata"]["uid"], wanted.name, written):
        # Where the operator's own identity moves aliases, a pod that may not write there would have it done.
        message = f"{store.storage.uri}/{manifest.key} is not of this job, which moves no alias to it"
        return _end(job, Verdict(State.STALLED, Reason.FAILED, message))
    try:
        holder = None if answer is None else Alias.model_validate(answer).version
    except ValidationError:
        return _held_up(job, owner.storage_unavailable(f"the document {question.key} is not an alias"))
    candidate = Candidate(result.model, promotion, result.comparison)
    gate = judge(candidate, holder)
    decided = replace(job, status=job.status.model_copy(update={"promotion": gate}))
    verdict = Verdict(State.READY, Reason.SUCCEEDED, f"{registered}; {gate.message}")
    return _end(decided, verdict, _moves(job, candidate, gate, holder, store))


def _moves(
    job: _Job, candidate: Candidate, gate: PromotionStatus, holder: int | None, store: Store
) -> tuple[MoveAlias, ...]:
    if gate.outcome is not PromotionOutcome.PROMOTED or holder == candidate.version.version:
        return ()
    meta = job.observed.object["metadata"]
    return (move(candidate, holder, store, f"TrainingJob/{meta['namespace']}/{meta['name']}"),)


def _bring_up(
    observed: Observed,
    spec: TrainingJobSpec,
    before: TrainingJobStatus,
    view: View,
    settings: Settings,
    now: datetime,
    *,
    lost: bool = True,
) -> _Job:
    """Return the look, with its status brought up; unless `lost`, a Job that is gone is not told as a loss."""
    clock = tick(view, before, now)
    update: dict[str, Any] = owner.clock_fields(clock)
    if view.number:
        update |= {"attempt": view.number, "restarts": view.number - 1}
    # A Job that was deleted for a suspension may be gone before the status says Suspended.
    suspended = spec.suspend or is_suspended(before.conditions) or not lost
    status = history.brought_up(before.model_copy(update=update), view, observed.report, now, suspended=suspended)
    if view.job is not None and not elastic.is_resized(status, view.number):
        status = status.model_copy(update={"workers": view.workers(spec.workers.replicas)})
    store = owner.store_of(observed, spec.storage, settings)
    return _Job(observed, spec, before, status, view, clock, store, settings, now)


def _evaluating(job: _Job) -> bool:
    return heard.is_evaluating(job.observed, job.before, job.view.number)


def _run(job: _Job, number: int, store: Store, spec: TrainingJobSpec) -> Run:
    meta = job.observed.object["metadata"]
    return Run(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        attempt=number,
        unconfirmed=survivors.newest(job.status),
        storage=store.storage,
        training=warmstart.settled(spec, job.status.started_from),
        image=job.spec.workers.image or job.settings.runtime_image,
        trigger=(meta.get("annotations") or {}).get(TRIGGER_ANNOTATION, ""),
    )


def _end(job: _Job, verdict: Verdict, actions: tuple[Action, ...] = ()) -> Plan:
    """End the job for good: a completion time is never taken back."""
    completed = verdict.state is State.READY
    # Gangs end with their job when its time is up, and when their work was found done.
    cause = Cause.COMPLETED if completed else Cause.DEADLINE_EXCEEDED
    told = history.over(job.status, job.view.number, cause, stamp(job.now), None if completed else verdict.message)
    ended = replace(job, status=told.model_copy(update=owner.ending(job.clock, job.now)))
    ttl = job.spec.ttl_seconds_after_finished
    wake = None if ttl is None else float(ttl)
    return replace(_report(ended, verdict, ended=True), actions=actions, wake_after=wake)


def _unreadable(job: _Job, store: Store, trouble: Unavailable) -> Plan | Ask:
    why = owner.unreadable(job.observed, store, trouble)
    return _held_up(job, why) if isinstance(why, Verdict) else Ask((why,))


def _held_up(job: _Job, why: Verdict) -> Plan:
    return replace(_report(job, owner.held_up(job.before, why)), wake_after=owner.SOON)


def _report(job: _Job, verdict: Verdict, *, ended: bool = False) -> Plan:
    look = goodput.Look(job.observed, job.spec.workers, job.before, job.status, verdict, job.view, job.now)
    status = job.status.model_copy(update={"goodput": goodput.kept(look)})
    said = owner.say(job.observed, job.before, status, verdict, job.now, ended=ended)
    return replace(said, events=(*said.events, *on_restarts(job.before.attempts, status.attempts)))
