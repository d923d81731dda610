"""Is this process still of use? And the gauges that say how it is doing."""

import time
from collections.abc import Callable, Sequence

from prometheus_client.core import Metric

from modelwright.kube.cache import DEAF_AFTER, Reflector
from modelwright.kube.metrics import gauge
from modelwright.kube.objects import Objects
from modelwright.kube.queue import Queue
from modelwright.kube.rollcall import RollCall

STANDSTILL_SECONDS = 300.0


class Health:
    """Looks at the watches and the queue of a leader; a replica that only waits is always well."""

    def __init__(
        self,
        queue: Queue,
        reflectors: Sequence[Reflector],
        rollcall: RollCall,
        objects: Objects,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._reflectors = reflectors
        self._rollcall = rollcall
        self._objects = objects
        self._clock = clock
        self._watching = False

    def start(self) -> None:
        """The watches begin: from now on their silence counts."""
        self._watching = True
        for reflector in self._reflectors:
            reflector.last_contact = self._clock()
        self._rollcall.last_call = self._clock()

    def trouble(self) -> str | None:
        """Return why the process should be restarted; None: it should not."""
        if not self._watching:
            return None
        now = self._clock()
        for reflector in self._reflectors:
            silence = now - reflector.last_contact
            if silence > DEAF_AFTER:
                return f"the watch of {reflector.resource.plural} has heard nothing for {silence:.0f} s"
        if self._rollcall.deaf:
            return "the watch of our own kinds misses changes"
        if self._queue.stands_still(STANDSTILL_SECONDS):
            return f"an object has waited for {self._queue.oldest():.0f} s and nothing is being done"
        return None

    def metrics(self) -> list[Metric]:
        """Return what is measured when somebody asks."""
        now = self._clock()
        contacts: dict[tuple[str, ...], float] = {}
        if self._watching:
            for reflector in self._reflectors:
                place = (reflector.resource.kind, reflector.namespace or "")
                contacts[place] = now - reflector.last_contact
        census: dict[tuple[str, ...], float] = {place: float(count) for place, count in self._objects.census().items()}
        roll_call: dict[tuple[str, ...], float] = {(): now - self._rollcall.last_call} if self._watching else {}
        return [
            gauge(
                "modelwright_queue_depth",
                "Objects that wait to be reconciled.",
                {(): float(self._queue.schedule.depth())},
            ),
            gauge(
                "modelwright_queue_oldest_seconds", "How long the first of them has waited.", {(): self._queue.oldest()}
            ),
            gauge("modelwright_reconciling", "Objects in work.", {(): float(self._queue.schedule.active())}),
            gauge(
                "modelwright_watch_silence_seconds",
                "Since a watch last heard of the API server.",
                contacts,
                ("kind", "namespace"),
            ),
            gauge("modelwright_roll_call_age_seconds", "Since our own kinds were last compared.", roll_call),
            gauge("modelwright_objects", "Objects by kind and reason of Ready.", census, ("kind", "reason")),
        ]
