"""A training loop of the user's own on two pods: it saves when a pod has to leave, and goes on where it was."""

import re

from e2e.scenarios import specs
from e2e.scenarios.space import Space
from e2e.scenarios.stages import under_way
from e2e.support.resources import is_ready

_JOBS = "trainingjobs"
_STEPS, _NEVER = 200, 10_000
_RESUMED = re.compile(r"process (\d) of 2 begins at step (\d+)")
_LOOP = """
import os, time, torch
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
        if step == FATAL and session.rank == 1 and first == 0:
            os.kill(os.getpid(), 9)
        session.report(step, loss=loss, total_steps=TOTAL, doubled=2 * loss)
        session.checkpoint(step, model=model, optimizer=optimizer)
"""


def _loop(steps: int, fatal: int = -1) -> str:
    """Return a program of so many steps, of which one is fatal to rank 1 the first time."""
    return _LOOP.replace("TOTAL", str(steps)).replace("FATAL", str(fatal))


def test_a_loop_whose_pod_is_asked_to_leave_saves_and_goes_on_where_it_was(space: Space) -> None:
    job = specs.command("loop", _loop(_STEPS), replicas=2)
    space.apply(specs.changed(job, checkpoint={"everySteps": _NEVER}, failurePolicy={"backoffSeconds": 0}))
    before = space.journal.wait(_JOBS, "loop", under_way, timeout=240)
    progress = before["status"]["progress"]
    assert progress["totalSteps"] == _STEPS
    assert progress["loss"] > 0
    assert [entry["name"] for entry in progress["metrics"]] == ["doubled"]
    _, worker = space.gang(before)
    space.delete("pod", worker, "--wait=false")

    done = space.journal.wait(_JOBS, "loop", is_ready, timeout=240)
    left, last = done["status"]["attempts"]
    assert left["lostSteps"] == 0, "both processes saved the step that they were at"
    assert last["reason"] == "Completed"
    assert last["resumedFromStep"] > progress["step"]
    assert done["status"]["progress"]["step"] == _STEPS
    begun = [_RESUMED.search(space.log(pod)) for pod in space.gang(done)]
    assert [found and int(found[2]) for found in begun] == [last["resumedFromStep"]] * 2


def test_a_loop_whose_process_is_killed_starts_again_in_its_pods_where_that_is_wanted(space: Space) -> None:
    job = specs.command("loop-again", _loop(60, fatal=30), replicas=2)
    space.apply(specs.changed(job, checkpoint={"everySteps": 10}, failurePolicy={"processRestarts": 1}))

    done = space.journal.wait(_JOBS, "loop-again", is_ready, timeout=240)
    (attempt,) = done["status"]["attempts"]
    assert (attempt["number"], attempt["reason"]) == (1, "Completed")
    for pod in space.gang(done):
        steps = [int(found[2]) for found in _RESUMED.finditer(space.log(pod))]
        assert steps[0] == 0
        assert steps[1] in (10, 20, 30)
