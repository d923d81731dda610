"""A Ray gang of which a pod is asked to leave: nothing but that makes it save."""

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.support.resources import Object, is_ready, reason

_JOBS, _NAME = "trainingjobs", "drained"
_NEVER = 86400
_TRAINING_SECONDS = 30


def _under_way(job: Object) -> bool:
    return reason(job) == "Training" and job["status"].get("progress", {}).get("step", 0) > 0


def test_a_pod_of_ray_that_is_asked_to_leave_saves_first(space: Space, data: Data, pace: Pace) -> None:
    job = specs.network(_NAME, data.winter, _NAME, replicas=2, steps=pace.steps(_TRAINING_SECONDS))
    space.apply(specs.changed(job, framework="Ray", checkpoint={"everySeconds": _NEVER}))
    first = space.journal.wait(_JOBS, _NAME, _under_way, timeout=300)
    _, worker = space.gang(first)
    space.delete("pod", worker, "--wait=false")

    done = space.journal.wait(_JOBS, _NAME, is_ready, timeout=400)
    lost, last = done["status"]["attempts"]
    assert last["resumedFromStep"] >= first["status"]["progress"]["step"]
    assert lost["lostSteps"] == 0
    assert last["reason"] == "Completed"
