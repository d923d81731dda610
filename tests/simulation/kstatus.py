"""The rules of kstatus and of the Kubernetes API conventions, for any status of ours."""

import re
from collections.abc import Mapping
from typing import Any

_REASON = re.compile(r"^[A-Z][A-Za-z0-9]*$")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d|\b\d\d:\d\d:\d\d\b")
_ENDING_KINDS = frozenset({"TrainingJob", "TuningSweep"})


def violations(document: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the status of one of our objects; it must have been written for the spec beside it."""
    status = document.get("status") or {}
    entries = {entry["type"]: entry for entry in status.get("conditions", ())}
    if len(entries) != len(status.get("conditions", ())):
        return ["a condition type appears twice"]
    if "Ready" not in entries:
        return ["there is no Ready condition"]
    return [
        *_shape(status, entries, document["metadata"].get("generation")),
        *_agreement(document["kind"], entries),
    ]


def summary(document: Mapping[str, Any]) -> str:
    """Return the status that kstatus computes: Current, InProgress, Failed or Terminating."""
    metadata, status = document["metadata"], document.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if status.get("observedGeneration", metadata.get("generation")) != metadata.get("generation"):
        return "InProgress"
    entries = {entry["type"]: entry["status"] for entry in status.get("conditions", ())}
    if entries.get("Stalled") == "True":
        return "Failed"
    if entries.get("Reconciling") == "True" or entries.get("Ready") != "True":
        return "InProgress"
    return "Current"


def _shape(status: Mapping[str, Any], entries: Mapping[str, Any], generation: int | None) -> list[str]:
    found = []
    if status.get("observedGeneration") != generation:
        found.append(f"observedGeneration is {status.get('observedGeneration')}, the generation {generation}")
    for kind, entry in entries.items():
        if entry.get("observedGeneration") != generation:
            found.append(f"{kind} speaks of generation {entry.get('observedGeneration')}")
        if not _REASON.match(entry["reason"]):
            found.append(f"{kind}: {entry['reason']!r} is no CamelCase reason")
        if not entry.get("message"):
            found.append(f"{kind} has no message")
        if _TIME.search(entry.get("message", "")):
            found.append(f"{kind}: there is a time in {entry['message']!r}")
        if not entry.get("lastTransitionTime"):
            found.append(f"{kind} has no lastTransitionTime")
    return found


def _agreement(kind: str, entries: Mapping[str, Any]) -> list[str]:
    found = []
    ready = entries["Ready"]["status"]
    for abnormal in ("Reconciling", "Stalled", "Suspended"):
        if abnormal in entries and entries[abnormal]["status"] != "True":
            found.append(f"{abnormal} is there though it is not True")
        if abnormal in entries and ready == "True" and abnormal != "Reconciling":
            found.append(f"Ready and {abnormal} at once")
    if "Reconciling" in entries and "Stalled" in entries:
        found.append("Reconciling and Stalled at once")
    if ready == "False" and not {"Reconciling", "Stalled", "Suspended"} & set(entries):
        found.append("not Ready, and nothing says why")
    if kind in _ENDING_KINDS:
        found += _outcome(entries)
    return found


def _outcome(entries: Mapping[str, Any]) -> list[str]:
    if "Succeeded" not in entries:
        return ["there is no Succeeded condition"]
    said, ready = entries["Succeeded"]["status"], entries["Ready"]["status"]
    if (said == "True") != (ready == "True"):
        return [f"Succeeded is {said}, but Ready is {ready}"]
    if said == "False" and "Stalled" not in entries:
        return ["failed, but not Stalled"]
    return []
