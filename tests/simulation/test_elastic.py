"""An elastic TrainingJob whose room comes and goes, against everything else that a cluster can do to it."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from tests.simulation import chaos
from tests.simulation.chaos import Chaos, Fault, faults
from tests.simulation.one_elastic import ELASTIC, PAUSE, WAIT, Elastic
from tests.simulation.one_owner import (
    FINAL,
    assert_every_failed_write_is_made_good,
    assert_no_crash_changes_anything,
    prepare,
)
from tests.simulation.profile import PROFILE, TIMEOUT
from tests.simulation.world import one_attempt_runs

pytestmark = pytest.mark.timeout(TIMEOUT)

FEWER = settings(PROFILE, max_examples=PROFILE.max_examples // 2)
DEEDS = sorted({*Elastic().deeds()} - {"rival promoted", "less room"})
FREE = frozenset({"less room", "kill", "poke", "suspended", "placeholder gone"})
"""What costs no more than the losses of room, of which there are fewer than restarts."""
ROOM = st.lists(st.builds(Fault, st.integers(2, 60), st.just("less room"), st.integers(5, 80)), min_size=1, max_size=3)


def assert_end(sim: Elastic, storm: Chaos) -> None:
    """Check that a job ended as it had to, that nothing looks for room for it, and that nothing moves any more."""
    ends = {("True", "Succeeded"), ("False", "RestartsExhausted"), ("False", "FailureRepeated")}
    if {*storm.done} <= FREE:
        ends = {("True", "Succeeded")}
    assert sim.ready in ends | ({("False", "DataInvalid")} if FINAL in storm.done else set())
    assert not [job for job in sim.placeholders if "deletionTimestamp" not in job["metadata"]]
    sim.world.assert_steady()


@FEWER
@given(ROOM, faults([*chaos.GENERAL, *DEEDS], steps=100, most=5))
def test_whatever_becomes_of_its_room_it_ends_as_it_must(room: list[Fault], others: list[Fault]) -> None:
    sim, mix = Elastic(slots=3), [*room, *others]
    sim.trainer.total = 60
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds()})
    sim.world.invariants += [sim.the_end_is_final, sim.no_bucket_is_emptied, one_attempt_runs]
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    event(", ".join(sorted({str(reason) for _, reason in sim.sizes})))
    assert len(sim.world.writes) <= 30 + 20 * len(mix)
    assert_end(sim, storm)
    if {*storm.done} <= FREE:
        lost = storm.done.count("less room")
        assert sum(entry["count"] for entry in sim.status.get("failures", ())) <= lost, "only what was lost is charged"


KINDS = ("TrainingJob", "Job", "Pod", "Service")


@FEWER
@given(ROOM, faults([*DEEDS, "kill", "poke", *(f"frozen {kind}" for kind in KINDS)], steps=100, most=5))
def test_watches_that_lag_do_no_harm(room: list[Fault], others: list[Fault]) -> None:
    sim = Elastic(slots=3)
    sim.trainer.total = 60
    lagging = {f"frozen {kind}": chaos.freeze(kind) for kind in KINDS}
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds(), **lagging})
    sim.world.invariants += [sim.the_end_is_final, sim.no_bucket_is_emptied]
    storm.run([*room, *others])
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm)


Scenario = Callable[[Elastic], None]


def that_finds_too_little_room(sim: Elastic) -> None:
    sim.nodes.slots = 2
    sim.world.settle()


def that_loses_a_node_and_gets_it_back(sim: Elastic) -> None:
    sim.until_pods_run()
    sim.nodes.slots = 2
    sim.trainer.fail("evicted", 1)
    sim.until_attempt_runs(3)
    sim.nodes.slots = 3
    sim.world.settle()
    # Attempts 1 and 2 find no room for three; attempt 4 does.
    assert [reason for _, reason in sim.sizes] == ["Evicted", "Shrunk", "Grown", "Completed"]
    assert [workers for workers, _ in sim.sizes] == [3, 3, 2, 3]


def that_pauses_while_it_grows(sim: Elastic) -> None:
    sim.nodes.slots = 1
    sim.until_attempt_runs(2)
    sim.nodes.slots = 3
    sim.until(lambda: sim.sizes[-1][1] == "Grown")
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()


def that_grows_by_halves(sim: Elastic) -> None:
    sim.nodes.slots = 1
    sim.until_attempt_runs(2)
    sim.nodes.slots = 2
    sim.until_attempt_runs(3)
    sim.nodes.slots = 3
    sim.world.settle()
    assert sim.sizes == [(3, "Shrunk"), (1, "Grown"), (2, "Grown"), (3, "Completed")]


SCENARIOS: dict[str, tuple[int, Scenario]] = {
    "little room": (6, that_finds_too_little_room),
    "lost node": (PAUSE + 15, that_loses_a_node_and_gets_it_back),
    "pause": (PAUSE + 15, that_pauses_while_it_grows),
    "by halves": (2 * PAUSE + WAIT + 15, that_grows_by_halves),
}
"""Each with the rounds that its training takes: long enough for what is looked for."""


def play(name: str, crash_after: int | None = None, fates: tuple[str, ...] = ()) -> Elastic:
    sim = Elastic(ELASTIC)
    sim.trainer.total, scenario = SCENARIOS[name]
    sim.trainer.pause = 30
    prepare(sim, crash_after, fates)
    scenario(sim)
    return sim


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_after_any_write_changes_nothing(name: str) -> None:
    assert_no_crash_changes_anything(partial(play, name))


@pytest.mark.parametrize(("turn", "name"), [(0, "lost node"), (1, "by halves")])
def test_a_write_that_fails_is_made_good(turn: int, name: str) -> None:
    assert_every_failed_write_is_made_good(partial(play, name), turn)


def test_a_gang_that_shrinks_and_grows_writes_only_what_changes() -> None:
    sim = play("lost node")
    assert [words.replace("a-d9df7", "a") for words in sim.world.writes if not words.startswith("status")] == [
        "apply Service a",
        "apply Job a-1",
        "apply Service a",
        "apply Job a-2",
        "patch Job a-2",
        "apply Service a",
        "apply Job a-3",
        "apply Job a-3-room",
        "patch Job a-3",
        "delete Job a-3-room",
        "apply Service a",
        "apply Job a-4",
        "move champion of titanic to 1",
    ]
