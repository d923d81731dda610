"""Does a status say something new? Lists that the API server keeps as maps may come back in another order."""

from typing import Any

LIST_KEYS = {"conditions": "type", "incidents": "id", "metrics": "name"}
"""Status fields of list type map, and the key of their entries; a test compares this with the CRDs."""


def same(wanted: Any, found: Any) -> bool:
    """Return whether two statuses say the same: what is null is absent, and lists of list type map have no order."""
    # Mostly nothing has changed, not even an order; finding that out must cost little.
    return bool(wanted == found or _normal(wanted or {}) == _normal(found or {}))


def without_nulls(value: Any) -> Any:
    """Return a JSON value without the null fields of its objects."""
    if isinstance(value, dict):
        return {name: without_nulls(entry) for name, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(entry) for entry in value]
    return value


def _normal(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _normal(entry, key) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        entries = [_normal(entry) for entry in value]
        key = LIST_KEYS.get(name)
        if key is not None and all(isinstance(entry, dict) and key in entry for entry in entries):
            return {entry[key]: entry for entry in entries}
        return entries
    return value
