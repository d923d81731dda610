"""Lets gangs in, one decision at a time: two that were decided side by side could each take the other's room.

Who is in is what Jobs run, and who waits is what Jobs are suspended, so a new leader goes on where
the last one stopped. A gang that is lost goes on in the room that it had: with a queue behind it, the loss of a pod
would else cost days. Who had its room between two attempts is remembered, for no Job tells; a new leader takes those
for such that run and are about to start again, as far as there is room for them.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from prometheus_client.core import Metric

from modelwright.kube import errors
from modelwright.kube.act import Hands
from modelwright.kube.metrics import gauge
from modelwright.kube.objects import Key, Objects
from modelwright.kube.refusals import Refusals
from modelwright.kube.resources import JOB, RAY_JOB
from modelwright.plan import raystatus
from modelwright.plan.actions import Patch, Ref
from modelwright.plan.attempts import job_ref
from modelwright.plan.conditions import Reason
from modelwright.plan.contenders import between_attempts, contender, has_passed
from modelwright.plan.quotas import Contender, Quota, admit, usage, waiting_in
from modelwright.plan.rejections import verdict

SETTLE_SECONDS = 0.2
"""Changes come in bunches, and each decision looks at every gang."""
_SHARE = 0.1
"""Of the process's time that decisions may take: with thousands of gangs, one takes a while."""
RETRY_SECONDS = 10.0
REFUSED_SECONDS = 300.0
"""For so long a gang that may not be let in keeps nobody waiting."""
_OWNERS = frozenset({"TrainingJob", "TuningSweep"})
_JOBS = (JOB.kind, RAY_JOB.kind)
Values: TypeAlias = dict[tuple[str, ...], float]
_BY = Key("Quota", "", "")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Seen:
    """A Job as it was looked at."""

    versions: tuple[int, int]
    """Resource versions of the Job and of its owner; 0 for an owner that is gone."""
    job: Ref
    owner: str
    """UID of its owner; empty where there is none in its namespace, of which alone a Job may speak."""
    passed: bool
    """Its owner's gang is between two attempts, if no other Job says something else."""
    gang: Contender | None


