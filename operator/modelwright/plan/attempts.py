"""Which attempt of a gang is the newest, how its Job stands, and how long gangs ran. For training and tuning."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from modelwright.api.failurepolicy import FailureRule
from modelwright.plan import podstatus, raystatus
from modelwright.plan.actions import Delete, Object, Ref
from modelwright.plan.gang import job_name, ray_job_name
from modelwright.plan.observed import ATTEMPT_LABEL, HELD_ANNOTATION, OWNER_UID_LABEL, PLACEHOLDER_LABEL, Observed
from modelwright.plan.questions import Question, ReadLive, Unavailable
from modelwright.plan.rayjob import KIND as RAY_JOB
from modelwright.plan.times import parse, seconds_between, stamp


class JobState(StrEnum):
    """How the Job of an attempt stands."""

    ABSENT = "absent"
    LIVE = "live"
    HELD = "held"
    """Suspended: it has no pods, or soon has none."""
    LEAVING = "leaving"
    """Deleted, but not gone."""
    COMPLETE = "complete"
    FAILED = "failed"


class Record(Protocol):
    """What the statuses of TrainingJob and TuningSweep have in common."""

    @property
    def start_time(self) -> str | None: ...  # noqa: D102 (documented where it is defined, as all of these)
    @property
    def active_seconds(self) -> int | None: ...  # noqa: D102
    @property
    def active_since(self) -> str | None: ...  # noqa: D102
    @property
    def attempt(self) -> int | None: ...  # noqa: D102


@dataclass(frozen=True)
class View:
    """The attempts of one owner, as observed."""

    number: int
    """The newest attempt; 0 before the first."""
    jobs: Mapping[int, Object]
    pods: tuple[Object, ...]
    """Of every attempt."""
    rules: tuple[FailureRule, ...] = ()
    """How failures are to be understood."""

    @property
    def job(self) -> Object | None:
        """The newest attempt's Job."""
        return self.jobs.get(self.number)

    @property
    def state(self) -> JobState:
        """How the newest attempt's Job stands."""
        return state_of(self.job)

    @property
    def attempt_pods(self) -> tuple[Object, ...]:
        """The pods of the newest attempt."""
        return tuple(pod for pod in self.pods if attempt_of(pod) == self.number)

    def workers(self, wished: int) -> int:
        """Return how many pods the newest attempt has; as many as are wished for where its Job does not tell."""
        return workers_of(self.job, wished)


@dataclass(frozen=True)
class Clock:
    """How long gangs have been running, without the time that they were suspended, queued or waiting for a restart."""

    start_time: str | None
    seconds: int
    """Of stretches that are over."""
    since: str | None
    """When the stretch that is not over began."""

    def active(self, now: datetime) -> float:
        """Return the seconds so far."""
        return self.seconds + (max(0.0, seconds_between(self.since, now)) if self.since else 0.0)

    def running(self, since: str) -> "Clock":
        """Return the clock of a gang that runs, since then unless it ran already."""
        since = self.since or since
        return Clock(self.start_time or since, self.seconds, since)

    def stopped(self, at: datetime) -> "Clock":
        """Return the clock after the gang stopped."""
        return Clock(self.start_time, round(self.active(at)), None)


def look(
    observed: Observed, recorded: int | None, rules: tuple[FailureRule, ...] = (), now: datetime | None = None
) -> View | Question | Unavailable:
    """Return the attempts of an object, or what must be asked first.

    That a Job has vanished is believed only of the API server itself: an old view of the children must not lead to a
    second gang beside the first. Nor must one to the end of a gang whose RayJob is done, or suspended, and whose pods
    leave for that; `now` is for RayJobs.
    """
    owner = observed.object
    jobs, pods = jobs_of(observed), gang_pods(observed)
    number = max(recorded or 0, *jobs, 0)
    view = View(number, jobs, pods, rules)
    if number and (number not in jobs or _is_dubious(view, now)):
        kind, name = (RAY_JOB, ray_job_name) if raystatus.wanted(owner) else ("Job", job_name)
        question = ReadLive(kind, owner["metadata"]["namespace"], name(owner, number))
        answer = observed.answers.get(question, question)
        if isinstance(answer, ReadLive | Unavailable):
            return answer
        jobs.pop(number, None)
        if isinstance(answer, dict) and _owned(answer, owner):
            jobs[number] = raystatus.as_job(answer)
    return view


def gang_pods(observed: Observed) -> tuple[Object, ...]:
    """Return the pods of all attempts."""
    return tuple(pod for pod in observed.child("Pod") if not is_placeholder(pod))


