"""Whoever plans on an old view of an object cannot write its status over a newer one: a promise of the API server's."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kube.conftest import manifest, ready_reason
from tests.integration.plane import Plane

pytestmark = pytest.mark.timeout(180)


def _status(seen: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return what the operator applies when it has seen an object at a version."""
    named = {name: seen["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-11-23T10:00:00Z",
    }
    said = {"apiVersion": seen["apiVersion"], "kind": seen["kind"], "metadata": named}
    return {**said, "status": {"conditions": [condition]}}


def test_a_status_for_an_older_version_is_a_conflict_however_forceful(
    plane: Plane, namespace: str, tmp_path: Path
) -> None:
    plane.kubectl.apply([manifest("trainingjob-command", namespace, "a", suspend=True)])
    seen = plane.get(namespace, "trainingjob", "a")
    assert seen is not None
    path = tmp_path / "status.json"
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=modelwright", "--subresource=status")

    path.write_text(json.dumps(_status(seen, "Newer")))
    answer = plane.kubectl.attempt(*apply, "-f", str(path))
    assert answer.returncode == 0, answer.stderr
    path.write_text(json.dumps(_status(seen, "Older")))
    answer = plane.kubectl.attempt(*apply, "-f", str(path))
    assert answer.returncode != 0
    assert "the object has been modified" in answer.stderr
    assert ready_reason(plane.get(namespace, "trainingjob", "a")) == "Newer"
