"""Aliases: names that move from version to version, one compare-and-swap at a time."""

import json

from modelwright.api import layout
from modelwright.api.artifacts import Alias
from modelwright.registry.errors import AliasMoved, AlreadyExists, IncompleteVersion, PreconditionFailed
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import read_manifest
from modelwright.registry.weight import HEAVIEST


def read_alias(store: ObjectStore, model: str, alias: str) -> tuple[Alias, str] | None:
    """Return where an alias points, and its ETag; None when nobody holds it."""
    return store.find(layout.alias_key(model, alias), Alias, HEAVIEST)


def move_alias(
    store: ObjectStore,
    model: str,
    alias: str,
    version: int,
    expected: int | None,
    moved_by: str,
    reason: str,
    at: str,
) -> None:
    """Point an alias at a version, if it still points at `expected` (None: nobody holds it).

    It is no error when the alias points at the version already. Raises `AliasMoved` when it points elsewhere, and
    `IncompleteVersion` when the version has no manifest.
    """
    found = read_alias(store, model, alias)
    holder = found[0].version if found else None
    if holder == version:
        return
    if holder != expected:
        raise _moved(model, alias, holder, expected)
    if read_manifest(store, model, version) is None:
        raise IncompleteVersion(f"There is no complete version {version} of model {model}", retryable=False)
    body = json.dumps(Alias(version=version, moved_by=moved_by, reason=reason, at=at).document()).encode()
    try:
        store.write(layout.alias_key(model, alias), body, if_absent=found is None, if_match=found[1] if found else None)
    except (AlreadyExists, PreconditionFailed) as error:
        now = read_alias(store, model, alias)
        if now is None or now[0].version != version:
            raise _moved(model, alias, now[0].version if now else None, expected) from error


def _moved(model: str, alias: str, holder: int | None, expected: int | None) -> AliasMoved:
    return AliasMoved(
        f"Alias {alias} of model {model} points at {_name(holder)}, not at {_name(expected)}", retryable=False
    )


def _name(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"