def jobs_of(observed: Observed) -> dict[int, Object]:
    """Return the Jobs of all attempts, RayJobs as if they were some."""
    found = (*observed.child("Job"), *observed.child(RAY_JOB))
    jobs = {attempt_of(job): raystatus.as_job(job) for job in found if not is_placeholder(job)}
    pods: dict[int, list[Object]] = {}
    for pod in gang_pods(observed):
        pods.setdefault(attempt_of(pod), []).append(pod)
    return {number: _as_failed(job, pods.get(number, [])) for number, job in jobs.items()}


def _as_failed(job: Object, pods: Collection[Object]) -> Object:
    """Return a Job that only waits until it is said that it failed as one that has; others as they are.

    Its controller looks once a second, and looks at the pods again once it has decided that the Job fails, of which
    nodes tell the ends late as well. By then no process may run any more, and the next attempt could start. Not so
    where pods were made more than once, after a suspension, nor where a queue counts who has ended.
    """
    known = state_of(job) is JobState.LIVE and not raystatus.is_ray_job(job) and not _was_held(job)
    # A Job that was deleted, and made again under the same name, has nothing to do with the pods of the other.
    mine = [pod for pod in pods if _is_of(pod, job)]
    if not known or not mine or not all(map(podstatus.over, mine)) or not _must_fail(job, mine):
        return job
    decided, ends = condition_time(job, "FailureTarget"), [podstatus.ended_at(pod) for pod in mine]
    if decided is None and None in ends:
        # Nobody has told when it ended: its node went, or it never began. Its Job soon does.
        return job
    told: Object = {"type": "Failed", "status": "True", "lastTransitionTime": max(filter(None, [decided, *ends]))}
    status = job.get("status") or {}
    return {**job, "status": {**status, "conditions": [*(status.get("conditions") or ()), told]}}


def _must_fail(job: Object, pods: Collection[Object]) -> bool:
    """Tell whether a Job fails and has no pods but these, all of which are over.

    A worker has one, for nothing is restarted within a Job. Where that of some worker is missing, it is gone if pods
    were seen that are newer than the decision: one watch tells of all of them, in the order of their changes. Where
    nothing is decided, one that failed decides; under Ray it is the head's, for the others may fail when it is done.
    """
    there = {podstatus.index(pod) for pod in pods}
    all_known = there == {str(number) for number in range(int(job["spec"]["completions"]))}
    if condition_time(job, "FailureTarget"):
        return not job["status"].get("active") and (all_known or max(map(_version, pods)) > _version(job))
    decide = [pod for pod in pods if podstatus.index(pod) == "0"] if job["spec"].get("successPolicy") else pods
    return all_known and any(map(podstatus.failed, decide)) and not any(map(podstatus.may_be_explained, pods))


def _version(known: Object) -> int:
    return int(known["metadata"].get("resourceVersion") or 0)


def _was_held(job: Object) -> bool:
    """Tell whether a Job was ever suspended, or made so: it may be let in before its controller has looked at it."""
    meta, conditions = job["metadata"], (job.get("status") or {}).get("conditions") or ()
    made_so = HELD_ANNOTATION in (meta.get("annotations") or {})
    return made_so or any(condition["type"] == "Suspended" for condition in conditions)


def _is_of(pod: Object, job: Object) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(owner["uid"] == job["metadata"]["uid"] for owner in owners)


def _is_dubious(view: View, now: datetime | None) -> bool:
    """Tell whether the newest attempt is a RayJob that lives, as far as is known, though its pods do not look so."""
    job = view.job
    if job is None or now is None or not raystatus.is_ray_job(job) or view.state is not JobState.LIVE:
        return False
    return raystatus.lost(job, view.attempt_pods, now).loss is not None


def outdated(observed: Observed, number: int) -> bool | Question | Unavailable:
    """Return whether an object has gone on since it was observed with this newest attempt, or what must be asked first.

    Asked before every attempt but the first: a start that is decided on an old view would put a second gang beside a
    live one.
    """
    owner = observed.object
    question = ReadLive(owner["kind"], owner["metadata"]["namespace"], owner["metadata"]["name"])
    answer = observed.answers.get(question, question)
    if isinstance(answer, ReadLive | Unavailable):
        return answer
    if not isinstance(answer, dict) or answer["metadata"]["uid"] != owner["metadata"]["uid"]:
        return True
    status = answer.get("status") or {}
    gone = bool(answer["metadata"].get("deletionTimestamp") or status.get("completionTime"))
    return gone or int(status.get("attempt") or 0) > number


