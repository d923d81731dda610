"""TrainingJobs that are wrong, or wait for somebody: each says so, in its status and once."""

import time

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.space import Space
from e2e.scenarios.stages import ended
from e2e.scenarios.waiting import eventually
from e2e.support.models import Models
from e2e.support.resources import Object, condition, is_ready, reason

_JOBS = "trainingjobs"
_QUIET_SECONDS = 10


@pytest.fixture(scope="module", autouse=True)
def jobs(space: Space, data: Data) -> None:
    """All of them at once, in a namespace that takes no container which asks for next to nothing."""
    least = {"limits": [{"type": "Container", "min": {"cpu": "20m"}}]}
    space.apply({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "least"}, "spec": least})
    trees = {name: specs.trees(name, data.winter, name) for name in ("too-good", "misspelt", "locked", "fleeting")}
    somewhere = {"uri": space.installation.bucket.uri, "secretName": "my-own-keys"}
    space.apply(
        specs.changed(trees["too-good"], evaluation={"thresholds": [{"metric": "roc_auc", "min": 0.999}]}),
        specs.changed(trees["misspelt"], recipe={"tabular": {"features": ["carrier", "hour", "wether"]}}),
        specs.changed(trees["locked"], storage=somewhere),
        specs.changed(trees["fleeting"], ttlSecondsAfterFinished=1),
        specs.trees("absent", data.winter.replace("winter", "autumn"), "absent"),
        specs.changed(specs.command("unpulled", "pass", replicas=1), workers={"image": "localhost:5000/none:1"}),
        specs.changed(specs.command("huge", "pass", replicas=1), workers=_needs("512", at_most="512")),
        specs.changed(specs.command("odd", "pass", replicas=1), workers=_needs("2", at_most="1")),
        specs.changed(specs.command("barred", "pass", replicas=2), workers=_needs("10m", at_most="1")),
    )


@pytest.mark.parametrize(
    ("name", "why", "said"),
    [
        ("locked", "SecretNotFound", "kubectl create secret generic my-own-keys"),
        ("unpulled", "ImagePullFailed", "localhost:5000/none:1"),
        ("huge", "Unschedulable", "Insufficient cpu"),
        ("odd", "ChildRejected", "must be less than or equal to cpu limit"),
        ("barred", "PodsRejected", "refuses them: minimum cpu usage per Container is 20m, but request is 10m"),
    ],
)
def test_what_waits_for_somebody_says_so_and_is_left_in_peace(space: Space, name: str, why: str, said: str) -> None:
    job = space.journal.wait(_JOBS, name, lambda job: reason(job) == why, timeout=60)
    assert said in condition(job, "Ready")["message"]
    assert condition(job, "Succeeded")["status"] == "Unknown"
    eventually(
        lambda: space.journal.entries(_JOBS, name)[-1].at < time.monotonic() - _QUIET_SECONDS,
        "it is written again and again though nothing happens",
    )
    assert reason(space.journal.entries(_JOBS, name)[-1].object) == why


@pytest.fixture(scope="module")
def keys(space: Space) -> None:
    """The Secret that a job has waited for. It looks once a minute: other jobs are tested meanwhile."""
    s3 = space.installation.target.s3
    content = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    space.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "my-own-keys"}, "stringData": content})


@pytest.mark.parametrize(
    ("name", "why", "said"),
    [
        ("too-good", "ThresholdNotMet", "roc_auc"),
        ("misspelt", "ColumnNotFound", "wether"),
        ("absent", "DatasetNotFound", "flights/autumn.parquet"),
    ],
)
@pytest.mark.usefixtures("keys")
def test_what_another_attempt_cannot_cure_fails_at_once(
    space: Space, models: Models, name: str, why: str, said: str
) -> None:
    job = space.journal.wait(_JOBS, name, ended, timeout=180, stop=lambda _: False)
    assert reason(job) == why
    assert said in condition(job, "Ready")["message"]
    assert condition(job, "Stalled")["status"] == "True"
    assert [entry["number"] for entry in job["status"]["attempts"]] == [1]
    space.await_event(name, "Warning", why)
    assert models.versions(name) == []


def test_a_finished_job_is_deleted_in_time_and_its_version_stays(space: Space, models: Models) -> None:
    space.journal.wait_gone(_JOBS, "fleeting", timeout=120)
    last = space.journal.entries(_JOBS, "fleeting")[-1].object
    assert reason(last) == "Succeeded"
    eventually(lambda: not space.children(last), "children of a deleted job are still there")
    assert models.versions("fleeting") == [1]


@pytest.mark.usefixtures("keys")
def test_a_job_that_waited_for_a_secret_goes_on_when_it_is_there(space: Space, models: Models) -> None:
    space.journal.wait(_JOBS, "locked", is_ready, timeout=150)
    assert models.versions("locked") == [1]


def _needs(cpu: str, *, at_most: str) -> Object:
    return {"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": at_most}}}
