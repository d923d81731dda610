"""A start, cut into phases."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from e2e.bench.phases import PHASES, Start, start_of
from e2e.bench.steps import Line
from e2e.bench.watching import State, line_of

OWNERS = [State(100.0, {"metadata": {"name": "a"}})]


def pod(uid: str, node: str = "", *, running: bool = False) -> dict[str, Any]:
    statuses = [{"state": {"running": {}} if running else {"waiting": {}}}]
    return {"metadata": {"uid": uid}, "spec": {"nodeName": node}, "status": {"containerStatuses": statuses}}


JOBS = [State(100.2, {"spec": {"suspend": True}}), State(100.5, {"spec": {}}), State(101.0, {"spec": {}})]
PODS = [
    State(100.7, pod("x")),
    State(100.8, pod("y")),
    State(101.0, pod("x", "node")),
    State(101.5, pod("y", "node")),
    State(102.0, pod("x", "node", running=True)),
    State(104.0, pod("y", "node", running=True)),
    State(109.0, pod("y", "node", running=True)),
]
LINES = [
    Line(110.0, "x", "INFO run ns/a, attempt 1"),
    Line(111.0, "x", "INFO process 1 of 2"),
    Line(112.0, "x", "INFO read 6000 rows and 14 columns from s3://bucket/rows.parquet"),
]


def test_each_phase_ends_when_the_last_pod_is_there() -> None:
    start = start_of(OWNERS, JOBS, PODS, LINES, 115.0)
    ends = [100.5, 100.8, 101.5, 104.0, 110.0, 111.0, 112.0, 115.0]
    assert dict(start.ends) == dict(zip(PHASES, ends, strict=True))
    assert start.total == 15.0


def test_the_script_of_the_peer_has_the_same_phases() -> None:
    told = ("bench began", "bench imported", "bench joined", "bench read 3000 rows", "bench step 1")
    lines = [Line(105.0 + index, "x", text) for index, text in enumerate(told)]
    start = start_of(OWNERS, JOBS, PODS, lines, 109.0)
    assert [start.ends[phase] for phase in ("imports", "rendezvous", "data", "step")] == [106.0, 107.0, 108.0, 109.0]


def test_what_was_not_seen_is_part_of_the_next_phase() -> None:
    start = start_of(OWNERS, [], PODS, [], 115.0)
    assert list(start.seconds) == ["pods", "scheduled", "running", "step"]
    assert start.seconds["step"] == 11.0


def test_what_came_after_the_first_step_belongs_to_no_start() -> None:
    again = [State(140.0, pod("z", "node", running=True))]
    assert start_of(OWNERS, JOBS, [*PODS[:4], *again], LINES, 115.0).total == 15.0


@given(st.floats(0, 1e6), st.dictionaries(st.sampled_from([*PHASES]), st.floats(0, 1e3)))
def test_the_phases_add_up_to_the_whole_in_whatever_order_they_were_heard(
    created: float, after: dict[str, float]
) -> None:
    ends = {phase: created + seconds for phase, seconds in after.items()}
    ends["step"] = max([created, *ends.values()])
    start = Start(created, ends)
    assert abs(sum(start.seconds.values()) - start.total) < 1e-3
    assert all(seconds >= 0 for seconds in start.seconds.values())


def test_a_stamped_line_of_a_log_is_read() -> None:
    line = line_of("pod", "2026-11-23T14:20:38.123456789Z bench step 3\n")
    assert line is not None
    assert (line.pod, line.text) == ("pod", "bench step 3")
    assert abs(line.at % 60 - 38.123456) < 1e-3
    assert line_of("pod", "failed to try resolving symlinks\n") is None
