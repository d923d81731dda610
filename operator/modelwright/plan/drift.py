"""DriftPolicy: test live data, take alerts, start retrainings within a budget, and tell what came of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from modelwright.api.common import Condition
from modelwright.api.driftpolicy import DriftPolicySpec, DriftPolicyStatus, DriftResult, IncidentOutcome, Trigger
from modelwright.plan import incidents, monitoring, rejections
from modelwright.plan.actions import Action, Ask, Event, Object, ObjectWatch, Plan, Rejection
from modelwright.plan.conditions import Reason, State, Verdict, conditions
from modelwright.plan.drift_data import Look, look
from modelwright.plan.events import on_change
from modelwright.plan.incidents import Cause, Ledger
from modelwright.plan.observed import Observed
from modelwright.plan.owner import SOON
from modelwright.plan.questions import ReadLive, Unavailable
from modelwright.plan.settings import Settings
from modelwright.plan.validation import sentence, status_before

_SUSPENDED = Verdict(State.SUSPENDED, Reason.SUSPENDED, "spec.suspend is true: no test is made, no retraining starts")


@dataclass(frozen=True)
class _Policy:
    """One DriftPolicy."""

    object: Object
    spec: DriftPolicySpec
    status: DriftPolicyStatus

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.object["metadata"]["namespace"], self.object["metadata"]["name"]

    @property
    def uid(self) -> str:
        """Of this life of the object."""
        return str(self.object["metadata"]["uid"])


@dataclass(frozen=True)
class _Jobs:
    """The retrainings of a policy."""

    there: tuple[Object, ...]
    gone: frozenset[str]
    """Names that status speaks of and that nobody knows any more."""


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan | Ask:
    """Return what to do about a DriftPolicy, or what must be known first."""
    try:
        policy = _newest(observed)
    except ValidationError as error:
        return _invalid(observed.object, error, now)
    jobs = _jobs(policy, observed)
    if isinstance(jobs, Ask):
        return jobs
    seen = _look(policy, observed, settings, now)
    if isinstance(seen, Ask):
        return seen
    seen = _same_episode(seen, policy, jobs.there)
    ledger = _ledger(policy, jobs, now)
    response = _respond(policy, _causes(policy, seen, observed), ledger, observed, now)
    if isinstance(response, Ask):
        return response
    after, actions = response
    watches = (ObjectWatch("ModelDeployment", policy.key[0], policy.spec.deployment.name),)
    if actions and _unread(observed):
        return Plan(observed.object.get("status") or {}, wake_after=SOON, watches=watches, postponed=True)
    put_off = bool(actions) and observed.rejection is not None
    if put_off:
        # A webhook does not answer, and may at any time: nothing of what calls for a retraining is dealt with.
        seen, after, actions = Look(policy.status.drift), ledger, ()
    status = _status(policy, seen, after, observed, now)
    return Plan(
        status=status.document(),
        actions=actions,
        events=(*_events(policy, seen, after), *on_change(policy.status.conditions, status.conditions)),
        wake_after=seen.next_in,
        watches=watches,
        postponed=put_off,
    )


def _newest(observed: Observed) -> _Policy:
    """Return the policy as the API server has it, once that was asked for: budgets are not kept on an old view."""
    seen = observed.object
    live = observed.answers.get(_live_question(seen))
    if isinstance(live, dict) and live["metadata"]["uid"] == seen["metadata"]["uid"]:
        seen = live
    spec = DriftPolicySpec.model_validate(seen["spec"])
    return _Policy(seen, spec, status_before(DriftPolicyStatus, seen))


def _live_question(policy: Object) -> ReadLive:
    return ReadLive("DriftPolicy", policy["metadata"]["namespace"], policy["metadata"]["name"])


def _unread(observed: Observed) -> bool:
    """Tell whether something that only the API server knows could not be had: no budget is judged without it."""
    return any(
        isinstance(question, ReadLive) and isinstance(answer, Unavailable)
        for question, answer in observed.answers.items()
    )


def _jobs(policy: _Policy, observed: Observed) -> _Jobs | Ask:
    """Return the retrainings; one that status speaks of and the cache does not show is looked for at the API server."""
    jobs = list(observed.child("TrainingJob"))
    shown = {job["metadata"]["name"] for job in jobs}
    questions = {
        name: ReadLive("TrainingJob", policy.key[0], name) for name in _retraining(policy) if name not in shown
    }
    missing = tuple(question for question in questions.values() if question not in observed.answers)
    if missing:
        return Ask(missing)
    answers = {name: observed.answers[question] for name, question in questions.items()}
    jobs.extend(answer for answer in answers.values() if isinstance(answer, dict))
    return _Jobs(tuple(jobs), frozenset(name for name, answer in answers.items() if answer is None))


def _retraining(policy: _Policy) -> list[str]:
    return [
        entry.training_job
        for entry in policy.status.incidents
        if entry.outcome is IncidentOutcome.RETRAINING and entry.training_job is not None
    ]


def _look(policy: _Policy, observed: Observed, settings: Settings, now: datetime) -> Look | Ask:
    if policy.spec.suspend:
        return Look(policy.status.drift)
    return look(policy.object, policy.spec, policy.status.drift, observed, settings, now)


def _same_episode(seen: Look, policy: _Policy, jobs: Iterable[Object]) -> Look:
    """Return the look with the episode's true start, where a retraining was created but status was not written."""
    result = seen.result
    if result is None or not seen.fresh or not result.drifted or _since_before(policy, result) is not None:
        return seen
    recorded = {*policy.status.retrained, *(entry.id for entry in policy.status.incidents)}
    for mark in filter(None, map(incidents.mark_of, jobs)):
        if mark.trigger is Trigger.DRIFT and mark.version == result.version and mark.id not in recorded:
            changed = result.model_copy(update={"since": mark.since})
            return Look(changed, fresh=True, trouble=seen.trouble, next_in=seen.next_in)
    return seen


