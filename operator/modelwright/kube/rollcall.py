"""A roll call of our four kinds: what is there, by name and version only, compared with what kopf has told.

It says when the first view is complete, drops objects whose deletion kopf missed, fetches what kopf is late with, and
knows that kopf is deaf when that happens twice in a row. One list of metadata a kind every few minutes, whatever the
number of objects.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from modelwright.kube import errors
from modelwright.kube.cache import FORGOTTEN_SECONDS, SHUT_OUT_SECONDS
from modelwright.kube.client import Client
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Key, Objects
from modelwright.kube.resources import OURS, Resource

PERIOD_SECONDS = 300.0
NOT_CALLED_AFTER = 3 * PERIOD_SECONDS
"""Seconds without a roll call after which nothing is known of our own kinds."""
_GRACE_SECONDS = 30.0
"""A change younger than this may still be on its way through kopf."""
_DEAF_AFTER = 2
_RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass
class _Differences:
    """How the store differs from the API server."""

    late: dict[Key, int] = field(default_factory=dict)
    """Resource versions that the API server has and the store has not."""
    gone: dict[Key, tuple[str, int]] = field(default_factory=dict)
    """UIDs of objects that only the store has, and the resource version at which they were not there."""


class RollCall:
    """Compares the store with the API server now and then."""

    def __init__(
        self,
        client: Client,
        objects: Objects,
        metrics: Metrics,
        namespaces: tuple[str | None, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._objects = objects
        self._metrics = metrics
        self._namespaces = namespaces
        self._clock = clock
        self.last_call = clock()
        """When the last roll call was complete."""
        self._refused_at: dict[tuple[str, str | None], float] = {}
        """When it was first refused to list a kind in a namespace, where it still is."""
        self._repairs_in_a_row = 0
        self._wanted = asyncio.Event()

    @property
    def deaf(self) -> bool:
        """Whether kopf has missed changes in two roll calls in a row, or none could be made for long."""
        return self._repairs_in_a_row >= _DEAF_AFTER or self._clock() - self.last_call > NOT_CALLED_AFTER

    async def complete(self) -> None:
        """Return once the store holds everything that there is."""
        while True:
            try:
                await self._call()
            except errors.ApiError as error:
                log.warning("our objects cannot be listed, trying again: %s", error.message)
            else:
                if not self._in_doubt():
                    return
            await asyncio.sleep(_RETRY_SECONDS)

    def soon(self) -> None:
        """Call the roll in a few seconds: some watch has listed again, so all of them may have missed something."""
        self._wanted.set()

    async def run(self) -> None:
        """Call the roll now and then, forever."""
        self._wanted.clear()
        while True:
            await self._pause()
            try:
                repaired = await self._call()
                self._repairs_in_a_row = self._repairs_in_a_row + 1 if repaired else 0
            except errors.ApiError as error:
                log.warning("the roll call failed: %s", error.message)

    async def _call(self) -> bool:
        """Make the store right; return whether kopf had missed something."""
        found = _Differences()
        for resource in OURS:
            for namespace in self._namespaces:
                try:
                    await self._compare(resource, namespace, found)
                    self._refused_at.pop((resource.kind, namespace), None)
                except errors.Rejected as error:
                    if len(self._namespaces) == 1:
                        raise
                    self._refused(resource, namespace, error)
        await self._wait(found)
        late, gone = self._left(found)
        missed = bool(gone)
        for key in late:
            missed = await self._repair(key) or missed
        for key in gone:
            self._objects.remove(key, *found.gone[key])
            log.warning("%s %s/%s was deleted and no watch had said so", *key)
            self._metrics.watch_repairs.labels(key.kind).inc()
        self.last_call = self._clock()
        return missed

    def _refused(self, resource: Resource, namespace: str | None, error: errors.Rejected) -> None:
        """Do without a namespace that may not be seen: it may be gone, and its Role with it. The others go on."""
        log.warning("%s in %s cannot be listed: %s", resource.plural, namespace, error.message)
        now = self._clock()
        if now - self._refused_at.setdefault((resource.kind, namespace), now) >= FORGOTTEN_SECONDS:
            self._objects.lose_sight(resource.kind, namespace)

    def _in_doubt(self) -> bool:
        """Tell whether something that may not be seen may be so for a moment only."""
        now = self._clock()
        return any(now - since < SHUT_OUT_SECONDS for since in self._refused_at.values())

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PERIOD_SECONDS * random.uniform(0.9, 1.1)):  # noqa: S311 (spreads load)
                await self._wanted.wait()
                await asyncio.sleep(_RETRY_SECONDS)
        self._wanted.clear()

    async def _compare(self, resource: Resource, namespace: str | None, found: _Differences) -> None:
        present: set[tuple[Key, str]] = set()
        version = "0"
        pages = self._client.list(resource, namespace, metadata_only=True)
        async for items, version in pages:  # noqa: B007 (used below)
            for item in items:
                metadata = item["metadata"]
                key = Key(resource.kind, metadata["namespace"], metadata["name"])
                present.add((key, metadata["uid"]))
                found.late[key] = int(metadata["resourceVersion"])
        absent = self._objects.absent(resource.kind, namespace, present, int(version))
        found.gone |= {key: (uid, int(version)) for key, uid in absent}

    def _left(self, found: _Differences) -> tuple[list[Key], list[Key]]:
        """Return what is still late, and what is still there though it is gone."""
        records = self._objects.record
        late = [
            key for key, version in found.late.items() if (record := records(key)) is None or record.version < version
        ]
        gone = [
            key for key, (uid, _) in found.gone.items() if (record := records(key)) is not None and record.uid == uid
        ]
        return late, gone

    async def _wait(self, found: _Differences) -> None:
        """Give kopf time, as long as it gets on."""
        left, deadline = -1, self._clock()
        while True:
            before, left = left, sum(map(len, self._left(found)))
            if left != before:
                deadline = self._clock() + _GRACE_SECONDS
            if left == 0 or self._clock() > deadline:
                return
            await asyncio.sleep(0.1)

    async def _repair(self, key: Key) -> bool:
        resource = next(resource for resource in OURS if resource.kind == key.kind)
        try:
            news = self._objects.put(await self._client.get(resource, key.namespace, key.name))
        except errors.NotFound:
            return False
        if news:
            log.warning("%s %s/%s had changed and no watch had said so", *key)
            self._metrics.watch_repairs.labels(key.kind).inc()
        return news
