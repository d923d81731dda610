"""From a change to the keys that it concerns."""

from modelwright.kube.objects import Key, Objects
from modelwright.kube.queue import Queue
from modelwright.kube.resources import OURS
from modelwright.kube.watches import WatchIndex
from modelwright.plan.actions import ObjectWatch

_OUR_KINDS = frozenset(resource.kind for resource in OURS)


class Dispatcher:
    """Listens to the store and fills the queue."""

    def __init__(self, objects: Objects, watches: WatchIndex, queue: Queue) -> None:
        self._objects = objects
        self._watches = watches
        self._queue = queue

    def __call__(self, key: Key, owner: str | None, by: Key | None) -> None:
        """Queue the object itself if it is ours, its owner, and who watches it; not the one whose reconcile did it."""
        concerned: list[Key] = []
        if key.kind in _OUR_KINDS:
            concerned.append(key)
            concerned += self._watches.holders(ObjectWatch(*key))
        if (parent := self._objects.parent(key, owner)) is not None:
            concerned.append(parent)
        for target in concerned:
            if target != by:
                self._queue.add(target)
