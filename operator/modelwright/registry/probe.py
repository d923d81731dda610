"""Does the store honour conditions on writes? Without them two jobs could take one version number."""

import uuid

from modelwright.registry.errors import AlreadyExists, PreconditionFailed, StoreError
from modelwright.registry.store import ObjectStore

_WRONG_ETAG = '"00000000000000000000000000000000"'


def missing_condition(store: ObjectStore) -> str | None:
    """Return the name of the condition that the store ignores or does not know; None when it honours both.

    Raises `StoreError` when it cannot be tried at all.
    """
    key = f"probes/{uuid.uuid4()}"
    store.write(key, b"")
    try:
        if not _refuses_second_create(store, key):
            return "If-None-Match"
        if not _refuses_stale_update(store, key):
            return "If-Match"
    finally:
        store.delete(key)
    return None


def supports_conditional_writes(store: ObjectStore) -> bool:
    """Return whether the store refuses to create what exists and to replace what has changed."""
    return missing_condition(store) is None


def require_conditional_writes(store: ObjectStore) -> None:
    """Raise a `StoreError` that names what is missing unless versions and aliases are safe on this store."""
    missing = missing_condition(store)
    if missing is not None:
        raise StoreError(
            f"The S3 server of {store.uri} does not honour {missing} on writes, so versions and aliases could be lost: "
            "use a server that supports conditional writes",
            retryable=False,
        )


def _refuses_second_create(store: ObjectStore, key: str) -> bool:
    try:
        store.write(key, b"", if_absent=True)
    except AlreadyExists:
        return True
    except StoreError as error:
        if error.retryable:
            raise
    return False


def _refuses_stale_update(store: ObjectStore, key: str) -> bool:
    try:
        store.write(key, b"", if_match=_WRONG_ETAG)
    except PreconditionFailed:
        return True
    except StoreError as error:
        if error.retryable:
            raise
    return False