def _since_before(policy: _Policy, result: DriftResult) -> str | None:
    before = policy.status.drift
    return before.since if before and before.version == result.version else None


def _ledger(policy: _Policy, jobs: _Jobs, now: datetime) -> Ledger:
    status = policy.status
    ledger = incidents.read(status, jobs.there, now)
    for entry in status.incidents:
        if entry.outcome is IncidentOutcome.RETRAINING and entry.training_job in jobs.gone:
            ledger = ledger.record(incidents.lost(entry))
    return ledger


def _causes(policy: _Policy, seen: Look, observed: Observed) -> list[Cause]:
    """Return what calls for a retraining now; a drift test that is not new, or gave no verdict, calls for nothing."""
    alerts = sorted(observed.alerts, key=lambda alert: (alert.starts_at, alert.fingerprint))
    causes = [incidents.of_alert(policy.uid, alert) for alert in alerts]
    result = seen.result
    if result and seen.fresh and result.since and monitoring.has_verdict(result):
        moved = monitoring.moved_columns(result)
        causes.append(incidents.of_drift(policy.uid, result.version, result.since, moved))
    return causes


def _respond(
    policy: _Policy, causes: Iterable[Cause], ledger: Ledger, observed: Observed, now: datetime
) -> tuple[Ledger, tuple[Action, ...]] | Ask:
    actions: list[Action] = []
    refused = observed.rejection
    refusal = refused.message if refused is not None and refused.unanswered is None else None
    for cause in causes:
        if cause.id in ledger.retrained:
            continue
        before = ledger.incidents.get(cause.id)
        objection = incidents.judge(cause, ledger, policy.spec, refusal, now)
        if objection is not None:
            ledger = ledger.record(incidents.incident(cause, *objection, before, now))
            continue
        if _live_question(policy.object) not in observed.answers:
            return Ask((_live_question(policy.object),))
        job, entry = incidents.retraining(policy.object, cause, before, now)
        actions.append(job)
        ledger = ledger.start(entry, now)
    return ledger, tuple(actions)


