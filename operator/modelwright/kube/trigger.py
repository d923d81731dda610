"""kopf's part: it watches our four kinds and says which object may have changed.

Only `on.event` is used. State-tracking handlers write annotations and finalizers (three writes an object), indices
grow faster than linearly and keep what a re-list no longer has, daemons cost memory for every object (measured; see
the design).

kopf does not say when its first list is complete, and never says that an object was deleted while its watch was down.
The roll call (`modelwright.kube.rollcall`) covers both.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
from kubernetes.aio.client import Configuration

from modelwright.kube.client import PAGE, WATCH_DEADLINE, WATCH_SECONDS
from modelwright.kube.objects import Key, Objects
from modelwright.kube.resources import OURS, Resource
from modelwright.plan.actions import Object

_PREFIX = "kopf.modelwright.dev"
_LOGIN_MINUTES = 10


def take(objects: Objects, resource: Resource, event: dict[str, Any]) -> None:
    """Put what kopf saw into the store; the store tells whom it concerns."""
    document: Object = dict(event["object"])
    metadata = document["metadata"]
    if event["type"] == "DELETED":
        key = Key(resource.kind, metadata["namespace"], metadata["name"])
        objects.remove(key, metadata["uid"], int(metadata["resourceVersion"]))
        return
    document["apiVersion"], document["kind"] = resource.api_version, resource.kind
    objects.put(document)


def registry(objects: Objects, configuration: Configuration, listed: Callable[[], None]) -> kopf.OperatorRegistry:
    """Return handlers for our kinds that do nothing but keep the store; `listed` is called for what comes by a list."""
    handlers = kopf.OperatorRegistry()
    group, version = OURS[0].api_version.split("/")
    for resource in OURS:
        kopf.on.event(group, version, resource.plural, registry=handlers)(_handler(objects, resource, listed))
    kopf.on.login(registry=handlers)(_login(configuration))
    return handlers


def settings() -> kopf.OperatorSettings:
    """Return how kopf is to behave: no peering, no state, no events of its own, no watch without an end."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    # CRDs come with the chart, before the operator; without this kopf wants to read all CRDs and namespaces.
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.watching.server_timeout = WATCH_SECONDS
    chosen.watching.client_timeout = WATCH_DEADLINE
    chosen.watching.connect_timeout = 10
    chosen.watching.reconnect_backoff = 1.0
    chosen.watching.chunk_size = PAGE
    chosen.networking.request_timeout = 30
    chosen.networking.error_backoffs = _Forever()
    chosen.queueing.idle_timeout = 1.0
    chosen.persistence.finalizer = f"{_PREFIX}/finalizer"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_PREFIX)
    chosen.persistence.diffbase_storage = _NoDiffBase()
    chosen.process.ultimate_exiting_timeout = None
    return chosen


class _Forever(Iterable[float]):
    """Pauses between tries of kopf's requests: an API server that is away is no reason to exit."""

    def __iter__(self) -> Iterator[float]:
        seconds = 1.0
        while True:
            yield seconds
            seconds = min(30.0, seconds * 2)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Without state-tracking handlers there is nothing to compare; the default copies every object on every event."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


def _handler(objects: Objects, resource: Resource, listed: Callable[[], None]) -> Callable[..., Any]:
    async def changed(event: dict[str, Any], **_: Any) -> None:
        take(objects, resource, event)
        if event["type"] is None:
            listed()

    return changed


def _login(configuration: Configuration) -> Callable[..., Any]:
    async def login(**_kwargs: Any) -> kopf.ConnectionInfo:
        header = await configuration.get_api_key_with_prefix("BearerToken")
        scheme, _, token = (header or "").partition(" ")
        # Service account tokens are rotated; a login that never expires would go on with the first one until refused.
        expires = datetime.now(UTC) + timedelta(minutes=_LOGIN_MINUTES) if token else None
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            username=configuration.username or None,
            password=configuration.password or None,
            scheme=scheme or None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            expiration=expires,
        )

    return login