class Admission:
    """Takes `suspend` from the Jobs of gangs for which there is room in every quota that counts them."""

    def __init__(
        self,
        objects: Objects,
        hands: Hands,
        quotas: tuple[Quota, ...],
        clock: Callable[[], float] = time.monotonic,
        refusals: Refusals | None = None,
    ) -> None:
        self._objects = objects
        self._hands = hands
        self._quotas = quotas
        self._told = refusals or Refusals()
        self._clock = clock
        self._refused: dict[str, float] = {}
        """UID of Jobs that the API server does not let be started, and when that is tried again."""
        self._unanswered: dict[str, float] = {}
        """UID of Jobs for which a webhook does not answer, and since when."""
        self._in: set[str] = set()
        """UID of owners whose gangs had their room after the last decision, or may have: it goes on in it."""
        self._reasons: dict[Key, str] = {}
        self._took = 0.0
        """Seconds of the last decision, without its writes."""
        self._seen: dict[Key, _Seen] = {}
        """Most Jobs stay as they are from one decision to the next, and to read one takes a while."""
        self._changed = asyncio.Event()
        self._changed.set()

    def __call__(self, key: Key, owner: str | None, by: Key | None) -> None:
        """Take note of a change that may make room, or want some."""
        if key.kind in _JOBS:
            self._changed.set()
        elif key.kind in _OWNERS:
            # What a reconcile writes is the status, every second while it trains: of that the reason counts alone.
            record = self._objects.record(key)
            reason = record.reason if record is not None else ""
            if by is None or self._reasons.get(key, "") != reason:
                self._changed.set()
            if record is None:
                self._reasons.pop(key, None)
            else:
                self._reasons[key] = reason

    async def run(self) -> None:
        """Decide after every change, for ever; without quotas there is nothing to decide."""
        while self._quotas:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), REFUSED_SECONDS if self._refused else None)
            await asyncio.sleep(max(SETTLE_SECONDS, self._took / _SHARE))
            self._changed.clear()
            if not await self.decide():
                await asyncio.sleep(RETRY_SECONDS)
                self._changed.set()
        await asyncio.Event().wait()

    def take_over(self) -> None:
        """Keep, before anything is done, the room of gangs that are between two attempts, where nobody else has it."""
        if not self._quotas:
            return
        seen = self._look()
        running = [gang for gang in _gangs(seen) if gang.admitted]
        owners = [record.uid for key in self._objects.keys(*_OWNERS) if (record := self._objects.record(key))]
        heirs = [replace(gang, admitted=False) for gang in self._between(seen, owners)]
        self._in = {entry.owner for entry in seen if entry.gang is not None and entry.gang.admitted}
        self._in |= {gang.identity for gang in admit(self._quotas, [*running, *heirs])}

    async def decide(self) -> bool:
        """Let in whoever may come in; return whether every write was answered."""
        begun = self._clock()
        seen = self._look()
        jobs = {entry.gang.identity: entry for entry in seen if entry.gang is not None}
        self._refused = {uid: until for uid, until in self._refused.items() if uid in jobs and until > begun}
        self._unanswered = {uid: since for uid, since in self._unanswered.items() if uid in jobs}
        self._told.keep({uid for uid, entry in jobs.items() if entry.gang is not None and not entry.gang.admitted})
        gangs = [gang for gang in _gangs(seen) if gang.admitted or gang.identity not in self._refused]
        again = {gang.identity for gang in gangs if not gang.admitted and jobs[gang.identity].owner in self._in}
        known = [replace(gang, admitted=True) if gang.identity in again else gang for gang in gangs]
        between = self._between(seen, self._in)
        self._in = {jobs[gang.identity].owner for gang in known if gang.admitted} | {gang.identity for gang in between}
        wanted = [*sorted(again), *(gang.identity for gang in admit(self._quotas, [*known, *between]))]
        self._took = self._clock() - begun
        return all([await self._let_in(jobs[uid]) for uid in wanted])

    async def _let_in(self, entry: _Seen) -> bool:
        """Return whether the API server has answered: if not, it may be in."""
        job = entry.job
        self._in.add(entry.owner)
        try:
            await self._hands.carry_out(Patch(job, {"spec": {"suspend": False}}), _BY)
        except (errors.Rejected, errors.WebhookDown) as error:
            log.warning("Job %s/%s may not be let in: %s", job.namespace, job.name, error.message)
            said = verdict(error.message, self._waited(job.uid, error))
            self._told.note(job.uid, self._objects.owner_key(entry.owner), said)
            if said.reason == Reason.WEBHOOK_UNAVAILABLE:
                return False
            self._in.discard(entry.owner)
            self._refused[job.uid] = self._clock() + REFUSED_SECONDS
            # Whoever waits behind it may have its room.
            self._changed.set()
        except errors.ApiError as error:
            log.warning("Job %s/%s could not be let in: %s", job.namespace, job.name, error.message)
            return False
        else:
            log.info("Job %s/%s is let in", job.namespace, job.name)
            self._unanswered.pop(job.uid, None)
        return True

    def _waited(self, job: str, error: errors.ApiError) -> float | None:
        """Return for how many seconds a webhook has not answered for a Job, where that is the error."""
        if isinstance(error, errors.WebhookDown):
            return self._clock() - self._unanswered.setdefault(job, self._clock())
        self._unanswered.pop(job, None)
        return None

    def metrics(self) -> list[Metric]:
        """Return limits and use of the quotas, and how many gangs wait."""
        if not self._quotas:
            return []
        seen = self._look()
        gangs = [*_gangs(seen), *self._between(seen, self._in)]
        limits: Values = {
            (quota.name, name): float(value) for quota in self._quotas for name, value in quota.resources.items()
        }
        used: Values = {place: float(value) for place, value in usage(self._quotas, gangs).items()}
        waiting: Values = {(quota.name,): float(len(waiting_in(quota, gangs))) for quota in self._quotas}
        labels = ("quota", "resource")
        return [
            gauge("modelwright_quota_limit", "What the gangs of a quota may use together.", limits, labels),
            gauge("modelwright_quota_used", "What the gangs that were let in request.", used, labels),
            gauge("modelwright_quota_waiting_gangs", "Gangs that wait for room.", waiting, ("quota",)),
        ]

    def _look(self) -> list[_Seen]:
        """Return all Jobs, those that have not changed since the last look as they were read then."""
        found: dict[Key, _Seen] = {}
        for key in self._objects.keys(*_JOBS):
            record = self._objects.record(key)
            if record is None:
                continue
            place = self._objects.parent(key, record.owner)
            above = None if place is None else self._objects.record(place)
            versions = (record.version, above.version if above is not None else 0)
            before = self._seen.get(key)
            if before is not None and (before.job.uid, before.versions) == (record.uid, versions):
                found[key] = before
            elif (document := self._objects.get(key)) is not None:
                job = raystatus.as_job(document)
                owner = None if place is None else self._objects.get(place)
                found[key] = _Seen(
                    versions,
                    job_ref(job),
                    (record.owner or "") if place is not None else "",
                    has_passed(job),
                    contender(job, owner),
                )
        self._seen = found
        return [*found.values()]

    def _between(self, seen: Iterable[_Seen], owners: Iterable[str]) -> list[Contender]:
        """Return the gangs of some owners, by UID, that have no Job and are about to get the next one."""
        busy = {entry.owner for entry in seen if not entry.passed}
        keys = [self._objects.owner_key(uid) for uid in sorted({*owners} - busy)]
        found = [between_attempts(self._objects.get(key)) for key in keys if key is not None]
        return [gang for gang in found if gang is not None]


def _gangs(seen: list[_Seen]) -> list[Contender]:
    return [entry.gang for entry in seen if entry.gang is not None]
