"""List and watch one kind of child into `Objects`, forever.

`kubernetes.informer.SharedInformer` was looked at first: it takes a thread a kind, builds typed objects (about 2 ms a
pod), lists without paging, and its stream has no client-side end, so a dead connection leaves it deaf. What follows
is what is left to do when the store does the keeping.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from modelwright.kube import errors
from modelwright.kube.client import WATCH_DEADLINE, Client
from modelwright.kube.objects import Key, Objects
from modelwright.kube.resources import Resource
from modelwright.plan.observed import MANAGED_BY, MANAGED_BY_LABEL

SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
DEAF_AFTER = 2.5 * WATCH_DEADLINE
"""Seconds without any answer, bookmarks included, after which a watch counts as deaf."""
_LONGEST_PAUSE = 30.0
ABSENT_SECONDS = 20.0
"""Until another look whether there is a kind by now that another operator brings."""
SHUT_OUT_SECONDS = 30.0
"""What is refused for so long may not be seen; before, it may be roles that change, or an API server that starts."""
FORGOTTEN_SECONDS = 300.0
"""What may not be seen for so long is not counted with any more."""
_SHORTEST_WATCH = 1.0
"""Seconds that a watch lasts even where nothing happens; one that ends earlier was not served."""

log = logging.getLogger(__name__)


class Reflector:
    """Keeps one kind in one namespace (None: in all) up to date."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str | None,
        objects: Objects,
        listed_again: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        optional: bool = False,
        one_of_many: bool = False,
    ) -> None:
        """`optional`: there may be no such kind. `one_of_many`: other namespaces are looked after as well."""
        self.resource = resource
        self.namespace = namespace
        self.synced = asyncio.Event()
        """Set once the first list is complete."""
        self.last_contact = clock()
        self._client = client
        self._objects = objects
        self._listed_again = listed_again
        self._optional = optional
        self._one_of_many = one_of_many
        self._clock = clock
        self._version: str | None = None
        self._failures = 0
        self._refused_at: float | None = None
        """When it was first refused what it still is."""

    async def run(self) -> None:
        """List, then watch, then watch on; list again only when the server has forgotten where we were."""
        while True:
            try:
                if self._version is None:
                    self._version = await self._list()
                    if self.synced.is_set():
                        self._listed_again()
                    self.synced.set()
                await self._watch(self._version)
                self._failures = 0
            except errors.Expired:
                self._version = None
                await self._pause("its place is gone")
            except errors.ApiError as error:
                if isinstance(error, errors.Rejected | errors.NotFound):
                    self._version = None
                if self._optional and isinstance(error, errors.NotFound):
                    await self._without()
                elif self._is_shut_out(error):
                    await self._shut_out(error)
                else:
                    await self._pause(error.message)

    async def _without(self) -> None:
        """Wait for a kind that there is not, and that nobody has to miss."""
        self._objects.lose_sight(self.resource.kind, self.namespace)
        await self._stand_by()

    def _is_shut_out(self, error: errors.ApiError) -> bool:
        """Tell whether this may not be seen, and nobody is to wait for it."""
        if not isinstance(error, errors.Rejected) or not (self._optional or self._one_of_many):
            return False
        if self._refused_at is None:
            self._refused_at = self._clock()
        return self._refused_for(SHUT_OUT_SECONDS)

    def _refused_for(self, seconds: float) -> bool:
        return self._refused_at is not None and self._clock() - self._refused_at >= seconds

    async def _shut_out(self, error: errors.ApiError) -> None:
        """Wait for a namespace that may not be seen: it may be gone, and its Role with it. The others go on."""
        where = "" if self.namespace is None else f" in {self.namespace}"
        log.warning("%s%s cannot be watched: %s", self.resource.plural, where, error.message)
        if self._refused_for(FORGOTTEN_SECONDS):
            self._objects.lose_sight(self.resource.kind, self.namespace)
        await self._stand_by()

    async def _stand_by(self) -> None:
        """Let nobody wait for what cannot be seen, and wait until it is time to look for it again."""
        self._failures, self.last_contact = 0, self._clock()
        self.synced.set()
        await asyncio.sleep(ABSENT_SECONDS)

    async def _list(self) -> str:
        present: set[tuple[Key, str]] = set()
        version = "0"
        pages = self._client.list(self.resource, self.namespace, SELECTOR)
        async for items, version in pages:  # noqa: B007 (used below)
            for item in items:
                metadata = item["metadata"]
                present.add((Key(self.resource.kind, metadata["namespace"], metadata["name"]), metadata["uid"]))
                self._put(item)
        gone = self._objects.absent(self.resource.kind, self.namespace, present, int(version))
        for key, uid in gone:
            self._objects.remove(key, uid, int(version))
        if gone:
            log.info("a list of %s no longer has %d objects", self.resource.plural, len(gone))
        self.last_contact, self._refused_at = self._clock(), None
        return version

    async def _watch(self, version: str) -> None:
        begun, quiet = self._clock(), True
        async for kind, item in self._client.watch(self.resource, self.namespace, SELECTOR, version):
            self.last_contact = self._clock()
            self._failures, quiet = 0, False
            metadata = item["metadata"]
            if kind == "DELETED":
                key = Key(self.resource.kind, metadata["namespace"], metadata["name"])
                self._objects.remove(key, metadata["uid"], int(metadata["resourceVersion"]))
            elif kind != "BOOKMARK":
                self._put(item)
            self._version = metadata["resourceVersion"]
        if quiet and self._clock() - begun < _SHORTEST_WATCH:
            raise errors.Unavailable("the watch ended at once")
        self.last_contact = self._clock()

    def _put(self, item: dict[str, object]) -> None:
        # Items of a list do not say what they are.
        item["apiVersion"], item["kind"] = self.resource.api_version, self.resource.kind
        self._objects.put(item)

    async def _pause(self, why: str) -> None:
        self._failures += 1
        seconds = min(_LONGEST_PAUSE, 0.5 * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.5)  # noqa: S311
        log.warning("the watch of %s starts again in %.1f s: %s", self.resource.plural, seconds, why)
        await asyncio.sleep(seconds)
