"""An API server in memory, as far as the operator's client sees one."""

import copy
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modelwright.kube import errors
from modelwright.kube.client import DEEPEST
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Key
from modelwright.kube.resources import ALL, OURS, Resource, find, resource_of
from modelwright.plan.actions import Ref


class Clock:
    """Time that passes when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def as_deep_as_the_operator() -> Iterator[None]:
    """Let JSON be as deep as the operator's process does."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(DEEPEST)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


_RESOURCES = {resource.kind: resource for resource in ALL}
_NEEDED = {"apply": {"create", "patch"}}


class NotGrantedError(BaseException):
    """The chart gives no right to a call. No error that the operator could catch: a test must not pass with it."""


class FakeApi:
    """Stands in for `Client`: objects by key, growing resource versions, a record of writes, failures on demand.

    It allows what `resources` says that the operator does, which is what the chart grants.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.events: list[dict[str, Any]] = []
        self.fail: Callable[[str, str, str], Exception | None] = lambda verb, kind, name: None
        self.served: dict[str, frozenset[str]] = {}
        """The kinds that not every cluster has, by group and version."""
        self.shut: frozenset[str] = frozenset()
        """Namespaces in which nothing may be listed."""
        self.review: dict[str, Any] = {}
        self.reviews = 0
        self.guard: Callable[[], None] = lambda: None
        self._versions = itertools.count(1)

    @property
    def writes(self) -> list[tuple[str, str, str]]:
        return [call for call in self.calls if call[0] not in ("get", "list")]

    def add(self, document: dict[str, Any]) -> dict[str, Any]:
        """Put an object there as a user would; return it as the server shows it."""
        document = copy.deepcopy(document)
        metadata = document["metadata"]
        metadata.setdefault("namespace", "ns")
        metadata.setdefault("uid", f"uid-{metadata['name']}")
        metadata["resourceVersion"] = str(next(self._versions))
        metadata.setdefault("generation", 1)
        self.objects[Key(document["kind"], metadata["namespace"], metadata["name"])] = document
        return copy.deepcopy(document)

    async def kinds(self, api_version: str) -> frozenset[str]:
        failure = self.fail("kinds", api_version, "")
        if failure is not None:
            raise failure
        return self.served.get(api_version, frozenset())

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        return copy.deepcopy(self._found("get", Key(resource.kind, namespace, name)))

    async def list(
        self,
        resource: Resource,
        namespace: str | None,
        selector: str = "",
        *,
        fields: str = "",
        metadata_only: bool = False,
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        self._note("list", resource.kind, fields)
        if namespace in self.shut:
            raise errors.Rejected(f"no role in {namespace}", 403)
        items = [copy.deepcopy(entry) for key, entry in self.objects.items() if key.kind == resource.kind]
        yield (
            [entry for entry in items if namespace in (None, entry["metadata"]["namespace"])],
            str(next(self._versions)),
        )

    async def apply(self, document: dict[str, Any], subresource: str | None = None) -> dict[str, Any]:
        self.guard()
        metadata = document["metadata"]
        key = Key(resource_of(document).kind, metadata["namespace"], metadata["name"])
        self._note("apply" if subresource is None else f"apply {subresource}", key.kind, key.name)
        known = self.objects.get(key)
        if subresource is not None and known is None:
            raise errors.NotFound(f"{key.name} not found", 404)
        if known is not None and metadata.get("uid", known["metadata"]["uid"]) != known["metadata"]["uid"]:
            raise errors.Conflict("uid mismatch", 409)
        if known is not None and metadata.get("resourceVersion") not in (None, known["metadata"]["resourceVersion"]):
            raise errors.Conflict("the object has been modified", 409)
        if subresource is not None:
            return self._change(key, {**known, "status": document["status"]})
        if known is None:
            return self.add(document)
        return self._change(key, {**known, "spec": document.get("spec", {})})

    async def patch(self, resource: Resource, ref: Ref, body: dict[str, Any]) -> dict[str, Any]:
        self.guard()
        key = Key(ref.kind, ref.namespace, ref.name)
        known = self._same("patch", key, ref.uid)
        return self._change(key, {**known, "spec": {**known["spec"], **body.get("spec", {})}})

    async def delete(
        self, resource: Resource, ref: Ref, propagation: str, grace_seconds: int | None = None
    ) -> dict[str, Any]:
        self.guard()
        key = Key(ref.kind, ref.namespace, ref.name)
        self._same("delete", key, ref.uid)
        del self.objects[key]
        return {"kind": "Status", "status": "Success"}

    async def create(self, resource: Resource, document: dict[str, Any], *, guarded: bool = False) -> dict[str, Any]:
        if guarded:
            self.guard()
        metadata = document["metadata"]
        key = Key(resource.kind, metadata["namespace"], metadata["name"])
        self._note("create", key.kind, key.name)
        if key in self.objects:
            raise errors.Conflict("already exists", 409)
        return self.add(document)

    async def replace(self, resource: Resource, document: dict[str, Any]) -> dict[str, Any]:
        metadata = document["metadata"]
        key = Key(resource.kind, metadata["namespace"], metadata["name"])
        known = self._found("update", key)
        if known["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise errors.Conflict("the object has been modified", 409)
        return self.add(document)

    async def create_event(self, document: dict[str, Any]) -> None:
        self._note("create", "Event", document["reason"])
        self.events.append(document)

    async def review_token(self, token: str, audience: str) -> dict[str, Any]:
        self._note("create", "TokenReview", "")
        self.reviews += 1
        return self.review

    def _note(self, verb: str, kind: str, name: str) -> None:
        resource = _RESOURCES[kind]
        granted = resource in OURS if verb == "apply status" else _NEEDED.get(verb, {verb}) <= {*resource.verbs}
        if not granted:
            raise NotGrantedError(f"{verb} {kind}")
        self.calls.append((verb, kind, name))
        failure = self.fail(verb, kind, name)
        if failure is not None:
            raise failure

    def _found(self, verb: str, key: Key) -> dict[str, Any]:
        self._note(verb, key.kind, key.name)
        if key not in self.objects:
            raise errors.NotFound(f"{key.kind} {key.name} not found", 404)
        return self.objects[key]

    def _same(self, verb: str, key: Key, uid: str) -> dict[str, Any]:
        known = self._found(verb, key)
        if known["metadata"]["uid"] != uid:
            raise errors.Conflict("the UID in the precondition does not match", 409)
        return known

    def _change(self, key: Key, changed: dict[str, Any]) -> dict[str, Any]:
        if changed == self.objects[key]:
            return copy.deepcopy(changed)
        return self.add(changed)


def training_job(name: str = "a", **spec: Any) -> dict[str, Any]:
    """Return a TrainingJob as a user writes it."""
    return of_kind("TrainingJob", name, spec)


def of_kind(kind: str, name: str, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return an object of one of our kinds."""
    resource = next(resource for resource in OURS if resource.kind == kind)
    return {
        "apiVersion": resource.api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "ns"},
        "spec": spec or {},
    }


def child(kind: str, name: str, owner_uid: str, **fields: Any) -> dict[str, Any]:
    """Return an object that belongs to one of ours."""
    version = {"Job": "batch/v1", "Deployment": "apps/v1"}.get(kind, "v1")
    labels = {"app.kubernetes.io/managed-by": "modelwright", "modelwright.dev/owner-uid": owner_uid}
    assert find(version, kind).kind == kind
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "ns", "labels": labels},
        **fields,
    }


def count(metrics: Metrics, name: str, **labels: str) -> float:
    """Return a sample of a metric."""
    return metrics.registry.get_sample_value(name, labels) or 0.0
