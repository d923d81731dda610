"""When a checkpoint is due."""

from typing import Any

import pytest

from modelwright.api.checkpoint import Checkpoint
from modelwright.runtime.train.schedule import Schedule


class Watch:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def saved_at(spec: dict[str, Any], steps: int, *, first: int = 0, seconds_per_step: float = 1.0) -> list[int]:
    """Return the steps after which a loop that saves whenever it is due saves."""
    watch = Watch()
    schedule = Schedule(Checkpoint.model_validate(spec), first, watch)
    found = []
    for step in range(first + 1, first + steps + 1):
        watch.seconds += seconds_per_step
        if schedule.due(step):
            found.append(step)
            schedule.saved(step)
    return found


@pytest.mark.parametrize(
    ("spec", "steps"),
    [
        ({}, [30, 60]),
        ({"everySeconds": 25}, [25, 50, 75]),
        ({"everySteps": 20}, [20, 40, 60, 80]),
        ({"everySteps": 40, "everySeconds": 30}, [30, 40, 70, 80]),
    ],
)
def test_by_time_by_steps_or_whatever_comes_first(spec: dict[str, Any], steps: list[int]) -> None:
    assert saved_at(spec, 80) == steps


def test_a_resumed_loop_keeps_to_the_multiples() -> None:
    assert saved_at({"everySteps": 20}, 30, first=33) == [40, 60]


def test_one_that_had_to_wait_is_still_due() -> None:
    schedule = Schedule(Checkpoint(every_steps=10), 0, Watch())
    assert [schedule.due(step) for step in (9, 10, 13)] == [False, True, True]
    schedule.saved(13)
    assert [schedule.due(step) for step in (13, 19, 20)] == [False, False, True]
