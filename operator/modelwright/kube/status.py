"""Does a status say something new? Lists that the API server keeps as maps may come back in another order."""

from datetime import datetime
from typing import Any

from modelwright.api.common import Condition
from modelwright.plan.actions import Object
from modelwright.plan.conditions import State, Verdict, conditions

REFUSED = "StatusRejected"
"""The reason of Ready where the API server refuses the rest of a status."""
LIST_KEYS = {"conditions": "type", "failures": "failureClass", "incidents": "id", "metrics": "name"}
"""Status fields of list type map, and the key of their entries; a test compares this with the CRDs."""
_SUMMARY = frozenset({*State, "Succeeded"})


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


def refused(document: Object, wanted: Object, message: str, now: datetime) -> Object:
    """Return the status of an object as it is, but with conditions that say why it is not the wanted one.

    The object has not ended, whatever was to be said of that; it stays suspended where it was to be.
    """
    found, generation = document.get("status") or {}, document["metadata"].get("generation")
    before = [Condition.model_validate(entry) for entry in found.get("conditions") or ()]
    types = {entry["type"] for entry in wanted.get("conditions") or ()}
    said = conditions(
        Verdict(State.SUSPENDED if State.SUSPENDED in types else State.STALLED, REFUSED, message),
        generation=generation,
        before=before,
        now=now,
        succeeded="Succeeded" in types,
        ended=False,
        extra=[(c.type, c.status == "True", c.reason, c.message) for c in before if c.type not in _SUMMARY],
    )
    return {**found, "observedGeneration": generation, "conditions": [condition.document() for condition in said]}


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