def tick(view: View, before: Record, now: datetime) -> Clock:
    """Return the clock, brought up to what is observed; an attempt that nobody recorded counts by its Job's times."""
    clock = Clock(before.start_time, before.active_seconds or 0, before.active_since)
    recorded = before.attempt or 0
    for number in sorted({recorded, *view.jobs} - {0}):
        job, state = view.jobs.get(number), state_of(view.jobs.get(number))
        started = started_at(job) if job else None
        if number > recorded and started is not None:
            clock = clock.running(started)
        if state is JobState.LIVE and number == view.number:
            # After a short suspension the Job may still show its earlier start, which has been counted.
            clock = clock.running(started if started and clock.start_time is None else stamp(now))
        elif number >= recorded and clock.since is not None:
            clock = clock.stopped(_stopped_at(job, now))
    return clock


def state_of(job: Object | None) -> JobState:
    """Return how a Job stands."""
    if job is None:
        return JobState.ABSENT
    if condition_time(job, "Complete"):
        return JobState.COMPLETE
    if condition_time(job, "Failed"):
        return JobState.FAILED
    if job["metadata"].get("deletionTimestamp"):
        return JobState.LEAVING
    return JobState.HELD if job["spec"].get("suspend") else JobState.LIVE


def finished(job: Object) -> bool:
    """Tell whether a Job has ended, and all of its pods with it."""
    return state_of(job) in (JobState.COMPLETE, JobState.FAILED)


def condition_time(job: Object, kind: str) -> str | None:
    """Return since when a condition of a Job has been True; None where it is not."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] == kind and condition["status"] == "True":
            return str(condition.get("lastTransitionTime") or job["metadata"]["creationTimestamp"])
    return None


def started_at(job: Object) -> str | None:
    """Return when the Job controller last started the pods of a Job."""
    found = (job.get("status") or {}).get("startTime")
    return str(found) if found else None


def ended_at(job: Object | None, now: datetime) -> str:
    """Return when a Job ended; now where nobody can tell.

    Between its start and now, whatever the clocks of nodes say.
    """
    found = None if job is None else condition_time(job, "Complete") or condition_time(job, "Failed")
    if job is None or found is None:
        return stamp(now)
    return min(max(found, started_at(job) or found), stamp(now))


def attempt_of(child: Object) -> int:
    """Return the attempt that a child belongs to; 0 where it does not say."""
    text = (child["metadata"].get("labels") or {}).get(ATTEMPT_LABEL, "")
    return int(text) if text.isdecimal() else 0


def workers_of(job: Object | None, wished: int) -> int:
    """Return how many pods a Job has; as many as are wished for where it does not tell."""
    return wished if job is None else int(job["spec"].get("completions", wished))


def is_placeholder(child: Object) -> bool:
    """Tell whether a child belongs to no attempt, and only looks for room for one."""
    return PLACEHOLDER_LABEL in (child["metadata"].get("labels") or {})


def ref(target: Object, api_version: str, kind: str) -> Ref:
    """Return the address of this life of an object."""
    meta = target["metadata"]
    return Ref(api_version, kind, meta["namespace"], meta["name"], meta["uid"])


def job_ref(job: Object) -> Ref:
    """Return the address of the Job, or the RayJob, of an attempt."""
    return ref(job, job.get("apiVersion", "batch/v1"), job.get("kind", "Job"))


def leftovers(view: View, *, keep: int | None = None) -> tuple[Delete, ...]:
    """Return the deletes of Jobs that have not ended, but for one attempt: only one gang may live."""
    return tuple(
        Delete(job_ref(job), "Foreground")
        for number, job in sorted(view.jobs.items())
        if number != keep and state_of(job) in (JobState.LIVE, JobState.HELD)
    )


def outlived(view: View, oldest: int) -> tuple[Delete, ...]:
    """Return the deletes of Jobs that ended before the oldest attempt that is still told of: restarts may be many."""
    old = [job for number, job in sorted(view.jobs.items()) if number < oldest and finished(job)]
    return tuple(Delete(job_ref(job)) for job in old)


def _owned(job: Object, owner: Object) -> bool:
    return bool((job["metadata"].get("labels") or {}).get(OWNER_UID_LABEL) == owner["metadata"]["uid"])


def _stopped_at(job: Object | None, now: datetime) -> datetime:
    times = [condition_time(job, kind) for kind in ("Complete", "Failed", "Suspended")] if job else []
    known = [parse(time) for time in times if time]
    return min(max(known), now) if known else now
