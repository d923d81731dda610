"""The preflight of two real processes: both pass, or the one that does not come is named."""

import os
import time
from typing import Any

import pytest

from modelwright.api.run import Run
from modelwright.runtime.failure import RunError, explain
from modelwright.runtime.train import agentstore, preflight
from modelwright.runtime.train.stop import Stop
from modelwright.runtime.train.world import World, joined
from tests.integration.runtime_train import members
from tests.unit.registry.fake_s3 import FakeS3, memory_store
from tests.unit.runtime_train.runs import run_of


@pytest.mark.parametrize("late", [False, True])
def test_two_processes_pass_or_name_the_one_that_does_not_come(late: bool) -> None:
    answers = members.answers(_member, 2, late)
    if not late:
        assert [said for said, _ in answers] == ["passed", "passed"]
        assert max(seconds for _, seconds in answers) < 5, "it must cost next to nothing beside importing torch"
        return
    said, seconds = answers[0]
    assert seconds >= 5
    assert said == {
        "reason": "PreflightFailed",
        "message": "worker 1 on node node-1: not ready 5 s after worker 0 on node node-0",
        "retryable": True,
        "failureClass": "Infrastructure",
        "node": "node-1",
    }


def _member(late: bool) -> tuple[Any, float]:
    rank = int(os.environ["RANK"])
    os.environ |= {"JOB_COMPLETION_INDEX": str(rank), "MODELWRIGHT_NODE": f"node-{rank}"}
    run = run_of(preflight={"timeoutSeconds": 5})
    with joined() as world:
        if late and rank == 1:
            # As one whose GPU hangs: it has begun, and does not get ready.
            _begin_only(run, world)
        world.sum([1.0])
        begun = time.monotonic()
        if late and rank == 1:
            return None, 0.0
        try:
            preflight.check(run, world, memory_store(FakeS3()), Stop())
        except RunError as error:
            return explain(error).document(), time.monotonic() - begun
        return "passed", time.monotonic() - begun


def _begin_only(run: Run, world: World) -> None:
    def hang() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        preflight.RollCall(world, preflight._round(run, world), agentstore.connect()).answer(hang, 5, Stop())
