"""Whatever happens in whatever order, retrainings stay within their budget and the status comes to rest."""

from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.api.driftpolicy import IncidentOutcome
from modelwright.plan.times import parse
from tests.unit.plan.drift_world import MOVED, STILL, TEMPLATE, World, alert

COOLDOWN, PER_DAY = 900, 3
EVENTS = st.one_of(
    st.tuples(st.just("alert"), st.integers(1, 9)),
    st.tuples(st.just("alert and crash"), st.integers(1, 9)),
    st.tuples(st.just("wait"), st.sampled_from([1, 60, 1800, 3600, 30_000])),
    st.tuples(st.just("finish"), st.sampled_from(["Promoted", "NotBetter", "fail", "delete"])),
    st.tuples(st.just("traffic"), st.booleans()),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("cache lags"), st.booleans()),
)


def happen(world: World, what: str, value: object) -> None:
    """Let one thing happen, and the operator look."""
    if what == "finish":
        finish(world, str(value))
    match what, value:
        case "wait", int(seconds):
            world.forward(seconds)
        case "traffic", bool(moved):
            world.traffic(MOVED if moved else STILL)
        case "cache lags", bool(lags):
            # What status knows of may be late in the cache; a fresh process lists everything before it plans.
            world.hidden_jobs = {entry.training_job or "" for entry in world.status.incidents} if lags else set()
        case "crash", _:
            world.hidden_jobs = set()
            world.look(write=False)
        case "alert and crash", int(number):
            world.hidden_jobs = set()
            world.look(alert(f"f{number}"), write=False)
    world.look(*([alert(f"f{value}")] if what.startswith("alert") else []))


def finish(world: World, how: str) -> None:
    """End the retraining that runs, or let somebody delete it."""
    for name in [name for name, job in world.jobs.items() if "status" not in job]:
        if how == "delete":
            del world.jobs[name]
        elif how == "fail":
            world.fail(name, "Failed", "it broke")
        else:
            world.finish(name, how)


def created(world: World) -> list[datetime]:
    return [parse(job["metadata"]["creationTimestamp"]) for job in world.created]


@given(events=st.lists(EVENTS, min_size=20, max_size=50))
@settings(max_examples=100, deadline=None)
def test_budgets_hold_and_the_status_comes_to_rest(events: list[tuple[str, object]]) -> None:
    retraining = {"template": TEMPLATE, "cooldownSeconds": COOLDOWN, "maxPerDay": PER_DAY}
    world = World(retraining=retraining, test={"intervalSeconds": 60, "consecutive": 2})
    world.traffic(STILL)
    for what, value in events:
        happen(world, what, value)
        assert sum("status" not in job for job in world.jobs.values()) <= 1, "two retrainings at once"

    starts = created(world)
    assert all(later - earlier >= timedelta(seconds=COOLDOWN) for earlier, later in pairwise(starts))
    for start in starts:
        assert sum(start <= other < start + timedelta(days=1) for other in starts) <= PER_DAY
    names = [job["metadata"]["name"] for job in world.created]
    assert len(set(names)) == len(names), "an incident got two jobs"

    world.hidden_jobs = set()
    happen(world, "finish", "NotBetter")
    world.look()
    assert IncidentOutcome.RETRAINING not in {entry.outcome for entry in world.status.incidents}
    writes = world.status_writes
    assert world.look().actions == ()
    assert world.status_writes == writes
