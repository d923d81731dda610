"""TrainingJob: from rows on S3 to a registered version, through what happens to pods on the way."""

import hashlib
import re

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.stages import saved, under_way
from e2e.scenarios.waiting import eventually
from e2e.support.models import Models
from e2e.support.resources import Object, is_ready, reason

_JOBS = "trainingjobs"
_SECONDS = 10
"""How long jobs train that are interrupted: time for a checkpoint, for the interruption, and as much to spare."""
_STAGES = ["Starting", "Training", "Evaluating", "Succeeded"]
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
    # A status is written every three seconds at most, in which this job may train to its end.
    assert {"Starting", "Succeeded"} <= set(went)
    printed = gang.printed("tj", "flights")
    assert (printed["STATUS"], printed["MODEL"], printed["VERSION"]) == ("Succeeded", specs.MODEL, "1")
    gang.await_event("flights", "Normal", "Succeeded")
    assert {pod["status"]["phase"] for pod in gang.pods(champion)} == {"Succeeded"}


def test_a_lost_pod_costs_an_attempt_and_training_resumes(space: Space, data: Data, models: Models, pace: Pace) -> None:
    steps = pace.steps(_SECONDS)
    space.apply(specs.network("lost", data.winter, "lost", replicas=2, steps=steps))
    before = space.journal.wait(_JOBS, "lost", saved, timeout=120)
    _, worker = space.gang(before)
    space.delete("pod", worker, "--force", "--grace-period=0")

    done = space.journal.wait(_JOBS, "lost", is_ready, timeout=180)
    lost, last = done["status"]["attempts"]
    # What is killed may be outrun by the peer that it leaves behind.
    assert lost["reason"] in ("PodDeleted", "PeerLost")
    assert last["reason"] == "Completed"
    assert last["resumedFromStep"] >= before["status"]["checkpoint"]["step"]
    assert done["status"]["restarts"] == 1
    assert space.journal.reasons(_JOBS, "lost").count("Restarting") == 1
    told = [
        entry.object["status"].get("progress", {}).get("step") for entry in space.journal.entries(_JOBS, "lost")[1:]
    ]
    assert len({step for step in told if step}) > 2, "progress was not seen while it ran"
    assert models.numbers_taken("lost") == [1]


def test_a_suspended_job_saves_frees_its_pods_and_goes_on_where_it_was(
    space: Space, data: Data, models: Models, pace: Pace
) -> None:
    job = specs.network("paused", data.winter, "paused", replicas=2, steps=pace.steps(_SECONDS))
    space.apply(specs.changed(job, checkpoint={"everySeconds": _NEVER}))
    before = space.journal.wait(_JOBS, "paused", under_way, timeout=120)
    space.patch("trainingjob", "paused", {"spec": {"suspend": True}})
    space.journal.wait(_JOBS, "paused", lambda job: reason(job) == "Suspended", timeout=60)
    eventually(lambda: not space.pods(before), "pods of a suspended job are still there")

    space.patch("trainingjob", "paused", {"spec": {"suspend": False}})
    done = space.journal.wait(_JOBS, "paused", is_ready, timeout=120)
    (attempt,) = done["status"]["attempts"]
    assert attempt["resumedFromStep"] >= before["status"]["progress"]["step"]
    assert done["status"]["restarts"] == 0
    assert models.numbers_taken("paused") == [1]


def test_a_program_of_the_users_own_runs_under_torchrun(space: Space) -> None:
    space.apply(specs.command("all-reduce", _ALL_REDUCE, replicas=2))
    job = space.journal.wait(_JOBS, "all-reduce", is_ready, timeout=120)
    for worker in space.gang(job):
        assert "sum over 2 pods: 3.0" in space.log(worker)
