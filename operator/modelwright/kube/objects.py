"""What this process knows of the cluster: our objects and their children, kept as bytes and found by owner.

A decoded pod takes ten times the memory of its JSON, and a plan wants a copy of its own anyway; so objects are kept
encoded and decoded when a plan looks at them (about 10 µs each).
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson

from modelwright.kube.resources import OURS, RAY_JOB
from modelwright.plan.actions import Object
from modelwright.plan.observed import OWNER_UID_LABEL
from modelwright.plan.podgroup import READ_FIELDS
from modelwright.plan.requests import slim as slim_pod

_OUR_KINDS = frozenset(resource.kind for resource in OURS)
_LEVELS = 128
"""Of maps and lists that are kept; orjson writes 254. The specs of our kinds take fewer."""
_INTEGERS = range(-(2**63), 2**64)
"""Those that orjson writes."""
_TOMBSTONES = 10_000
_NEVER = 2**63
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The whole of what `kubectl apply` was given, once more; pod templates may be long."""
_POD_BULK = frozenset({"hostIP", "hostIPs", "podIP", "podIPs", "qosClass", "resize", "resourceClaimStatuses"})
_INIT_FIELDS = ("name", "restartPolicy")
_CONTAINER_BULK = frozenset({"allocatedResources", "containerID", "imageID", "resources", "user", "volumeMounts"})


class Key(NamedTuple):
    """The address of an object."""

    kind: str
    namespace: str
    name: str


@dataclass(slots=True)
class Record:
    """One object as last seen."""

    version: int
    uid: str
    owner: str | None
    """UID of the object of ours that it belongs to."""
    seen: float
    """When the API server last said that it looks like this."""
    raw: bytes
    reason: str = ""
    """Of our kinds: the reason of the Ready condition."""


class Listener(Protocol):
    """Told of every change: the object's address, the owner UID on its label, and whose reconcile made the change."""

    def __call__(self, key: Key, owner: str | None, by: Key | None) -> None:
        """Take note."""


class Objects:
    """A mapping of addresses to objects in which time only goes forward."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[Key, Record] = {}
        self._children: dict[str, dict[Key, None]] = {}
        self._ours: dict[str, Key] = {}
        # A response to a write may arrive after the watch has said that the object is gone.
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call the listener after every change."""
        self._listeners.append(listener)

    def put(self, document: Object, by: Key | None = None) -> bool:
        """Take in an object as the API server showed it; return whether it is news. An older state never wins.

        `by` says whose reconcile wrote it: that one knows already.
        """
        metadata = document["metadata"]
        key = Key(document["kind"], metadata["namespace"], metadata["name"])
        # Resource versions are numbers that grow: what was common practice is promised since Kubernetes 1.35.
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        known = self._records.get(key)
        if version <= self._gone.get(uid, -1) or (known is not None and version < known.version):
            return False
        if known is not None and (known.uid, known.version) == (uid, version):
            known.seen = self._clock()
            return False
        if known is not None and known.uid != uid:
            self._forget(key, known.version)
        owner = (metadata.get("labels") or {}).get(OWNER_UID_LABEL)
        if known is not None and known.owner != owner:
            self._unlink(key, known.owner)
        # What orjson returns keeps its working buffer, three times what is in it; a copy does not.
        raw = bytes(memoryview(_encode(trim(document))))
        record = self._records[key] = Record(version, uid, owner, self._clock(), raw)
        if owner is not None:
            self._children.setdefault(owner, {})[key] = None
        if key.kind in _OUR_KINDS:
            self._ours[uid] = key
            record.reason = _ready_reason(document)
        self._announce(key, owner, by)
        return True

    def remove(self, key: Key, uid: str, version: int = 0) -> bool:
        """Forget one life of an object, gone since a resource version if that is known; return whether it was here.

        Where it is not known, it may only be out of sight, and comes back when it is seen again.
        """
        known = self._records.get(key)
        if known is None or known.uid != uid:
            self._bury(uid, version)
            return False
        self._forget(key, max(version, known.version) if version else 0)
        self._announce(key, known.owner, None)
        return True

    def absent(
        self, kind: str, namespace: str | None, present: Collection[tuple[Key, str]], version: int
    ) -> list[tuple[Key, str]]:
        """Return what a complete list of a kind, taken at a resource version, does not hold.

        What is newer than the list does not count: it was written while the list was on its way.
        """
        return [
            (key, record.uid)
            for key, record in self._records.items()
            if key.kind == kind
            and (namespace is None or key.namespace == namespace)
            and (key, record.uid) not in present
            and record.version <= version
        ]

    def lose_sight(self, kind: str, namespace: str | None) -> None:
        """Forget all of a kind that may not be seen any more; it comes back when it is seen again."""
        for key, uid in self.absent(kind, namespace, (), _NEVER):
            self.remove(key, uid)

    def get(self, key: Key) -> Object | None:
        """Return a copy of an object."""
        record = self._records.get(key)
        return None if record is None else orjson.loads(record.raw)

    def record(self, key: Key) -> Record | None:
        """Return what is known of an object without decoding it."""
        return self._records.get(key)

    def children(self, uid: str) -> dict[str, tuple[Object, ...]]:
        """Return copies of the objects that carry an owner's UID, by kind, in the order of their names.

        Of its namespace alone: whoever may write in another one is not to speak of it.
        """
        found: dict[str, tuple[Object, ...]] = {}
        home = self._ours.get(uid)
        for key in sorted(self._children.get(uid, ())):
            if home is not None and key.namespace != home.namespace:
                continue
            found[key.kind] = (*found.get(key.kind, ()), orjson.loads(self._records[key].raw))
        return found

    def owner_key(self, uid: str) -> Key | None:
        """Return the address of the object of ours with a UID."""
        return self._ours.get(uid)

    def parent(self, key: Key, owner: str | None) -> Key | None:
        """Return the address of the owner whose UID a child carries; None where that is of another namespace."""
        found = self._ours.get(owner or "")
        return found if found is not None and found.namespace == key.namespace else None

    def keys(self, *kinds: str) -> Iterator[Key]:
        """Return the addresses of all objects of some kinds, as they are now."""
        return iter([key for key in self._records if key.kind in kinds])

    def of_kind(self, kind: str) -> Iterable[Object]:
        """Yield copies of all objects of a kind."""
        for key in self.keys(kind):
            document = self.get(key)
            if document is not None:
                yield document

    def census(self) -> dict[tuple[str, str], int]:
        """Return how many objects of our kinds there are, by kind and reason of Ready."""
        counts: dict[tuple[str, str], int] = {}
        for key in self._ours.values():
            place = (key.kind, self._records[key].reason)
            counts[place] = counts.get(place, 0) + 1
        return counts

    def _forget(self, key: Key, version: int) -> None:
        record = self._records.pop(key)
        self._bury(record.uid, version)
        self._unlink(key, record.owner)
        self._ours.pop(record.uid, None)

    def _unlink(self, key: Key, owner: str | None) -> None:
        siblings = self._children.get(owner or "")
        if siblings is not None:
            siblings.pop(key, None)
            if not siblings:
                del self._children[owner or ""]

    def _bury(self, uid: str, version: int) -> None:
        if not version:
            return
        self._gone[uid] = max(version, self._gone.get(uid, 0))
        if len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)

    def _announce(self, key: Key, owner: str | None, by: Key | None) -> None:
        for listener in self._listeners:
            listener(key, owner, by)


