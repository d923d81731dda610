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
        if not _refuses(store, key, AlreadyExists, if_absent=True):
            return "If-None-Match"
        if not _refuses(store, key, PreconditionFailed, if_match=_WRONG_ETAG):
            return "If-Match"
    finally:
        store.delete(key)
    return None


def require_conditional_writes(store: ObjectStore) -> None:
    """Raise a `StoreError` that names what is missing unless versions and aliases are safe on this store."""
    missing = missing_condition(store)
    if missing is not None:
        raise StoreError(
            f"The S3 server of {store.uri} does not honour {missing} on writes, so versions and aliases could be lost: "
            "use a server that supports conditional writes",
            retryable=False,
        )


def _refuses(
    store: ObjectStore, key: str, refusal: type[StoreError], *, if_absent: bool = False, if_match: str | None = None
) -> bool:
    try:
        store.write(key, b"", if_absent=if_absent, if_match=if_match)
    except refusal:
        return True
    except StoreError as error:
        if error.retryable:
            raise
    return False
