"""The time of a process, by what it was at."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.runtime.train.phases import Phase, Phases, age_of_process

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def phases(clock: Clock, age: float = 0.0) -> Phases:
    return Phases(clock, age, lambda: NOON)


def test_starting_begins_with_the_process_and_not_with_the_first_line_of_python() -> None:
    clock = Clock()
    kept = phases(clock, age=7.5)
    clock.now += 2
    kept.enter(Phase.TRAINING)
    assert kept.spent().starting == 9.5
    assert kept.spent().since == "2026-11-23T11:59:52Z"


def test_the_log_tells_of_the_first_step_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    kept = phases(clock, age=7.5)
    with caplog.at_level("INFO"):
        for phase in (Phase.TRAINING, Phase.TRAINING, Phase.EVALUATING):
            kept.enter(phase)
            with kept.standing_still():
                clock.now += 2
    assert caplog.messages == ["the first step was made 7.5 s after the process began"]


def test_a_checkpoint_interrupts_training_and_training_goes_on() -> None:
    clock = Clock()
    kept = phases(clock)
    kept.enter(Phase.TRAINING)
    clock.now += 10
    with kept.standing_still():
        clock.now += 3
    clock.now += 5
    spent = kept.spent()
    assert (spent.training, spent.saving) == (15, 3)


@given(st.lists(st.tuples(st.sampled_from(Phase), st.floats(0, 1e4))), st.floats(0, 1e4))
def test_the_phases_add_up_to_the_age_of_the_process(way: list[tuple[Phase, float]], age: float) -> None:
    clock = Clock()
    kept = phases(clock, age)
    for phase, seconds in way:
        kept.enter(phase)
        clock.now += seconds
    spent = kept.spent()
    total = spent.starting + spent.training + spent.saving + spent.evaluating
    assert total == pytest.approx(age + clock.now - 100, abs=0.01)


def test_the_age_of_a_process_is_known_to_the_system() -> None:
    program = "import time; time.sleep(0.5); from modelwright.runtime.train.phases import *; print(age_of_process())"
    begun = time.monotonic()
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert 0.5 <= float(told.stdout) <= time.monotonic() - begun + 0.1


def test_a_program_may_be_called_anything(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    started = 90 * os.sysconf("SC_CLK_TCK")
    fields = " ".join(["S", *["0"] * 18, str(started), "0"])
    (tmp_path / "self/stat").write_text(f"17 (python) 3 4) {fields}\n")
    (tmp_path / "uptime").write_text("100.25 12.0\n")
    assert age_of_process(tmp_path) == 10.25


def test_where_the_system_does_not_tell_a_process_is_young(tmp_path: Path) -> None:
    assert age_of_process(tmp_path) == 0