def _encode(document: Object) -> bytes:
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        # Where a schema takes any field, the API server takes any depth, and numbers that are not from here to there.
        return orjson.dumps(_within_bounds(document, _LEVELS))


def _within_bounds(value: Any, levels: int) -> Any:
    """Return what orjson can write of a value: nothing of what lies deeper than so many levels."""
    if isinstance(value, dict):
        return {name: _within_bounds(entry, levels - 1) for name, entry in value.items()} if levels else None
    if isinstance(value, list):
        return [_within_bounds(entry, levels - 1) for entry in value] if levels else None
    return float(value) if isinstance(value, int) and value not in _INTEGERS else value


def trim(document: Object) -> Object:
    """Return an object without the bulk that no plan reads."""
    slim = dict(document)
    slim["metadata"] = {name: value for name, value in document["metadata"].items() if name != "managedFields"}
    if _APPLIED in (annotations := document["metadata"].get("annotations") or {}):
        slim["metadata"]["annotations"] = {name: value for name, value in annotations.items() if name != _APPLIED}
    if document["kind"] == "Pod":
        slim["spec"] = _trim_pod_spec(document.get("spec") or {})
        slim["status"] = _trim_pod_status(document.get("status") or {})
    elif "template" in (spec := document.get("spec") or {}) and document["kind"] in ("Job", "Deployment"):
        template = {"metadata": spec["template"].get("metadata", {})}
        if document["kind"] == "Job":
            pod = spec["template"].get("spec") or {}
            template["spec"] = {**slim_pod(pod), **{name: pod[name] for name in READ_FIELDS if name in pod}}
        slim["spec"] = {**spec, "template": template}
    elif document["kind"] == RAY_JOB.kind:
        slim["spec"] = _trim_ray_job(document.get("spec") or {})
    return slim


def _trim_ray_job(spec: Object) -> Object:
    """Return of a RayJob's spec what tells its size, and what each of its pods asks for: all do the same."""
    cluster = spec.get("rayClusterSpec") or {}
    head = ((cluster.get("headGroupSpec") or {}).get("template") or {}).get("spec") or {}
    groups = [{"replicas": group.get("replicas")} for group in cluster.get("workerGroupSpecs") or ()]
    slim = {"headGroupSpec": {"template": {"spec": slim_pod(head)}}, "workerGroupSpecs": groups}
    return {**spec, "rayClusterSpec": slim}


def _trim_pod_spec(spec: Object) -> Object:
    """Return of a pod's spec its node, and of one that is never started again what has to end until it is over."""
    slim = {"nodeName": spec.get("nodeName")}
    if spec.get("restartPolicy") != "Never":
        return slim
    beside = [entry for entry in spec.get("initContainers") or () if entry.get("restartPolicy")]
    return {
        **slim,
        "restartPolicy": "Never",
        "containers": [{"name": entry["name"]} for entry in spec.get("containers") or ()],
        **({"initContainers": [{name: entry[name] for name in _INIT_FIELDS} for entry in beside]} if beside else {}),
    }


def _trim_pod_status(status: Object) -> Object:
    slim = {name: value for name, value in status.items() if name not in _POD_BULK}
    for field in ("initContainerStatuses", "containerStatuses"):
        if field in slim:
            slim[field] = [
                {name: value for name, value in entry.items() if name not in _CONTAINER_BULK} for entry in slim[field]
            ]
    return slim


def _ready_reason(document: Object) -> str:
    conditions = (document.get("status") or {}).get("conditions") or []
    return next((str(entry["reason"]) for entry in conditions if entry["type"] == "Ready"), "")
