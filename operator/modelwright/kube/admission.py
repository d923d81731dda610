"""Lets gangs in, one decision at a time: two that were decided side by side could each take the other's room.

Who is in is what Jobs run, and who waits is what Jobs are suspended, so a new leader goes on where
the last one stopped.
"""

import asyncio
import logging
from dataclasses import replace
from typing import TypeAlias

from prometheus_client.core import Metric

from modelwright.kube import errors
from modelwright.kube.act import Hands
from modelwright.kube.metrics import gauge
from modelwright.kube.objects import Key, Objects
from modelwright.plan.actions import Object, Patch
from modelwright.plan.attempts import ref
from modelwright.plan.contenders import contender
from modelwright.plan.observed import OWNER_UID_LABEL
from modelwright.plan.quotas import Contender, Quota, admit, usage, waiting_in

SETTLE_SECONDS = 0.2
"""Changes come in bunches, and each decision looks at every gang."""
RETRY_SECONDS = 10.0
_CONCERNED = frozenset({"Job", "TrainingJob", "TuningSweep"})
Values: TypeAlias = dict[tuple[str, ...], float]
_BY = Key("Quota", "", "")

log = logging.getLogger(__name__)


class Admission:
    """Takes `suspend` from the Jobs of gangs for which there is room in every quota that counts them."""

    def __init__(self, objects: Objects, hands: Hands, quotas: tuple[Quota, ...]) -> None:
        self._objects = objects
        self._hands = hands
        self._quotas = quotas
        self._unanswered: dict[str, str] = {}
        """UID and resource version of Jobs that may be in: the answer was lost, and no watch has told yet."""
        self._changed = asyncio.Event()
        self._changed.set()

    def __call__(self, key: Key, owner: str | None, by: Key | None) -> None:
        """Take note of a change that may make room, or want some."""
        if key.kind in _CONCERNED:
            self._changed.set()

    async def run(self) -> None:
        """Decide after every change, for ever; without quotas there is nothing to decide."""
        while self._quotas:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._changed.clear()
            if not await self.decide():
                await asyncio.sleep(RETRY_SECONDS)
                self._changed.set()
        await asyncio.Event().wait()

    async def decide(self) -> bool:
        """Let in whoever may come in; return whether all of it could be written."""
        gangs = self._gangs()
        jobs = {gang.identity: job for job, gang in gangs}
        unanswered = {uid for uid, version in self._unanswered.items() if _version(jobs.get(uid)) == version}
        self._unanswered = {}
        known = [replace(gang, admitted=gang.admitted or gang.identity in unanswered) for _, gang in gangs]
        for uid in (*sorted(unanswered), *(gang.identity for gang in admit(self._quotas, known))):
            await self._let_in(jobs[uid])
        return not self._unanswered

    async def _let_in(self, job: Object) -> None:
        meta, patch = job["metadata"], Patch(ref(job, "batch/v1", "Job"), {"spec": {"suspend": False}})
        try:
            await self._hands.carry_out(patch, _BY)
        except errors.ApiError as error:
            log.warning("Job %s/%s could not be let in: %s", meta["namespace"], meta["name"], error.message)
            self._unanswered[meta["uid"]] = meta["resourceVersion"]
        else:
            log.info("Job %s/%s is let in", meta["namespace"], meta["name"])

    def metrics(self) -> list[Metric]:
        """Return limits and use of the quotas, and how many gangs wait."""
        if not self._quotas:
            return []
        gangs = [gang for _, gang in self._gangs()]
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

    def _gangs(self) -> list[tuple[Object, Contender]]:
        found = []
        for job in self._objects.of_kind("Job"):
            key = self._objects.owner_key(job["metadata"]["labels"].get(OWNER_UID_LABEL, ""))
            owner = self._objects.get(key) if key is not None else None
            gang = None if owner is None else contender(job, owner)
            if gang is not None:
                found.append((job, gang))
        return found


def _version(job: Object | None) -> str | None:
    return None if job is None else str(job["metadata"]["resourceVersion"])
