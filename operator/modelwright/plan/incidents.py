"""From a trigger to a retraining, and from a retraining to an outcome: one TrainingJob per incident, within a budget.

An incident is one reason to retrain: an alert from its start to its end, or one episode of drift of one version. Its
id is a hash of what identifies it and part of its TrainingJob's name, so a notification that comes twice, a crash
between any two writes, and a second operator all lead to the same one job.

An incident that got a job is never given another. One that got none (cooldown, limit, suspended, refused) is recorded
once and is not started by a timer: it is judged anew when there is new evidence that the trouble is still there, that
is when Alertmanager repeats the notification, or when the next drift test fails again. So what went away by itself
costs nothing, what stays is dealt with as soon as the budget allows, and what retraining did not cure is not retrained
for ever.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from modelwright.api.driftpolicy import DriftPolicySpec, DriftPolicyStatus, Incident, IncidentOutcome, Trigger
from modelwright.api.schema import API_VERSION, ApiModel, Count, Timestamp
from modelwright.api.trainingjob import PromotionOutcome
from modelwright.plan import pods
from modelwright.plan.actions import Apply, Event, Object
from modelwright.plan.conditions import find, has_ended
from modelwright.plan.names import child_name, short_hash
from modelwright.plan.observed import TRIGGER_ANNOTATION, Alert
from modelwright.plan.queueing import queue_labels
from modelwright.plan.times import parse, stamp

INCIDENT_ANNOTATION = "modelwright.dev/incident"
"""On a retraining's TrainingJob: the incident, which must outlive an operator that dies before it writes status."""
KEPT = 20
REMEMBERED = 1000
_DAY = timedelta(days=1)
_NAME_LIMIT = 253


@dataclass(frozen=True)
class Cause:
    """Something that calls for a retraining now."""

    id: str
    trigger: Trigger
    name: str
    version: int | None = None
    """Of drift: the version that serves."""
    since: str | None = None
    """Of drift: when it was called."""

    @property
    def words(self) -> str:
        """Say it as in `alert HighErrorRate`, `drift of version 3 in age and income`."""
        return (
            f"alert {self.name}" if self.trigger is Trigger.ALERT else f"drift of version {self.version} in {self.name}"
        )


class Mark(ApiModel):
    """The content of the incident annotation."""

    id: str
    trigger: Trigger
    name: str
    time: Timestamp
    started: Timestamp
    version: Count | None = None
    since: Timestamp | None = None

    def incident(self, training_job: str) -> Incident:
        """Return the incident as it was when its job was created."""
        return Incident(
            id=self.id,
            trigger=self.trigger,
            name=self.name,
            time=self.time,
            training_job=training_job,
            outcome=IncidentOutcome.RETRAINING,
            message=f"TrainingJob {training_job} was created",
        )


@dataclass(frozen=True)
class Ledger:
    """What has been recorded, and the budget that it used up."""

    incidents: Mapping[str, Incident]
    retrained: tuple[str, ...]
    """Ids of the incidents that got a job, oldest first, also of those that status has no room for any more."""
    starts: tuple[str, ...]
    """When retrainings started, oldest first; those of more than a day ago may be missing."""
    last_start: str | None
    running: str | None
    """The retraining that has not ended; there is at most one."""

    def record(self, incident: Incident) -> "Ledger":
        """Return the ledger with an incident added or changed."""
        return replace(self, incidents={**self.incidents, incident.id: incident})

    def start(self, incident: Incident, at: datetime) -> "Ledger":
        """Return the ledger with a retraining that starts now."""
        recent = [text for text in self.starts if at - parse(text) < _DAY]
        return replace(
            self.record(incident),
            retrained=(*self.retrained, incident.id)[-REMEMBERED:],
            starts=(*recent, stamp(at)),
            last_start=stamp(at),
            running=incident.training_job,
        )

    def newest(self) -> tuple[Incident, ...]:
        """Return what status has room for, newest first; the one that is being retrained for always has a place."""
        ordered = sorted(self.incidents.values(), key=lambda entry: (entry.time, entry.id), reverse=True)
        ordered.sort(key=lambda entry: entry.outcome is not IncidentOutcome.RETRAINING)
        return tuple(sorted(ordered[:KEPT], key=lambda entry: (entry.time, entry.id), reverse=True))


def of_alert(policy_uid: str, alert: Alert) -> Cause:
    """Return the cause that an alert is; a notification that is repeated is the same cause."""
    name = alert.labels.get("alertname", alert.fingerprint)[:_NAME_LIMIT]
    return Cause(short_hash(policy_uid, alert.fingerprint, alert.starts_at), Trigger.ALERT, name)


def of_drift(policy_uid: str, version: int, since: str, columns: str) -> Cause:
    """Return the cause that an episode of drift is."""
    identity = short_hash(policy_uid, "drift", str(version), since)
    return Cause(identity, Trigger.DRIFT, columns[:_NAME_LIMIT], version, since)


def mark_of(job: Object) -> Mark | None:
    """Return what a TrainingJob says of the incident that it was created for; None where it says nothing sensible."""
    try:
        return Mark.model_validate_json(job["metadata"].get("annotations", {}).get(INCIDENT_ANNOTATION, ""))
    except ValidationError:
        return None


