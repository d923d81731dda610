"""An API server in memory: the semantics that a planner can come to grief on, and a history to serve old views from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson

from modelwright.plan.actions import Object, Ref
from modelwright.plan.observed import OWNER_UID_LABEL
from modelwright.plan.times import stamp

POD_GRACE = 30
"""Seconds from the delete of a pod to the moment by which it should be gone."""


class Key(NamedTuple):
    """The address of an object."""

    kind: str
    namespace: str
    name: str


class RejectedError(Exception):
    """The API server will not have it, however often it is asked."""


class NotFoundError(Exception):
    """The object is gone."""


class ConflictError(Exception):
    """The object is another one, or newer, than the caller thought."""


@dataclass
class Change:
    """One entry of the log that watches read."""

    version: int
    key: Key
    owner: str | None


@dataclass
class Cluster:
    """Objects by address, with every state that they ever had."""

    clock: Callable[[], datetime]
    objects: dict[Key, Object] = field(default_factory=dict)
    history: dict[Key, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    """Every state of an object, with the resource version that it began at; None: it was gone."""
    log: list[Change] = field(default_factory=list)
    version: int = 0
    admission: list[Callable[[Object], str | None]] = field(default_factory=list)
    """Policies: each returns why it refuses an object, or None."""
    _uids: int = 0
    _owned: dict[str | None, set[Key]] = field(default_factory=dict)

    def get(self, key: Key) -> Object | None:
        """Return a copy of an object as it is now."""
        found = self.objects.get(key)
        return None if found is None else _copy(found)

    def at(self, key: Key, version: int) -> Object | None:
        """Return a copy of an object as it was at a resource version."""
        for seen, state in reversed(self.history.get(key, ())):
            if seen <= version:
                return None if state is None else orjson.loads(state)
        return None

    def of_kind(self, kind: str) -> list[Object]:
        """Return the objects of a kind, not to be changed, in the order of their names."""
        return [self.objects[key] for key in sorted(self.objects) if key.kind == kind]

    def owned(self, uid: str) -> list[Key]:
        """Return the addresses that ever carried an owner's UID, in order."""
        return sorted(self._owned.get(uid, ()))

    def create(self, document: Object) -> Object:
        """Create an object. Raises ConflictError when there is one."""
        key = key_of(document)
        if key in self.objects:
            raise ConflictError(f"{key.kind} {key.name} exists")
        self._admit(document)
        self._uids += 1
        made = _copy(document)
        made["metadata"] |= {"uid": f"uid-{self._uids:04d}", "creationTimestamp": stamp(self.clock()), "generation": 1}
        return self._store(key, made)

    def apply(self, document: Object) -> Object:
        """Server-side apply by one manager: fields merge, lists are replaced, and what is equal is not written."""
        key = key_of(document)
        found = self.objects.get(key)
        if found is None:
            return self.create(document)
        self._admit(document)
        if _controller(document) != _controller(found):
            raise RejectedError(f"{key.kind} {key.name} has another controller")
        return self._update(key, _merged(found, {name: value for name, value in document.items() if name != "status"}))

    def apply_status(self, key: Key, uid: str, status: Object) -> Object | None:
        """Replace the status of an object, if it is still the same one."""
        found = self.objects.get(key)
        if found is None:
            return None
        if found["metadata"]["uid"] != uid:
            raise ConflictError("the UID is another one")
        return self._update(key, {**found, "status": status})

    def patch(self, ref: Ref, body: Object) -> Object:
        """Apply a JSON merge patch. Raises NotFoundError for an object that is not there."""
        key = Key(ref.kind, ref.namespace, ref.name)
        found = self.objects.get(key)
        if found is None:
            raise NotFoundError(f"{key.kind} {key.name}")
        if found["metadata"]["uid"] != ref.uid:
            raise ConflictError("the UID is another one")
        return self._update(key, _merged(found, body))

    def update(self, document: Object) -> Object:
        """Write an object as a controller does that has just read it."""
        return self._update(key_of(document), document)

    def delete(self, ref: Ref, *, foreground: bool = False, grace: int | None = None, orphan: bool = False) -> None:
        """Delete one life of an object. Pods, and owners in the foreground, go when what they wait for is gone."""
        key = Key(ref.kind, ref.namespace, ref.name)
        found = self.get(key)
        if found is None or found["metadata"]["uid"] != ref.uid:
            return
        if orphan:
            for child in self._dependents(ref.uid):
                self.update({**child, "metadata": {**child["metadata"], "ownerReferences": []}})
        if key.kind == "Pod":
            seconds = POD_GRACE if grace is None else grace
            meta = found["metadata"]
            if "deletionTimestamp" in meta and grace is None:
                return
            meta["deletionTimestamp"] = meta.get("deletionTimestamp") or stamp(
                self.clock() + timedelta(seconds=seconds)
            )
            meta["deletionGracePeriodSeconds"] = seconds
            self.update(found)
        elif foreground and self._dependents(ref.uid):
            found["metadata"].setdefault("deletionTimestamp", stamp(self.clock()))
            self.update(found)
        else:
            self.remove(key)

    def remove(self, key: Key) -> None:
        """Take an object away at once."""
        gone = self.objects.pop(key)
        self._note(key, None, gone)

    def collect_garbage(self) -> bool:
        """Let what an owner's end implies happen, one level at a time; return whether anything did."""
        before = self.version
        alive = {document["metadata"]["uid"]: document for document in self.objects.values()}
        for key, document in sorted(self.objects.items()):
            owners = [entry["uid"] for entry in document["metadata"].get("ownerReferences", ())]
            if not owners or key not in self.objects:
                continue
            parent = alive.get(owners[0])
            leaving = parent is not None and "deletionTimestamp" in parent["metadata"] and parent["kind"] != "Pod"
            if (parent is None or leaving) and "deletionTimestamp" not in document["metadata"]:
                self.delete(ref_of(document), foreground=leaving)
        for key, document in sorted(self.objects.items()):
            meta = document["metadata"]
            if key.kind != "Pod" and "deletionTimestamp" in meta and not self._dependents(meta["uid"]):
                self.remove(key)
        return self.version != before

    def _dependents(self, uid: str) -> list[Object]:
        return [
            document
            for document in self.objects.values()
            if any(entry["uid"] == uid for entry in document["metadata"].get("ownerReferences", ()))
        ]

    def _admit(self, document: Object) -> None:
        for policy in self.admission:
            if (why := policy(document)) is not None:
                raise RejectedError(why)

    def _update(self, key: Key, document: Object) -> Object:
        found = self.objects[key]
        if _bare(document) == _bare(found):
            return _copy(found)
        _check_immutable(found, document)
        changed = _copy(document)
        if changed.get("spec") != found.get("spec"):
            changed["metadata"]["generation"] += 1
        return self._store(key, changed)

    def _store(self, key: Key, document: Object) -> Object:
        document["metadata"]["resourceVersion"] = str(self.version + 1)
        self.objects[key] = document
        self._note(key, document, document)
        return _copy(document)

    def _note(self, key: Key, state: Object | None, named: Object) -> None:
        self.version += 1
        self.history.setdefault(key, []).append((self.version, None if state is None else orjson.dumps(state)))
        owner = (named["metadata"].get("labels") or {}).get(OWNER_UID_LABEL)
        self.log.append(Change(self.version, key, owner))
        self._owned.setdefault(owner, set()).add(key)


