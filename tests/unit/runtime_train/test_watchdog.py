"""When a process counts as hung, with a clock that stands where it is put, and with processes that really hang."""

import subprocess
import sys
import textwrap
import threading

import pytest

from modelwright.runtime.watchdog import Patience, Standstill, Watchdog


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time

    def hung_after(self, watchdog: Watchdog, seconds: float) -> Standstill | None:
        """Return what is found when so much time has passed; the clock goes back then."""
        self.time += seconds
        try:
            return watchdog.look()
        finally:
            self.time -= seconds


def stepped(clock: Clock, seconds: list[float], timeout: float | None = None) -> Watchdog:
    """Return a watchdog that has seen a first step, and then steps of such lengths."""
    watchdog = Watchdog(Patience(timeout), now=clock)
    watchdog.beat(1)
    for number, length in enumerate(seconds, 2):
        clock.time += length
        watchdog.beat(number)
    return watchdog


def test_no_step_within_the_timeout_is_a_hang() -> None:
    clock = Clock()
    watchdog = stepped(clock, [1.0], timeout=15)
    assert clock.hung_after(watchdog, 15) is None
    assert clock.hung_after(watchdog, 15.5) == Standstill(15.5, 2)


def test_before_the_first_step_an_hour_is_allowed() -> None:
    clock = Clock()
    watchdog = Watchdog(Patience(15), now=clock)
    assert clock.hung_after(watchdog, 3600) is None
    assert clock.hung_after(watchdog, 3601) == Standstill(3601, None)
    assert clock.hung_after(Watchdog(Patience(3000), now=clock), 6000) is None
    assert clock.hung_after(Watchdog(Patience(15, extra=240), now=clock), 3840) is None


@pytest.mark.parametrize(
    ("seconds", "limit"),
    [([0.01] * 20, 300), ([30.0] * 20, 600), ([0.1] * 4 + [40.0], 800), ([9000.0] * 5, 86400)],
)
def test_unset_the_timeout_follows_from_the_slowest_step(seconds: list[float], limit: float) -> None:
    clock = Clock()
    watchdog = stepped(clock, seconds)
    assert clock.hung_after(watchdog, limit) is None
    assert clock.hung_after(watchdog, limit + 1) is not None


def test_of_few_steps_nothing_is_learnt() -> None:
    clock = Clock()
    watchdog = stepped(clock, [400.0] * 4)
    assert clock.hung_after(watchdog, 3600) is None


def test_a_slow_step_of_long_ago_is_forgotten() -> None:
    patience = Patience()
    for seconds in [100.0, *[1.0] * 1000]:
        patience.learn(seconds)
    assert patience.limit == 300


def test_what_is_no_step_has_time_and_is_not_learnt_from() -> None:
    clock = Clock()
    watchdog = stepped(clock, [1.0] * 5)
    with watchdog.quiet():
        assert clock.hung_after(watchdog, 3600) is None
        clock.time += 2000
    assert clock.hung_after(watchdog, 299) is None
    assert clock.hung_after(watchdog, 301) is not None
    clock.time += 1
    watchdog.beat(7)
    assert clock.hung_after(watchdog, 301) is not None


def test_a_machine_that_stood_still_as_a_whole_has_not_hung() -> None:
    clock = Clock()
    watchdog = stepped(clock, [1.0], timeout=15)
    clock.time += 500
    assert watchdog.look(gap=499) is None
    assert clock.hung_after(watchdog, 16) is not None


def test_who_is_not_started_does_nothing() -> None:
    watchdog = Watchdog()
    before = threading.active_count()
    watchdog.beat(1)
    watchdog.close()
    assert threading.active_count() == before


def run(body: str) -> "subprocess.CompletedProcess[str]":
    """Run a program whose watchdog ends it with code 7, and its backstop, a second later, with code 1."""
    prelude = """
        import ctypes, os, time
        from modelwright.runtime import watchdog
        watchdog._TICK_SECONDS = 0.05
        watchdog._ARM_SECONDS = 0.2
        watchdog._GRACE_SECONDS = 1.0
        def bark(found):
            print(found, flush=True)
            os._exit(7)
        watched = watchdog.Watchdog(watchdog.Patience(0.5), bark)
        watched.start()
        def step(seconds):
            time.sleep(seconds)
            watched.beat(1)
    """
    program = textwrap.dedent(prelude) + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)


def test_a_process_that_sleeps_is_found() -> None:
    done = run("step(0); time.sleep(30)")
    assert done.returncode == 7
    assert "step=1" in done.stdout


def test_a_process_that_is_slow_before_its_first_step_and_ends_well_is_left_alone() -> None:
    done = run("step(1.2)\nfor _ in range(10): step(0.1)\nwatched.close()\ntime.sleep(1)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_code_that_holds_the_interpreter_is_ended_with_its_stacks() -> None:
    done = run("def stuck():\n    ctypes.PyDLL(None).sleep(30)\nstep(0)\ntime.sleep(0.3)\nstuck()")
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout (0:00:01.5")
    assert "in stuck" in done.stderr
