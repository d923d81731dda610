"""TrainingJob: from rows on S3 to a registered version, through what happens to pods on the way."""

import hashlib
import re
import time

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.waiting import eventually
from e2e.support.models import Models
from e2e.support.resources import Object, condition, is_ready, reason

_JOBS = "trainingjobs"
_INTERRUPTED_SECONDS, _SUSPENDED_SECONDS, _ON_RAY_SECONDS = 7, 7, 15
"""How long jobs train that are interrupted: time for a checkpoint, for the interruption, and as much to spare."""
_STAGES = ["Starting", "Training", "Evaluating", "Succeeded"]
_QUIET_SECONDS = 10
_NEVER = 86400
_ONE_OF_TWO = re.compile(r"process \d of 2\b")
_FILES = {"model.onnx", "weights.safetensors", "signature.json", "metrics.json", "reference.json", "lineage.json"}
_ALL_REDUCE = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
print("sum over", dist.get_world_size(), "pods:", total.item())
dist.destroy_process_group()
"""


def _saved(job: Object) -> bool:
    return reason(job) == "Training" and job["status"].get("checkpoint", {}).get("step", 0) > 0


def _under_way(job: Object) -> bool:
    return reason(job) == "Training" and job["status"].get("progress", {}).get("step", 0) > 0


def _ended(job: Object) -> bool:
    return condition(job, "Succeeded").get("status") in ("True", "False")


def test_two_pods_turn_rows_on_s3_into_a_registered_version(
    gang: Space, champion: Object, models: Models, data: Data
) -> None:
    status = champion["status"]
    assert status["model"] == {"name": specs.MODEL, "version": 1, "uri": models.uri(specs.MODEL, 1)}
    assert status["restarts"] == 0
    assert {entry["name"] for entry in status["metrics"]} >= {"accuracy", "roc_auc"}
    assert status["promotion"]["outcome"] == "Promoted"
    assert models.holder(specs.MODEL) == 1

    manifest = models.manifest(specs.MODEL, 1)
    assert set(manifest.files) >= _FILES | {"card.html"}
    for name, described in manifest.files.items():
        assert hashlib.sha256(models.file(specs.MODEL, 1, name)).hexdigest() == described.sha256, name
    lineage = models.lineage(specs.MODEL, 1)
    assert (lineage.job, lineage.job_uid) == ("e2e-gang/flights", champion["metadata"]["uid"])
    assert lineage.dataset.uri == data.winter
    assert b"<html" in models.file(specs.MODEL, 1, "card.html")


def test_both_pods_train_as_one(gang: Space, champion: Object) -> None:
    logs = [gang.log(worker) for worker in gang.gang(champion)]
    assert len(logs) == 2
    assert all(_ONE_OF_TWO.search(log) for log in logs), logs


def test_a_job_is_followed_with_kubectl_alone(gang: Space, champion: Object) -> None:
    went = [word for word in gang.journal.reasons(_JOBS, "flights") if word in _STAGES]
    assert went == [word for word in _STAGES if word in went]
    assert {"Starting", "Training", "Succeeded"} <= set(went)
    steps = [
        entry.object["status"].get("progress", {}).get("step") for entry in gang.journal.entries(_JOBS, "flights")[1:]
    ]
    assert len({step for step in steps if step}) > 1, "progress was not seen while it ran"
    printed = gang.printed("tj", "flights")
    assert (printed["STATUS"], printed["MODEL"], printed["VERSION"]) == ("Succeeded", specs.MODEL, "1")
    assert ("Normal", "Succeeded") in [entry[:2] for entry in gang.events("flights")]
    assert {pod["status"]["phase"] for pod in gang.pods(champion)} == {"Succeeded"}


def test_a_lost_pod_costs_an_attempt_and_training_resumes(space: Space, data: Data, models: Models, pace: Pace) -> None:
    steps = pace.steps(_INTERRUPTED_SECONDS)
    space.apply(specs.network("lost", data.winter, "lost", replicas=2, steps=steps))
    saved = space.journal.wait(_JOBS, "lost", _saved, timeout=120)
    _, worker = space.gang(saved)
    space.delete("pod", worker, "--force", "--grace-period=0")

    done = space.journal.wait(_JOBS, "lost", is_ready, timeout=180)
    lost, last = done["status"]["attempts"]
    # What is killed may be outrun by the peer that it leaves behind.
    assert lost["reason"] in ("PodDeleted", "PeerLost")
    assert last["reason"] == "Completed"
    assert last["resumedFromStep"] >= saved["status"]["checkpoint"]["step"]
    assert done["status"]["restarts"] == 1
    assert space.journal.reasons(_JOBS, "lost").count("Restarting") == 1
    assert models.numbers_taken("lost") == [1]


def test_a_suspended_job_frees_its_pods_and_goes_on_from_its_checkpoint(
    space: Space, data: Data, models: Models, pace: Pace
) -> None:
    steps = pace.steps(_SUSPENDED_SECONDS)
    space.apply(specs.network("paused", data.winter, "paused", replicas=1, steps=steps))
    saved = space.journal.wait(_JOBS, "paused", _saved, timeout=120)
    space.patch("trainingjob", "paused", {"spec": {"suspend": True}})
    space.journal.wait(_JOBS, "paused", lambda job: reason(job) == "Suspended", timeout=60)
    eventually(lambda: not space.pods(saved), "pods of a suspended job are still there")

    space.patch("trainingjob", "paused", {"spec": {"suspend": False}})
    done = space.journal.wait(_JOBS, "paused", is_ready, timeout=120)
    (attempt,) = done["status"]["attempts"]
    assert attempt["resumedFromStep"] >= saved["status"]["checkpoint"]["step"]
    assert done["status"]["restarts"] == 0
    assert models.numbers_taken("paused") == [1]


@pytest.fixture(scope="module")
def troubled(space: Space, data: Data) -> None:
    """Jobs that are wrong or wait for somebody, all at once."""
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
    )


@pytest.fixture(scope="module")
def on_ray(space: Space, data: Data, pace: Pace) -> None:
    """A job of two pods under Ray, which take long to start: others are looked at meanwhile. It saves when asked."""
    job = specs.network("on-ray", data.winter, "on-ray", replicas=2, steps=pace.steps(_ON_RAY_SECONDS))
    space.apply(specs.changed(job, framework="Ray", checkpoint={"everySeconds": _NEVER}))


@pytest.fixture(scope="module")
def keys(space: Space) -> None:
    """The Secret that a job has waited for. It looks once a minute: what takes long is tested meanwhile."""
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
@pytest.mark.usefixtures("troubled")
def test_what_another_attempt_cannot_cure_fails_at_once(
    space: Space, models: Models, name: str, why: str, said: str
) -> None:
    job = space.journal.wait(_JOBS, name, _ended, timeout=180, stop=lambda _: False)
    assert reason(job) == why
    assert said in condition(job, "Ready")["message"]
    assert condition(job, "Stalled")["status"] == "True"
    assert [entry["number"] for entry in job["status"]["attempts"]] == [1]
    assert ("Warning", why) in [entry[:2] for entry in space.events(name)]
    assert models.versions(name) == []


@pytest.mark.usefixtures("troubled")
def test_a_finished_job_is_deleted_in_time_and_its_version_stays(space: Space, models: Models) -> None:
    space.journal.wait_gone(_JOBS, "fleeting", timeout=120)
    last = space.journal.entries(_JOBS, "fleeting")[-1].object
    assert reason(last) == "Succeeded"
    eventually(lambda: not space.children(last), "children of a deleted job are still there")
    assert models.versions("fleeting") == [1]


@pytest.mark.parametrize(
    ("name", "why", "said"),
    [
        ("locked", "SecretNotFound", "kubectl create secret generic my-own-keys"),
        ("unpulled", "ImagePullFailed", "localhost:5000/none:1"),
        ("huge", "Unschedulable", "Insufficient cpu"),
        ("odd", "ChildRejected", "must be less than or equal to cpu limit"),
    ],
)
@pytest.mark.usefixtures("troubled", "on_ray")
def test_what_waits_for_somebody_says_so_and_is_left_in_peace(space: Space, name: str, why: str, said: str) -> None:
    job = space.journal.wait(_JOBS, name, lambda job: reason(job) == why, timeout=60)
    assert said in condition(job, "Ready")["message"]
    assert condition(job, "Succeeded")["status"] == "Unknown"
    eventually(
        lambda: space.journal.entries(_JOBS, name)[-1].at < time.monotonic() - _QUIET_SECONDS,
        "it is written again and again though nothing happens",
    )
    assert reason(space.journal.entries(_JOBS, name)[-1].object) == why


@pytest.mark.usefixtures("on_ray", "keys")
def test_the_same_spec_trains_on_ray_and_saves_when_a_pod_is_asked_to_leave(space: Space, models: Models) -> None:
    under_way = space.journal.wait(_JOBS, "on-ray", _under_way, timeout=300)
    _, worker = space.gang(under_way)
    space.delete("pod", worker, "--wait=false")

    done = space.journal.wait(_JOBS, "on-ray", is_ready, timeout=400)
    lost, last = done["status"]["attempts"]
    assert last["resumedFromStep"] >= under_way["status"]["progress"]["step"]
    assert lost["lostSteps"] == 0
    assert {pod["status"]["phase"] for pod in space.pods(done)} & {"Running", "Pending"} == set()
    assert models.versions("on-ray") == [1]
    # The driver's log has the workers' lines; like ones of other workers it only counts.
    driver, *_ = space.gang(done)
    assert _ONE_OF_TWO.search(space.log(driver))


@pytest.mark.usefixtures("keys")
def test_a_program_of_the_users_own_runs_under_torchrun(space: Space) -> None:
    space.apply(specs.command("all-reduce", _ALL_REDUCE, replicas=2))
    job = space.journal.wait(_JOBS, "all-reduce", is_ready, timeout=120)
    for worker in space.gang(job):
        assert "sum over 2 pods: 3.0" in space.log(worker)


@pytest.mark.usefixtures("troubled", "keys")
def test_a_job_that_waited_for_a_secret_goes_on_when_it_is_there(space: Space, models: Models) -> None:
    space.journal.wait(_JOBS, "locked", is_ready, timeout=150)
    assert models.versions("locked") == [1]


def _needs(cpu: str, *, at_most: str) -> Object:
    return {"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": at_most}}}
