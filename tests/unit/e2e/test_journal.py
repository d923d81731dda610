"""The journal of the scenarios: it hears every state, in order, and knows when waiting is in vain."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.kubectl import Kubectl
from e2e.support.journal import Journal
from e2e.support.resources import WaitedInVainError, reason

_KUBECTL = """#!/bin/sh
case "$*" in
  *trainingjobs\\?watch*) cat {events}; exec sleep 60;;
  *watch*) exec sleep 60;;
esac
"""


def state(version: int, why: str, *, stalled: bool = False) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "False", "reason": why}]
    if stalled:
        conditions.append({"type": "Stalled", "status": "True", "reason": why})
    metadata = {"name": "a", "generation": 1, "resourceVersion": str(version)}
    return {
        "kind": "TrainingJob",
        "metadata": metadata,
        "status": {"observedGeneration": 1, "conditions": conditions},
    }


@pytest.fixture
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Journal]:
    events = tmp_path / "events"
    events.write_text("".join(json.dumps({"type": kind, "object": found}) + "\n" for kind, found in request.param))
    program = tmp_path / "kubectl"
    program.write_text(_KUBECTL.format(events=events))
    program.chmod(0o755)
    kubectl = Kubectl(tmp_path / "kubeconfig", kubectl=program)
    with Journal(kubectl, "team", lambda found: ["too loud"] if reason(found) == "TRAINING" else []) as journal:
        yield journal


@pytest.mark.parametrize(
    "journal",
    [
        [
            ("ADDED", state(1, "Starting")),
            ("MODIFIED", state(2, "TRAINING")),
            ("ADDED", state(1, "Starting")),
            ("ADDED", state(2, "TRAINING")),
            ("MODIFIED", state(3, "Restarting")),
            ("BOOKMARK", state(4, "Nothing")),
            ("MODIFIED", state(5, "Failed", stalled=True)),
            ("DELETED", state(6, "Failed", stalled=True)),
        ]
    ],
    indirect=True,
)
def test_states_passed_through_are_found_and_an_end_ends_the_waiting(journal: Journal) -> None:
    journal.wait_gone("trainingjobs", "a", timeout=10)
    assert journal.reasons("trainingjobs", "a") == ["Starting", "TRAINING", "Restarting", "Failed"]
    assert [entry.version for entry in journal.entries("trainingjobs", "a")] == [1, 2, 3, 5, 6]
    assert journal.writes(0.0) == ["trainingjobs/a"] * 5
    assert journal.writes(time.monotonic()) == []
    assert journal.complaints == ["TrainingJob a (TRAINING): too loud"]
    with pytest.raises(WaitedInVainError, match="Restarting"):
        journal.wait("trainingjobs", "a", lambda found: reason(found) == "Succeeded", timeout=10)


@pytest.mark.parametrize(
    "journal", [[("ADDED", state(1, "Starting")), ("MODIFIED", state(2, "Failed", stalled=True))]], indirect=True
)
def test_what_is_stalled_is_not_waited_for(journal: Journal) -> None:
    began = time.monotonic()
    with pytest.raises(WaitedInVainError, match="Failed"):
        journal.wait("trainingjobs", "a", lambda found: reason(found) == "Succeeded", timeout=30)
    assert time.monotonic() - began < 15
    found = journal.wait("trainingjobs", "a", lambda found: reason(found) == "Failed", timeout=1)
    assert found["metadata"]["resourceVersion"] == "2"
    with pytest.raises(WaitedInVainError):
        journal.wait("trainingjobs", "nobody", lambda _: True, timeout=0.1)
