"""A training loop of the user's own on two pods: it saves, loses a pod, and goes on where it was."""

import re

from e2e.scenarios import specs
from e2e.scenarios.space import Space
from e2e.scenarios.waiting import eventually
from e2e.support.resources import Object, is_ready, reason

_JOBS = "trainingjobs"
_RESUMED = re.compile(r"process (\d) of 2 begins at step (\d+)")
_LOOP = """
import time, torch
from modelwright import train
with train.session() as session:
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    first = session.resume(model=model, optimizer=optimizer)
    print(f"process {session.rank} of {session.size} begins at step {first}")
    for step in range(first, TOTAL):
        loss = (model(torch.ones(8, 4)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(0.1)
        session.report(step, loss=loss, total_steps=TOTAL, doubled=2 * loss)
        session.checkpoint(step, model=model, optimizer=optimizer)
"""


def _loop(name: str, *, steps: int, replicas: int) -> Object:
    job = specs.command(name, _LOOP.replace("TOTAL", str(steps)), replicas=replicas)
    return specs.changed(job, checkpoint={"everySteps": 10}, failurePolicy={"backoffSeconds": 0})


def _saved(job: Object) -> bool:
    return reason(job) == "Training" and job["status"].get("checkpoint", {}).get("step", 0) > 0


def test_a_loop_that_loses_a_pod_goes_on_from_its_checkpoint(space: Space) -> None:
    space.apply(_loop("loop", steps=200, replicas=2))
    first = space.journal.wait(_JOBS, "loop", _saved, timeout=180)
    progress = first["status"]["progress"]
    assert progress["totalSteps"] == 200
    assert progress["loss"] > 0
    assert [entry["name"] for entry in progress["metrics"]] == ["doubled"]
    _, worker = space.gang(first)
    space.delete("pod", worker, "--force", "--grace-period=0")

    done = space.journal.wait(_JOBS, "loop", is_ready, timeout=240)
    lost, last = done["status"]["attempts"]
    # The peer may see the broken connection before anybody sees that the pod is gone.
    assert lost["reason"] in ("PodDeleted", "PeerLost")
    assert last["reason"] == "Completed"
    assert last["resumedFromStep"] >= first["status"]["checkpoint"]["step"]
    assert done["status"]["progress"]["step"] == 200
    assert done["status"]["checkpoint"]["step"] > last["resumedFromStep"]
    begun = [_RESUMED.search(space.log(pod)) for pod in space.gang(done)]
    assert [found and int(found[2]) for found in begun] == [last["resumedFromStep"]] * 2


def test_a_loop_that_is_suspended_saves_the_step_it_is_at(space: Space) -> None:
    space.apply(
        specs.changed(_loop("held", steps=400, replicas=1), checkpoint={"everySteps": 10_000, "everySeconds": 5})
    )
    saved = space.journal.wait(_JOBS, "held", _saved, timeout=180)
    space.patch("trainingjob", "held", {"spec": {"suspend": True}})
    space.journal.wait(_JOBS, "held", lambda job: reason(job) == "Suspended", timeout=60)
    eventually(lambda: not space.pods(saved), "pods of a suspended job are still there")

    space.patch("trainingjob", "held", {"spec": {"suspend": False}})

    def resumed(job: Object) -> bool:
        return "resumedFromStep" in job["status"]["attempts"][-1]

    again = space.journal.wait(_JOBS, "held", resumed, timeout=180)
    (attempt,) = again["status"]["attempts"]
    assert attempt["resumedFromStep"] > saved["status"]["checkpoint"]["step"]
    assert again["status"].get("restarts", 0) == 0
