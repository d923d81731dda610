"""An API server in memory: the semantics that a planner can come to grief on, and a history to serve old views from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import orjson

from modelwright.kube import errors
from modelwright.kube.objects import Key
from modelwright.plan.actions import Object, Ref
from modelwright.plan.observed import OWNER_UID_LABEL
from modelwright.plan.times import stamp

Policy: TypeAlias = Callable[[Object], str | None]
"""Returns why it refuses an object, or None; or raises what the API server answers instead."""
POD_GRACE = 30
"""Seconds from the delete of a pod to the moment by which it should be gone."""


@dataclass
class Change:
    """One entry of the log that watches read."""

    version: int
    key: Key
    uid: str
    state: bytes | None
    """The object in JSON; None: it is gone."""


@dataclass
class Cluster:
    """Objects by address, with every state that they ever had."""

    clock: Callable[[], datetime]
    objects: dict[Key, Object] = field(default_factory=dict)
    history: dict[Key, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    """Every state of an object, with the resource version that it began at; None: it was gone."""
    log: list[Change] = field(default_factory=list)
    version: int = 0
    served: dict[str, frozenset[str]] = field(default_factory=dict)
    """The kinds that other operators bring, by group and version."""
    admission: list[Policy] = field(default_factory=list)
    """For objects that are created or applied."""
    patch_admission: list[Policy] = field(default_factory=list)
    """For what a patch makes of an object."""
    status_admission: list[Policy] = field(default_factory=list)
    told: list[Object] = field(default_factory=list)
    """Events of controllers that are not ours."""
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

    def tell(self, about: Object, reason: str, message: str) -> None:
        """Record what a controller says of an object, in an event."""
        meta, now = about["metadata"], stamp(self.clock())
        whom = {"uid": meta["uid"], "name": meta["name"]}
        self.told.append(
            {"metadata": {}, "involvedObject": whom, "reason": reason, "message": message, "lastTimestamp": now}
        )

    def create(self, document: Object) -> Object:
        """Create an object. Raises Conflict when there is one."""
        key = key_of(document)
        if key in self.objects:
            raise errors.Conflict(f"{key.kind} {key.name} exists", 409)
        _admit(self.admission, document)
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
        _admit(self.admission, document)
        # Forced as it is, it takes over what has no controller.
        if _controller(found) not in ([], _controller(document)):
            raise errors.Rejected(f"{key.kind} {key.name} has another controller", 422)
        return self._update(key, _merged(found, {name: value for name, value in document.items() if name != "status"}))

    def apply_status(self, key: Key, uid: str, status: Object, version: str | None = None) -> Object:
        """Replace the status of one life of an object, at a resource version if one is given.

        Raises NotFound, and Conflict for another life or version.
        """
        found = self.require(Ref("", *key, uid))
        if version not in (None, found["metadata"]["resourceVersion"]):
            raise errors.Conflict("the object has been modified", 409)
        _admit(self.status_admission, {**found, "status": status})
        return self._update(key, {**found, "status": status})

    def patch(self, ref: Ref, body: Object, *, persistently: bool = False) -> Object:
        """Apply a JSON merge patch to one life of an object. Raises NotFound, and Conflict for another life.

        `persistently`: whoever does it tries until no policy is against it.
        """
        wanted = _merged(self.require(ref), body)
        _admit(() if persistently else self.patch_admission, wanted)
        return self._update(Key(ref.kind, ref.namespace, ref.name), wanted)

    def require(self, ref: Ref) -> Object:
        """Return one life of an object, not to be changed. Raises NotFound, and Conflict for another life."""
        found = self.objects.get(Key(ref.kind, ref.namespace, ref.name))
        if found is None:
            raise errors.NotFound(f"{ref.kind} {ref.name} not found", 404)
        if found["metadata"]["uid"] != ref.uid:
            raise errors.Conflict("the UID is another one", 409)
        return found

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
            due = stamp(self.clock() + timedelta(seconds=seconds))
            # A shorter grace period counts from now on; a longer one changes nothing.
            meta["deletionTimestamp"] = min(due, meta.get("deletionTimestamp", due))
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
        raw = None if state is None else orjson.dumps(state)
        self.history.setdefault(key, []).append((self.version, raw))
        owner = (named["metadata"].get("labels") or {}).get(OWNER_UID_LABEL)
        self.log.append(Change(self.version, key, named["metadata"]["uid"], raw))
        self._owned.setdefault(owner, set()).add(key)


def key_of(document: Object) -> Key:
    """Return the address of an object."""
    return Key(document["kind"], document["metadata"]["namespace"], document["metadata"]["name"])


def ref_of(document: Object) -> Ref:
    """Return the address of this life of an object."""
    meta = document["metadata"]
    return Ref(document["apiVersion"], document["kind"], meta["namespace"], meta["name"], meta["uid"])


def _admit(policies: Iterable[Policy], document: Object) -> None:
    for policy in policies:
        if (why := policy(document)) is not None:
            raise errors.Rejected(why, 403)


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
                raise errors.Rejected(f"Job.batch is invalid: spec.{name}: field is immutable", 422)
