"""The same TrainingJob under Ray, whose pods are one gang, of which one is the head; and a loop of one's own there."""

import re

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.stages import has_started_again, saved, under_way
from e2e.scenarios.workers import signal_worker
from e2e.support.models import Models
from e2e.support.resources import is_ready

pytestmark = pytest.mark.long

_JOBS = "trainingjobs"
_SECONDS = 17
"""How long the job trains: time for a checkpoint, for the losses of a process and of the head, and as much to spare."""
_ONE_OF_TWO = re.compile(r"process \d of 2\b")
_STEPS, _NEVER = 200, 10_000
_LOOP = """
import os, time, ray, torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from modelwright import train

def learn():
    with train.session() as session:
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
        first = session.resume(model=model)
        print(f"process {session.rank} of {session.size} begins at step {first}")
        for step in range(first, TOTAL):
            time.sleep(0.1)
            session.report(step, loss=model(torch.ones(8, 4)).mean(), total_steps=TOTAL)
            session.checkpoint(step, model=model)

scaling = ScalingConfig(num_workers=int(os.environ["MODELWRIGHT_RAY_NUM_WORKERS"]), resources_per_worker={"CPU": 0.5})
ray.init(address="auto")
TorchTrainer(learn, scaling_config=scaling, run_config=RunConfig(storage_path="/tmp/ray-train")).fit()
"""


def test_the_same_spec_trains_on_ray_where_a_killed_process_costs_nothing_and_a_killed_head_an_attempt(
    space: Space, data: Data, models: Models, pace: Pace
) -> None:
    job = specs.network("on-ray", data.winter, "on-ray", replicas=2, steps=pace.steps(_SECONDS))
    space.apply(specs.changed(job, framework="Ray"))
    before = space.journal.wait(_JOBS, "on-ray", saved, timeout=300)
    head, worker = space.gang(before)
    signal_worker(space, worker, "SIGKILL")
    before = space.journal.wait(_JOBS, "on-ray", has_started_again, timeout=120)
    assert space.gang(before) == [head, worker]
    space.delete("pod", head, "--force", "--grace-period=0")

    done = space.journal.wait(_JOBS, "on-ray", is_ready, timeout=400)
    lost, last = done["status"]["attempts"]
    assert lost["reason"] in ("PodDeleted", "PeerLost")
    assert lost["processRestarts"] == 1
    assert last["resumedFromStep"] >= before["status"]["checkpoint"]["step"]
    assert {pod["status"]["phase"] for pod in space.pods(done)} & {"Running", "Pending"} == set()
    assert models.versions("on-ray") == [1]
    # The driver's log has the workers' lines; like ones of other workers it only counts.
    driver, *_ = space.gang(done)
    assert _ONE_OF_TWO.search(space.log(driver))


def test_a_loop_under_ray_train_saves_when_a_pod_is_asked_to_leave_and_goes_on_where_it_was(space: Space) -> None:
    job = specs.command("ray-loop", _LOOP.replace("TOTAL", str(_STEPS)), replicas=2, framework="Ray")
    policy = {"checkpoint": {"everySteps": _NEVER}, "failurePolicy": {"backoffSeconds": 0}}
    space.apply(specs.changed(job, ray={"numWorkers": 2}, **policy))
    before = space.journal.wait(_JOBS, "ray-loop", under_way, timeout=300)
    _, worker = space.gang(before)
    space.delete("pod", worker, "--wait=false")

    done = space.journal.wait(_JOBS, "ray-loop", is_ready, timeout=300)
    left, last = done["status"]["attempts"]
    assert left["lostSteps"] == 0, "both processes saved the step that they were at"
    assert last["resumedFromStep"] > before["status"]["progress"]["step"]
    assert done["status"]["progress"]["step"] == _STEPS