def read(status: DriftPolicyStatus, jobs: Iterable[Object], now: datetime) -> Ledger:
    """Put together what status remembers and what the retrainings that exist tell, and follow those to their outcome.

    Either alone may be behind: status after a crash, the jobs after somebody deleted one.
    """
    known = {incident.id: incident for incident in status.incidents}
    started = set(status.retraining_times)
    latest = [*filter(None, [status.last_retraining_time]), *started]
    running = None
    for job in sorted(jobs, key=lambda entry: str(entry["metadata"]["name"])):
        mark = mark_of(job)
        start = mark.started if mark else job["metadata"]["creationTimestamp"]
        latest.append(start)
        # Older starts no longer count; status forgets them when it writes the next one, and must not learn them again.
        if now - parse(start) < _DAY:
            started.add(start)
        if mark and (mark.id not in known or known[mark.id].training_job is None):
            known[mark.id] = mark.incident(job["metadata"]["name"])
        if not has_ended(job):
            running = job["metadata"]["name"]
        elif mark and known[mark.id].outcome is IncidentOutcome.RETRAINING:
            known[mark.id] = _outcome(known[mark.id], job)
    shown = sorted(entry.id for entry in known.values() if entry.training_job is not None)
    retrained = tuple(dict.fromkeys((*status.retrained, *shown)))[-REMEMBERED:]
    return Ledger(known, retrained, tuple(sorted(started)), max(latest, default=None), running)


def judge(
    cause: Cause, ledger: Ledger, spec: DriftPolicySpec, refusal: str | None, now: datetime
) -> tuple[IncidentOutcome, str] | None:
    """Return why a cause starts no retraining; None: nothing speaks against it.

    `refusal` is the API server's answer when the last plan tried to create the job.
    """
    retraining = spec.retraining
    if retraining is None:
        return IncidentOutcome.NOT_TRIGGERED, "spec.retraining is not set: this policy only reports"
    if spec.suspend:
        return IncidentOutcome.NOT_TRIGGERED, "the policy is suspended"
    if cause.trigger not in retraining.triggers:
        return IncidentOutcome.NOT_TRIGGERED, f"{cause.trigger.value} is not among spec.retraining.triggers"
    if refusal is not None:
        return IncidentOutcome.FAILED, f"the TrainingJob could not be created: {refusal}"
    if ledger.running is not None:
        return IncidentOutcome.COOLDOWN, f"TrainingJob {ledger.running} is running: one retraining at a time"
    if ledger.last_start and now - parse(ledger.last_start) < timedelta(seconds=retraining.cooldown_seconds):
        wait = f"the last retraining started less than cooldownSeconds ({retraining.cooldown_seconds}) before"
        return IncidentOutcome.COOLDOWN, f"{wait}; if the trouble lasts, a later notification or test starts one"
    if sum(now - parse(start) < _DAY for start in ledger.starts) >= retraining.max_per_day:
        wait = f"maxPerDay ({retraining.max_per_day}) retrainings have started within 24 hours"
        return IncidentOutcome.LIMIT_REACHED, f"{wait}; if the trouble lasts, a later notification or test starts one"
    return None


def incident(cause: Cause, outcome: IncidentOutcome, message: str, before: Incident | None, now: datetime) -> Incident:
    """Return the record of a cause that started nothing."""
    time = before.time if before else stamp(now)
    return Incident(
        id=cause.id, trigger=cause.trigger, name=cause.name, time=time, outcome=outcome, message=message[:2048]
    )


def retraining(policy: Object, cause: Cause, before: Incident | None, now: datetime) -> tuple[Apply, Incident]:
    """Return the TrainingJob of a cause, and the incident that it makes of it."""
    name = child_name(policy["metadata"]["name"], cause.id)
    started = stamp(now)
    mark = Mark(
        id=cause.id,
        trigger=cause.trigger,
        name=cause.name,
        time=before.time if before else started,
        started=started,
        version=cause.version,
        since=cause.since,
    )
    annotations = {
        TRIGGER_ANNOTATION: f"DriftPolicy/{policy['metadata']['name']} {cause.words}",
        INCIDENT_ANNOTATION: mark.model_dump_json(by_alias=True, exclude_none=True),
    }
    job = {
        "apiVersion": API_VERSION,
        "kind": "TrainingJob",
        "metadata": {**pods.metadata(policy, name, queue_labels(policy)), "annotations": annotations},
        "spec": policy["spec"]["retraining"]["template"],
    }
    return Apply(job), mark.incident(name)


def lost(entry: Incident) -> Incident:
    """Return the incident of a retraining that is gone before anybody saw how it ended."""
    message = f"TrainingJob {entry.training_job} was deleted before its outcome was seen"
    return entry.model_copy(update={"outcome": IncidentOutcome.FAILED, "message": message})


def outcome_event(entry: Incident) -> Event:
    """Return what is posted when a retraining has ended."""
    failed = entry.outcome is IncidentOutcome.FAILED
    return Event("Warning" if failed else "Normal", f"Retraining{entry.outcome.value}", entry.message)


_OUTCOMES: Mapping[str | None, IncidentOutcome] = {
    PromotionOutcome.PROMOTED: IncidentOutcome.PROMOTED,
    PromotionOutcome.NOT_BETTER: IncidentOutcome.NOT_BETTER,
    PromotionOutcome.SUPERSEDED: IncidentOutcome.SUPERSEDED,
}


def _outcome(entry: Incident, job: Object) -> Incident:
    condition = find(job, "Succeeded") or {}
    if condition.get("status") == "False":
        message = f"{condition.get('reason', 'Failed')}: {condition.get('message', '')}".rstrip(": ")
        return entry.model_copy(update={"outcome": IncidentOutcome.FAILED, "message": message})
    status = job["status"]
    version = (status.get("model") or {}).get("version")
    promotion = status.get("promotion") or {}
    outcome = _OUTCOMES.get(promotion.get("outcome"), IncidentOutcome.REGISTERED)
    message = promotion.get("message") or f"version {version} was registered; no promotion was asked for"
    return entry.model_copy(update={"outcome": outcome, "message": message, "version": version})
