"""What `modelwright.kube.client.Client` is to the operator: the same calls and the same errors, on a `Cluster`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from modelwright.kube import errors
from modelwright.kube.objects import Key
from modelwright.kube.resources import Resource, resource_of
from modelwright.plan.actions import Object, Ref
from tests.simulation.cluster import Cluster, key_of
from tests.simulation.faults import Pen


async def _others() -> None:
    """Let the other reconciles go on: time passes while the API server is asked."""
    await asyncio.sleep(0)


def _no_guard() -> None:
    """Allow every write."""


@dataclass
class SimClient:
    """The calls that a reconcile makes. None of them takes time, but others may run in between."""

    cluster: Cluster
    pen: Pen
    on_status: Callable[[Object], None]
    """Told of every object whose status was written."""
    on_event: Callable[[Object], None]
    guard: Callable[[], None] = _no_guard

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        await _others()
        found = self.cluster.get(Key(resource.kind, namespace, name))
        if found is None:
            raise errors.NotFound(f"{resource.kind} {name} not found", 404)
        return found

    async def list(
        self, resource: Resource, namespace: str, selector: str = "", *, fields: str = ""
    ) -> AsyncIterator[tuple[list[Object], str]]:
        await _others()
        assert resource.kind == "Event"
        wanted = dict(part.split("=") for part in fields.split(","))
        found = [
            event
            for event in self.cluster.told
            if event["involvedObject"]["uid"] == wanted["involvedObject.uid"] and event["reason"] == wanted["reason"]
        ]
        yield found, str(self.cluster.version)

    async def kinds(self, api_version: str) -> frozenset[str]:
        await _others()
        return self.cluster.served.get(api_version, frozenset())

    async def apply(self, document: Object, subresource: str | None = None) -> Object:
        key = key_of(document)
        assert resource_of(document).kind == key.kind
        if subresource is None:
            return await self._write(f"apply {key.kind} {key.name}", lambda: self.cluster.apply(document))
        return await self._write(f"status {key.kind} {key.name}", lambda: self._apply_status(document))

    async def patch(self, resource: Resource, ref: Ref, body: Object) -> Object:
        return await self._write(f"patch {ref.kind} {ref.name}", lambda: self.cluster.patch(ref, body))

    async def delete(self, resource: Resource, ref: Ref, propagation: str, grace_seconds: int | None = None) -> Object:
        foreground = propagation == "Foreground"

        def delete() -> Object:
            self.cluster.require(ref)
            self.cluster.delete(ref, foreground=foreground, grace=grace_seconds)
            return self.cluster.get(Key(ref.kind, ref.namespace, ref.name)) or {"kind": "Status", "status": "Success"}

        return await self._write(f"delete {ref.kind} {ref.name}", delete)

    async def create(self, resource: Resource, document: Object, *, guarded: bool = False) -> Object:
        return await self._write(
            f"create {resource.kind} {document['metadata']['name']}", lambda: self.cluster.create(document)
        )

    async def create_event(self, document: Object) -> None:
        self.on_event(document)

    def _apply_status(self, document: Object) -> Object:
        meta = document["metadata"]
        written = self.cluster.apply_status(
            key_of(document), meta["uid"], document["status"], meta.get("resourceVersion")
        )
        self.on_status(written)
        return written

    async def _write(self, words: str, do: Callable[[], Object]) -> Object:
        await _others()
        self.guard()
        return self.pen.write(words, do, errors.Conflict(words, 409), errors.Unavailable(words))