def key_of(document: Object) -> Key:
    """Return the address of an object."""
    return Key(document["kind"], document["metadata"]["namespace"], document["metadata"]["name"])


def ref_of(document: Object) -> Ref:
    """Return the address of this life of an object."""
    meta = document["metadata"]
    return Ref(document["apiVersion"], document["kind"], meta["namespace"], meta["name"], meta["uid"])


def children_at(cluster: Cluster, keys: Iterable[Key], version: Callable[[Key], int]) -> dict[str, tuple[Object, ...]]:
    """Return the objects at some addresses, each as it was at the version that is asked for, by kind."""
    found: dict[str, tuple[Object, ...]] = {}
    for key in keys:
        document = cluster.at(key, version(key))
        if document is not None:
            found[key.kind] = (*found.get(key.kind, ()), document)
    return found


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        merged = {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}
        return {name: value for name, value in merged.items() if value is not None}
    return new


def _copy(document: Object) -> Object:
    return orjson.loads(orjson.dumps(document))


def _bare(document: Object) -> Object:
    meta = {
        name: value for name, value in document["metadata"].items() if name not in ("resourceVersion", "generation")
    }
    return {**document, "metadata": meta}


def _controller(document: Object) -> list[str]:
    return [entry["uid"] for entry in document["metadata"].get("ownerReferences", ()) if entry.get("controller")]


def _check_immutable(found: Object, wanted: Object) -> None:
    if found["kind"] == "Job":
        for name in ("template", "completions", "completionMode", "selector", "backoffLimit"):
            if found["spec"].get(name) != wanted["spec"].get(name):
                raise RejectedError(f"Job.batch is invalid: spec.{name}: field is immutable")
