"""What a user says about the pods of a gang, as a real node takes it; and a preflight that fails before training."""

from typing import Any

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.space import Space
from e2e.support.resources import Object, condition, is_ready, reason

_JOBS = "trainingjobs"
_FETCH = "from pathlib import Path; Path('/shared/vocabulary').write_text('fetched')"
# A side-car works until it is told to leave; that it has begun is seen by the worker.
_SIDE_CAR = "from pathlib import Path; import time; Path('/shared/cache').write_text('warm'); time.sleep(3600)"
_WORK = """
import os, time
from pathlib import Path
while not Path("/shared/cache").exists():
    time.sleep(0.1)
print("vocabulary", Path("/shared/vocabulary").read_text(), "cache", Path("/shared/cache").read_text())
print("node", os.environ["MODELWRIGHT_NODE"], "of", os.environ["MODELWRIGHT_WORKERS"], os.environ["COLOUR"])
memory = os.statvfs("/dev/shm")
print("shared memory", memory.f_blocks * memory.f_frsize)
"""
_RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def _beside(space: Space, name: str, program: str, **fields: Any) -> Object:
    return {
        "name": name,
        "image": space.installation.target.images["runtime"],
        "command": ["python", "-c", program],
        "securityContext": _RESTRICTED,
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        **fields,
    }


def _accompanied(space: Space) -> Object:
    inits = [_beside(space, "fetch", _FETCH), _beside(space, "cache", _SIDE_CAR, restartPolicy="Always")]
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    template = {
        "metadata": {"labels": {"team": "vision"}, "annotations": {"example.com/cost-centre": "4711"}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "initContainers": inits,
            "containers": [
                {"name": "worker", "volumeMounts": mounts, "env": [{"name": "COLOUR", "value": "blue"}]},
            ],
            "volumes": [{"name": "shared", "emptyDir": {"sizeLimit": "16Mi"}}],
        },
    }
    workers = {"podTemplate": template, "sharedMemory": "64Mi", "topology": "Spread"}
    return specs.changed(specs.command("accompanied", _WORK, replicas=1), workers=workers)


@pytest.fixture(scope="module", autouse=True)
def applied(space: Space, data: Data) -> None:
    """A job with company, one whose init container fails, one that Kubernetes does not take, one without a bucket."""
    breaking = {"initContainers": [_beside(space, "fetch", "raise SystemExit('no such corpus')", volumeMounts=[])]}
    nowhere = specs.changed(
        specs.trees("nowhere", data.winter, "nowhere"), storage={"uri": "s3://no-such-bucket-of-ours/models"}
    )
    space.apply(
        _accompanied(space),
        specs.changed(
            specs.command("unfetched", "pass", replicas=1),
            workers={"podTemplate": {"spec": breaking}},
            failurePolicy={"backoffSeconds": 0, "budgets": {"applicationError": 0}},
        ),
        specs.changed(
            specs.command("misspelt", "pass", replicas=1),
            workers={"podTemplate": {"spec": {"nodeSelectr": {"pool": "gpu"}}}},
        ),
        nowhere,
    )


def _over(job: Object) -> bool:
    return condition(job, "Succeeded").get("status") == "False"


def test_an_init_container_serves_the_worker_and_a_side_car_does_not_outlive_it(space: Space) -> None:
    job = space.journal.wait(_JOBS, "accompanied", is_ready, timeout=180)
    (pod,) = space.pods(job)
    log = space.kubectl.run("logs", pod["metadata"]["name"], f"--namespace={space.namespace}", "--container=worker")
    assert "vocabulary fetched cache warm" in log
    assert f"node {pod['spec']['nodeName']} of 1 blue" in log
    assert f"shared memory {64 << 20}" in log
    assert pod["status"]["phase"] == "Succeeded"


def test_labels_and_annotations_of_the_users_are_on_the_pods(space: Space) -> None:
    job = space.journal.wait(_JOBS, "accompanied", is_ready, timeout=180)
    (pod,) = space.pods(job, "team=vision")
    assert pod["metadata"]["annotations"]["example.com/cost-centre"] == "4711"


def test_an_init_container_that_fails_is_named(space: Space) -> None:
    job = space.journal.wait(_JOBS, "unfetched", _over, timeout=120, stop=lambda _: False)
    (attempt,) = job["status"]["attempts"]
    assert "did not begin: its init container fetch exited with code 1: no such corpus" in attempt["message"]


def test_a_pod_template_with_a_misspelt_field_is_refused_in_words(space: Space) -> None:
    job = space.journal.wait(
        _JOBS, "misspelt", lambda found: reason(found) == "ChildRejected", timeout=60, stop=lambda _: False
    )
    assert ".spec.template.spec.nodeSelectr: field not declared in schema" in condition(job, "Ready")["message"]


def test_a_preflight_that_fails_names_the_worker_its_node_and_the_check(space: Space) -> None:
    job = space.journal.wait(_JOBS, "nowhere", _over, timeout=120, stop=lambda _: False)
    (attempt,) = job["status"]["attempts"]
    assert (attempt["reason"], attempt["failureClass"]) == ("PreflightFailed", "Infrastructure")
    assert f"worker 0 on node {attempt['node']}: storage: " in attempt["message"]
