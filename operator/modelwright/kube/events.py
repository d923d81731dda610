"""Kubernetes events, without repeats and never in the way: what cannot be posted is counted and forgotten."""

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from modelwright.kube import errors
from modelwright.kube.client import Client
from modelwright.kube.clock import utc_now
from modelwright.kube.metrics import Metrics
from modelwright.plan.actions import Event, Object
from modelwright.plan.names import short_hash
from modelwright.plan.times import stamp

COMPONENT = "modelwright"
REPEAT_SECONDS = 600
_REMEMBERED = 10_000
_WAITING = 1_000
_LONGEST_MESSAGE = 1024

log = logging.getLogger(__name__)


class EventPoster:
    """Posts events one after another, in the background."""

    def __init__(
        self,
        client: Client,
        metrics: Metrics,
        instance: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._instance = instance
        self._clock = clock
        self._now = now
        self._posted: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._waiting: asyncio.Queue[Object] = asyncio.Queue(_WAITING)

    def post(self, about: Object, event: Event) -> None:
        """Have an event posted, unless the same was said of the same object within ten minutes."""
        identity = (about["metadata"]["uid"], event.reason, event.message)
        now = self._clock()
        if now - self._posted.get(identity, -REPEAT_SECONDS) < REPEAT_SECONDS:
            self._metrics.events_posted.labels("repeat").inc()
            return
        self._posted[identity] = now
        self._posted.move_to_end(identity)
        if len(self._posted) > _REMEMBERED:
            self._posted.popitem(last=False)
        try:
            self._waiting.put_nowait(document(about, event, self._instance, self._now()))
        except asyncio.QueueFull:
            self._metrics.events_posted.labels("dropped").inc()

    def waiting(self) -> int:
        """Return how many events are still to be posted."""
        return self._waiting.qsize()

    async def run(self) -> None:
        """Post what is waiting, forever."""
        while True:
            waiting = await self._waiting.get()
            try:
                await self._client.create_event(waiting)
                self._metrics.events_posted.labels("posted").inc()
            except errors.ApiError as error:
                self._metrics.events_posted.labels("failed").inc()
                log.debug("an event was not posted: %s", error.message)


def document(about: Object, event: Event, instance: str, now: datetime) -> Object:
    """Return the v1 Event that says something about an object."""
    metadata = about["metadata"]
    moment = stamp(now)
    suffix = short_hash(metadata["uid"], event.reason, event.message, os.urandom(4).hex())
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name'][:200]}.{suffix}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": event.type,
        "reason": event.reason[:128],
        "message": event.message[:_LONGEST_MESSAGE],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": instance,
        "action": event.reason[:128],
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
