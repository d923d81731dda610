"""Attempts as RayJobs: KubeRay keeps pods alive one by one, and a gang lives and dies together all the same."""

from collections.abc import Iterator

import pytest

from e2e.cluster.kuberay import KubeRay
from e2e.cluster.paths import Layout
from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.stages import has_gone_on, has_started_again, saved
from e2e.scenarios.waiting import eventually
from e2e.scenarios.workers import signal_worker
from e2e.support.models import Models
from e2e.support.resources import Object, is_ready, reason

# It is installed into our own cluster, and taken away again.
pytestmark = [pytest.mark.local_only, pytest.mark.long]

_JOBS = "trainingjobs"
_NAME = "by-kuberay"
_SECONDS = 10
"""How long the job trains: time for a checkpoint, for the loss of the worker, and as much to spare."""


@pytest.fixture(scope="module", autouse=True)
def installed(space: Space) -> Iterator[None]:
    """KubeRay, which nobody else has meanwhile. Its kinds go while the operator still watches them."""
    with KubeRay().borrowed(Layout.default()):
        yield


def _pod(space: Space, job: Object, role: str) -> str:
    """Return the name of a pod of the present attempt: of the `head`, or of the one `worker`."""
    attempt = f"modelwright.dev/attempt={job['status']['attempt']}"
    (pod,) = space.pods(job, attempt, f"ray.io/node-type={role}")
    return str(pod["metadata"]["name"])


def _require_one_deleted_pod(done: Object, before: Object) -> None:
    """Require that a deleted pod has cost one attempt, and no step that was saved before."""
    lost, last = done["status"]["attempts"]
    assert (lost["reason"], lost["failureClass"]) == ("PodDeleted", "Infrastructure")
    assert last["resumedFromStep"] >= before["status"]["checkpoint"]["step"]


def _ends(space: Space) -> list[tuple[str, str | None]]:
    """Return how KubeRay says that its RayJobs ended, in the order of their attempts."""
    jobs = sorted(space.list("rayjobs"), key=lambda job: str(job["metadata"]["name"]))
    return [(job["status"]["jobDeploymentStatus"], job["status"].get("reason")) for job in jobs]


def test_kuberay_runs_a_gang_which_goes_on_from_a_checkpoint_when_a_worker_is_killed(
    space: Space, data: Data, models: Models, pace: Pace
) -> None:
    job = specs.network(_NAME, data.winter, _NAME, replicas=2, steps=pace.steps(_SECONDS))
    space.apply(specs.changed(job, framework="Ray", ray={"kuberay": True}))
    before = space.journal.wait(_JOBS, _NAME, saved, timeout=300)
    space.delete("pod", _pod(space, before, "worker"), "--force", "--grace-period=0")

    done = space.journal.wait(_JOBS, _NAME, is_ready, timeout=400)
    _require_one_deleted_pod(done, before)
    assert models.versions(_NAME) == [1]
    # The RayJobs stay as a record of the attempts, as Jobs do.
    assert _ends(space) == [("Failed", "DeadlineExceeded"), ("Complete", None)]
    eventually(lambda: not (space.list("rayclusters") + space.pods(done)), "a Ray cluster is left")


def test_a_suspension_keeps_the_attempt_of_which_a_killed_process_is_no_end_and_a_lost_head_is(
    space: Space, data: Data, models: Models, pace: Pace
) -> None:
    name = "paused-by-kuberay"
    job = specs.network(name, data.winter, name, replicas=2, steps=pace.steps(2.5 * _SECONDS))
    space.apply(specs.changed(job, framework="Ray", ray={"kuberay": True}))
    space.journal.wait(_JOBS, name, saved, timeout=300)
    space.patch("trainingjob", name, {"spec": {"suspend": True}})
    paused = space.journal.wait(_JOBS, name, lambda job: reason(job) == "Suspended", timeout=120)
    eventually(lambda: not (space.list("rayclusters") + space.pods(paused)), "a suspended Ray cluster is still there")
    kept = paused["status"]["checkpoint"]["step"]

    space.patch("trainingjob", name, {"spec": {"suspend": False}})
    again = space.journal.wait(_JOBS, name, has_gone_on, timeout=300)
    (attempt,) = again["status"]["attempts"]
    assert attempt["resumedFromStep"] >= kept
    signal_worker(space, _pod(space, again, "worker"), "SIGKILL")
    again = space.journal.wait(_JOBS, name, has_started_again, timeout=120)
    space.delete("pod", _pod(space, again, "head"), "--force", "--grace-period=0")

    done = space.journal.wait(_JOBS, name, is_ready, timeout=400)
    _require_one_deleted_pod(done, again)
    assert models.versions(name) == [1]
