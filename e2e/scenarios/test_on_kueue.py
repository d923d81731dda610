"""Gangs that wait for Kueue, which lets them in whole, takes them back, and knows when they give their room back."""

from collections.abc import Iterator

import pytest

from e2e.cluster.kueue import LABEL, Kueue
from e2e.cluster.paths import Layout
from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.stages import has_gone_on, saved
from e2e.scenarios.waiting import eventually
from e2e.support.models import Models
from e2e.support.resources import Object, condition, is_ready, reason

# It is installed into our own cluster, and taken away again.
pytestmark = [pytest.mark.local_only, pytest.mark.long]

_JOBS = "trainingjobs"
_API = "kueue.x-k8s.io/v1beta2"
_QUEUE = "e2e"
_ROOM = {"cpu": "250m", "memory": "2Gi"}
"""For one gang of two pods, and not for two."""
_SECONDS = 20
"""How long the job trains: time for two checkpoints, for the preemption and the loss of a pod, and as much to spare."""
_WAITS = "waiting for Kueue to admit it from the queue"


@pytest.fixture(scope="module", autouse=True)
def installed(space: Space) -> Iterator[None]:
    """Kueue, which nobody else has meanwhile, with one queue for this namespace."""
    kueue, layout = Kueue(), Layout.default()
    with kueue.borrowed(layout):
        kueue.await_ready(layout)
        labels = [f"{name}={value}" for name, value in LABEL.items()]
        space.kubectl.run("label", "namespace", space.namespace, *labels)
        quotas = [{"name": name, "nominalQuota": quantity} for name, quantity in _ROOM.items()]
        room = {"coveredResources": [*_ROOM], "flavors": [{"name": _QUEUE, "resources": quotas}]}
        rules = {"withinClusterQueue": "LowerPriority"}
        spec = {"namespaceSelector": {}, "preemption": rules, "resourceGroups": [room]}
        space.kubectl.apply(
            [
                _of_kueue("ResourceFlavor", _QUEUE, {"spec": {}}),
                _of_kueue("WorkloadPriorityClass", "urgent", {"value": 1000}),
                _of_kueue("ClusterQueue", _QUEUE, {"spec": spec}),
            ]
        )
        space.apply(_of_kueue("LocalQueue", _QUEUE, {"spec": {"clusterQueue": _QUEUE}}))
        yield


def _of_kueue(kind: str, name: str, rest: Object) -> Object:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name}, **rest}


def _queued(entry: Object, **labels: str) -> Object:
    """Return an object that waits in the queue; `priority-class` is one of Kueue's."""
    words = {"queue-name": _QUEUE, **{name.replace("_", "-"): value for name, value in labels.items()}}
    return {**entry, "metadata": {**entry["metadata"], "labels": {f"kueue.x-k8s.io/{k}": v for k, v in words.items()}}}


def _admitted(space: Space) -> list[str]:
    """Return the Jobs whose Workloads have their room."""
    held = [
        entry
        for entry in space.list("workloads.kueue.x-k8s.io")
        if condition(entry, "Admitted").get("status") == "True" and not condition(entry, "Finished")
    ]
    return sorted(entry["metadata"]["ownerReferences"][0]["name"] for entry in held)


def test_who_is_more_important_takes_the_room_of_a_gang_that_saves_waits_and_goes_on(
    space: Space, data: Data, models: Models, pace: Pace
) -> None:
    low = specs.network("low", data.winter, "low", replicas=2, steps=pace.steps(_SECONDS))
    space.apply(_queued(low))
    before = space.journal.wait(_JOBS, "low", saved, timeout=200)
    space.apply(_queued(specs.command("urgent", "pass", replicas=2), priority_class="urgent"))
    waits = space.journal.wait(_JOBS, "low", lambda job: reason(job) == "Queued", timeout=60)
    assert condition(waits, "Ready")["message"] == f"{_WAITS} {_QUEUE}"

    space.journal.wait(_JOBS, "urgent", is_ready, timeout=120)
    again = space.journal.wait(_JOBS, "low", has_gone_on, timeout=200)
    assert again["status"]["attempts"][-1]["resumedFromStep"] >= before["status"]["checkpoint"]["step"]
    _, worker = space.gang(again)
    space.delete("pod", worker, "--force", "--grace-period=0")

    done = space.journal.wait(_JOBS, "low", is_ready, timeout=200)
    # Kueue's taking it back costs no attempt; what the killed pod costs is admitted like any other.
    assert len(done["status"]["attempts"]) == 2
    assert done["status"]["restarts"] == 1
    assert done["status"]["goodput"]["seconds"]["queued"] > 0
    assert models.versions("low") == [1]
    eventually(lambda: not _admitted(space), "a gang that is done keeps its room")


def test_a_suspension_gives_the_room_to_who_waits(space: Space) -> None:
    space.apply(_queued(specs.command("first", "import time; time.sleep(600)", replicas=2)))
    space.journal.wait(_JOBS, "first", lambda job: reason(job) == "Training", timeout=60)
    space.apply(_queued(specs.command("second", "pass", replicas=2)))
    waits = space.journal.wait(_JOBS, "second", lambda job: reason(job) == "Queued", timeout=60)
    assert condition(waits, "Ready")["message"] == f"{_WAITS} {_QUEUE}"
    assert space.pods(waits) == []

    space.patch("trainingjob", "first", {"spec": {"suspend": True}})
    space.journal.wait(_JOBS, "second", is_ready, timeout=120)
    assert reason(space.job("first")) == "Suspended"
    space.patch("trainingjob", "first", {"spec": {"suspend": False}})
    space.journal.wait(_JOBS, "first", lambda job: reason(job) == "Training", timeout=60)
    assert len(space.pods(space.job("first"))) == 2
    space.delete("trainingjob", "first")
    eventually(lambda: not _admitted(space), "a gang that is deleted keeps its room")


def test_a_queue_that_a_namespace_has_by_default_is_waited_for_without_a_label(space: Space) -> None:
    space.apply(_of_kueue("LocalQueue", "default", {"spec": {"clusterQueue": _QUEUE}}))
    space.apply(_queued(specs.command("before", "import time; time.sleep(600)", replicas=2)))
    space.journal.wait(_JOBS, "before", lambda job: reason(job) == "Training", timeout=60)
    space.apply(specs.command("unlabelled", "pass", replicas=2))
    waits = space.journal.wait(_JOBS, "unlabelled", lambda job: reason(job) == "Queued", timeout=60)
    assert condition(waits, "Ready")["message"] == f"{_WAITS} default"

    space.delete("trainingjob", "before")
    space.journal.wait(_JOBS, "unlabelled", is_ready, timeout=120)
