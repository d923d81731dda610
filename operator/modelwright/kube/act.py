"""Carries out one action of a plan. What comes back goes into `Objects`, so the next plan sees its own writes."""

import contextlib
import secrets
from collections.abc import Callable
from datetime import datetime

from modelwright.kube import errors
from modelwright.kube.client import Client
from modelwright.kube.clock import utc_now
from modelwright.kube.objects import Key, Objects
from modelwright.kube.resources import CHILDREN, OPTIONAL, OURS, SECRET, find
from modelwright.kube.stores import Stores
from modelwright.plan.actions import Action, Apply, CreateSecret, Delete, MoveAlias, Object, Patch, Ref
from modelwright.plan.observed import OWNER_UID_LABEL
from modelwright.plan.times import stamp
from modelwright.registry.aliases import move_alias
from modelwright.registry.errors import AliasMoved, StoreError
from modelwright.registry.store import ObjectStore

_KEPT = frozenset(resource.kind for resource in (*CHILDREN, *OPTIONAL, *OURS))


class Hands:
    """Does as told. Raises `modelwright.kube.errors.ApiError`, for S3 too."""

    def __init__(
        self,
        client: Client,
        objects: Objects,
        stores: Stores,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._client = client
        self._objects = objects
        self._stores = stores
        self._now = now

    async def carry_out(self, action: Action, by: Key) -> bool:
        """Carry out an action of the plan for an object; return whether it made a difference.

        One that is done already is no error and makes none.
        """
        match action:
            case Apply(document, user_named):
                if user_named:
                    await self._spare_others(document)
                return self._keep(await self._client.apply(document), by)
            case Patch(ref, body):
                return await self._patch(ref, body, by)
            case Delete():
                return await self._delete(action, by)
            case CreateSecret(document, keys):
                return await self._create_secret(document, keys)
            case MoveAlias():
                await self._move_alias(action)
                return True

    async def _spare_others(self, document: Object) -> None:
        """Raise `Rejected` when an object of that name belongs to somebody else: an apply would take it over."""
        kind, metadata = document["kind"], document["metadata"]
        known = self._objects.record(Key(kind, metadata["namespace"], metadata["name"]))
        if known is not None and known.owner == metadata["labels"][OWNER_UID_LABEL]:
            return
        try:
            found = await self._client.get(find(document["apiVersion"], kind), metadata["namespace"], metadata["name"])
        except errors.NotFound:
            return
        if (found["metadata"].get("labels") or {}).get(OWNER_UID_LABEL) != metadata["labels"][OWNER_UID_LABEL]:
            raise errors.Rejected(
                f"{kind} {metadata['name']} exists and belongs to somebody else: delete it, or choose another name"
            )

    async def _patch(self, ref: Ref, body: Object, by: Key) -> bool:
        try:
            return self._keep(await self._client.patch(find(ref.api_version, ref.kind), ref, body), by)
        except errors.NotFound:
            # Somebody was faster and deleted it: no refusal, but news, and the next plan knows it.
            return self._objects.remove(_key(ref), ref.uid)

    async def _delete(self, action: Delete, by: Key) -> bool:
        ref = action.ref
        try:
            left = await self._client.delete(
                find(ref.api_version, ref.kind), ref, action.propagation, action.grace_seconds
            )
        except errors.NotFound:
            # A conflict says less: mostly that another object has the name now, of which the watch will tell.
            return self._objects.remove(_key(ref), ref.uid)
        if left.get("kind") == "Status":
            return self._objects.remove(_key(ref), ref.uid)
        return self._keep(left, by)

    async def _create_secret(self, document: Object, keys: tuple[str, ...]) -> bool:
        # Looked for first: a refusal by quota or policy must not be mistaken for a Secret that exists, nor the reverse.
        metadata = document["metadata"]
        try:
            await self._client.get(SECRET, metadata["namespace"], metadata["name"])
        except errors.NotFound:
            values = {key: secrets.token_hex(32) for key in keys}
            with contextlib.suppress(errors.Conflict):
                await self._client.create(SECRET, {**document, "stringData": values}, guarded=True)
            return True
        return False

    async def _move_alias(self, action: MoveAlias) -> None:
        at = stamp(self._now())

        def move(opened: ObjectStore) -> None:
            # The call may have waited for a thread.
            self._client.guard()
            move_alias(
                opened,
                action.model,
                action.alias,
                action.version,
                action.expected,
                action.moved_by,
                action.reason,
                at,
            )

        try:
            await self._stores.call(action.store, move)
        except AliasMoved as error:
            # Not a refusal: the plan saw an older world and has to look again.
            raise errors.Conflict(error.message) from None
        except StoreError as error:
            kind = errors.Unavailable if error.retryable else errors.Rejected
            raise kind(error.message) from None

    def _keep(self, document: Object, by: Key) -> bool:
        return document.get("kind") in _KEPT and self._objects.put(document, by)


def describe(action: Action) -> str:
    """Return what an action does, in the words of a message: `apply Job a-1`."""
    match action:
        case Apply(document):
            return f"apply {document['kind']} {document['metadata']['name']}"
        case Patch(ref, _):
            return f"patch {ref.kind} {ref.name}"
        case Delete(ref):
            return f"delete {ref.kind} {ref.name}"
        case CreateSecret(document, _):
            return f"create Secret {document['metadata']['name']}"
        case MoveAlias():
            return f"move alias {action.alias} of model {action.model} to version {action.version}"


def _key(ref: Ref) -> Key:
    return Key(ref.kind, ref.namespace, ref.name)