def _status(policy: _Policy, seen: Look, ledger: Ledger, observed: Observed, now: datetime) -> DriftPolicyStatus:
    generation = policy.object["metadata"].get("generation")
    said = conditions(
        _verdict(policy, seen, ledger, observed.rejection),
        generation=generation,
        before=policy.status.conditions,
        now=now,
        extra=[_drifted(policy, seen.result)] if policy.spec.test else (),
    )
    return DriftPolicyStatus(
        observed_generation=generation,
        conditions=said,
        drift=seen.result,
        incidents=ledger.newest(),
        retrained=ledger.retrained,
        last_retraining_time=ledger.last_start,
        retraining_times=ledger.starts,
    )


def _verdict(policy: _Policy, seen: Look, ledger: Ledger, refused: Rejection | None) -> Verdict:
    if policy.spec.suspend:
        return _SUSPENDED
    if ledger.running is not None:
        return Verdict(State.RECONCILING, Reason.RETRAINING, f"TrainingJob {ledger.running} is retraining the model")
    if refused is not None:
        return rejections.of(refused)
    if seen.trouble is not None:
        return seen.trouble
    watching = f"watching ModelDeployment {policy.spec.deployment.name}"
    result = seen.result
    if result is None:
        return Verdict(State.READY, Reason.WATCHING, watching)
    if result.drifted:
        return Verdict(State.READY, Reason.DRIFTED, _drift_message(policy, result, ledger))
    if not monitoring.has_verdict(result) and policy.spec.test:
        watching = (
            f"{watching}: fewer rows than spec.test.minSamples ({policy.spec.test.min_samples}), so no verdict yet"
        )
    return Verdict(State.READY, Reason.WATCHING, watching)


def _drift_message(policy: _Policy, result: DriftResult, ledger: Ledger) -> str:
    message = f"live data of version {result.version} has moved away from its training data"
    if result.since is None:
        return message
    episode = incidents.of_drift(policy.uid, result.version, result.since, "")
    entry = ledger.incidents.get(episode.id)
    return f"{message}; retraining: {entry.outcome.value}, {entry.message}" if entry else message


def _drifted(policy: _Policy, result: DriftResult | None) -> tuple[str, bool, str, str]:
    if result is None:
        return "Drifted", False, "NotTested", "no test has been made of the version that serves"
    if not monitoring.has_verdict(result):
        rest = "the last verdict stands" if result.drifted else "no verdict"
        return "Drifted", result.drifted, "NotEnoughSamples", f"too few rows in the test's window: {rest}"
    moved = monitoring.moved_columns(result)
    if result.drifted:
        return "Drifted", True, "ColumnsMoved", f"{moved} moved" if moved else "columns moved"
    if moved and policy.spec.test:
        message = f"{moved} moved, but not yet in {policy.spec.test.consecutive} tests in a row"
        return "Drifted", False, "NotConsecutive", message
    return "Drifted", False, "NoShift", "no column has moved by more than chance and minPsi allow"


def _events(policy: _Policy, seen: Look, after: Ledger) -> Iterable[Event]:
    result = seen.result
    if result and seen.fresh and result.since and _since_before(policy, result) is None:
        message = f"version {result.version}: {monitoring.moved_columns(result)} moved"
        yield Event("Warning", "DriftDetected", message)
    before = {entry.id: entry for entry in policy.status.incidents}
    for entry in after.incidents.values():
        known = before.get(entry.id)
        if entry.outcome is IncidentOutcome.RETRAINING and (known is None or known.training_job is None):
            yield Event("Normal", "RetrainingStarted", f"TrainingJob {entry.training_job} for {entry.name}")
        elif known is not None and known.outcome is IncidentOutcome.RETRAINING and entry.outcome is not known.outcome:
            yield incidents.outcome_event(entry)


def _invalid(policy: Object, error: ValidationError, now: datetime) -> Plan:
    verdict = Verdict(State.STALLED, Reason.INVALID_SPEC, sentence(error))
    generation = policy["metadata"].get("generation")
    # What was recorded must survive a spec that cannot be read, and it need not be understood for that.
    kept = policy.get("status") or {}
    before = [Condition.model_validate(entry) for entry in kept.get("conditions") or ()]
    said = conditions(verdict, generation=generation, before=before, now=now)
    status = {**kept, "observedGeneration": generation, "conditions": [entry.document() for entry in said]}
    return Plan(status, events=on_change(before, said))
