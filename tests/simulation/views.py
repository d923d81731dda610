"""What the operator sees of the cluster: the real store of objects, fed by watches that may stop or turn back time."""

import math
from collections.abc import Callable

import orjson

from modelwright.kube.objects import Key, Objects, Record, trim
from modelwright.kube.resources import CHILDREN, OPTIONAL, OURS
from modelwright.plan.actions import Object
from modelwright.plan.observed import MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL
from tests.simulation.cluster import Change, Cluster
from tests.simulation.faults import Faults

_OUR_KINDS = frozenset(resource.kind for resource in OURS)
_CHILD_KINDS = frozenset(resource.kind for resource in (*CHILDREN, *OPTIONAL))


class Views(Objects):
    """The objects of one process."""

    def __init__(self, cluster: Cluster, faults: Faults, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._cluster = cluster
        self._faults = faults
        self._read = 0
        self._held: list[Change] = []
        """What watches that have stopped have not said."""

    def begin(self) -> None:
        """List everything, as a process does that starts."""
        for document in self._cluster.objects.values():
            if _is_watched(document):
                self.put(document)
        self._read = len(self._cluster.log)

    def listen(self) -> None:
        """Take in what the watches say."""
        news = [*self._held, *self._cluster.log[self._read :]]
        self._read, self._held = len(self._cluster.log), []
        for change in news:
            if change.version > self._faults.frozen.get(change.key.kind, math.inf):
                self._held.append(change)
            elif change.state is None:
                self.remove(change.key, change.uid, change.version)
            else:
                document = orjson.loads(change.state)
                if _is_watched(document):
                    self.put(document)

    def get(self, key: Key) -> Object | None:
        """Return a copy of an object, of old where views are forgetful."""
        version = self._rewound(key.kind)
        if version is None:
            return super().get(key)
        found = self._cluster.at(key, version)
        return None if found is None else trim(found)

    def record(self, key: Key) -> Record | None:
        """Return what is known of an object; what is old passes for fresh."""
        if self._rewound(key.kind) is None:
            return super().record(key)
        found = self.get(key)
        if found is None:
            return None
        meta = found["metadata"]
        owner = (meta.get("labels") or {}).get(OWNER_UID_LABEL)
        return Record(int(meta["resourceVersion"]), meta["uid"], owner, self._clock(), b"")

    def children(self, uid: str) -> dict[str, tuple[Object, ...]]:
        """Return copies of the objects that carry an owner's UID, of old where views are forgetful."""
        found = super().children(uid)
        if not self._faults.forgetful:
            return found
        kept = {kind: entries for kind, entries in found.items() if self._rewound(kind) is None}
        for key in self._cluster.owned(uid):
            if self._rewound(key.kind) is not None and (document := self.get(key)) is not None:
                kept[key.kind] = (*kept.get(key.kind, ()), document)
        return kept

    def _rewound(self, kind: str) -> int | None:
        return self._faults.frozen.get(kind) if self._faults.forgetful else None


def _is_watched(document: Object) -> bool:
    if document["kind"] in _OUR_KINDS:
        return True
    labels = document["metadata"].get("labels") or {}
    return document["kind"] in _CHILD_KINDS and labels.get(MANAGED_BY_LABEL) == MANAGED_BY
