"""A TuningSweep and its winner's TrainingJob against everything that a cluster can do to them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import event, example, given, note, settings
from hypothesis import strategies as st

from modelwright.plan.podstatus import alive
from tests.simulation import chaos
from tests.simulation.chaos import Chaos, Fault, faults
from tests.simulation.nodes import Kueue
from tests.simulation.one_owner import (
    FINAL,
    MAX_RESTARTS,
    SPENDING,
    assert_every_failed_write_is_made_good,
    assert_no_crash_changes_anything,
    prepare,
)
from tests.simulation.one_sweep import MAX_TRIALS, SWEEP, Simulation
from tests.simulation.profile import PROFILE, TIMEOUT
from tests.simulation.world import one_attempt_runs

pytestmark = pytest.mark.timeout(TIMEOUT)

QUEUED = {"kueue.x-k8s.io/queue-name": "gpus"}
KINDS = ("TuningSweep", "TrainingJob", "Job", "Pod", "Service")
DEEDS = sorted(Simulation().deeds())
FEWER = settings(PROFILE, max_examples=PROFILE.max_examples // 4)


def assert_end(sim: Simulation, suffered: list[str]) -> None:
    """Check that a sweep and its winner ended as they had to, given what they suffered, and that nothing moves."""
    event(str(sim.ready))
    spent = sum(1 for name in suffered if name in SPENDING)
    ends = {("True", "Succeeded")}
    ends |= {("False", "DataInvalid")} if FINAL in suffered else set()
    ends |= {("False", "RestartsExhausted")} if spent > MAX_RESTARTS else set()
    assert sim.ready in ends
    if sim.ready == ("True", "Succeeded"):
        trials = sim.status["trials"]
        assert sum(trials.values()) == MAX_TRIALS
        assert trials["running"] == 0
        key = sim.winner_key
        # Its own budget for want of memory is one restart.
        spent_alone = {("False", "RestartsExhausted")} if suffered.count("pod fails: memory") > 1 else set()
        assert sim.world.condition(key) in ends | spent_alone
        losses = sim.status["restarts"] + sim.world.status(key)["restarts"]
    else:
        assert sim.winners == {}
        losses = sim.status.get("restarts", 0)
    assert not [pod for pod in sim.world.cluster.of_kind("Pod") if alive(pod)]
    assert losses <= spent + suffered.count("dies after result"), "each loss has a cause"
    sim.world.assert_steady()


@FEWER
@given(st.sampled_from([{}, QUEUED]), faults([*chaos.GENERAL, *DEEDS]))
def test_every_mix_of_faults_ends_as_it_must(labels: dict[str, str], mix: list[Fault]) -> None:
    sim = Simulation(SWEEP, labels)
    sim.world.controllers.append(Kueue(sim.world.cluster))
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds()})
    sim.world.invariants += [sim.the_end_is_final, one_attempt_runs]
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm.done)
    assert len(sim.world.writes) <= 24 + 12 * len(mix)


@FEWER
@example([Fault(13, "pod fails: memory", 1), Fault(22, "pod fails: memory", 1)])
@given(faults([*chaos.GENERAL, *DEEDS, *(f"frozen {kind}" for kind in KINDS)]))
def test_watches_that_lag_do_no_harm(mix: list[Fault]) -> None:
    sim = Simulation()
    lagging = {f"frozen {kind}": chaos.freeze(kind) for kind in KINDS}
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds(), **lagging})
    sim.world.invariants.append(sim.the_end_is_final)
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm.done)


VIEWS = {"sweep": ("TuningSweep",), "children": ("TrainingJob", "Job", "Pod", "Service"), "everything": KINDS}
OLD = {f"old {name} {back}": chaos.rewind(kinds, back) for name, kinds in VIEWS.items() for back in (1, 5, 15)}


@FEWER
@given(faults([*sorted(SPENDING), "suspended", "poke", "kill", *OLD], most=8))
def test_one_attempt_lives_and_one_winner_is_made_however_old_the_views_are(mix: list[Fault]) -> None:
    # What deletes itself must neither come again nor take what is at work with it. The winner is there for longer than
    # a view is old: a view that passes for fresh all that time, and at whose version no status can be written, would
    # make another one. Ours is asked for by then (CONFIRM_SECONDS), and has what this process wrote.
    template = {**SWEEP["template"], "ttlSecondsAfterFinished": 60}
    sim = Simulation({**SWEEP, "template": template, "ttlSecondsAfterFinished": 0})
    sim.world.invariants.append(sim.the_winner_is_waited_for)
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds(), **OLD})
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    sim.world.assert_steady()


Scenario = Callable[[Simulation], None]


def quietly(sim: Simulation) -> None:
    sim.world.settle()


def with_a_lost_driver_on_a_lost_node(sim: Simulation) -> None:
    sim.until_trials_end(2)
    sim.trainer.lose_node(0)
    sim.world.settle()


def with_a_driver_that_dies_when_all_is_done(sim: Simulation) -> None:
    sim.tuner.dies_after_result = True
    sim.world.settle()
    assert sim.status["attempt"] == 1


def with_a_pause(sim: Simulation) -> None:
    pause(sim)
    go_on(sim)


def with_a_pause_and_no_key_to_go_on_with(sim: Simulation) -> None:
    pause(sim)
    bring_back = chaos.secret_missing(sim.world)
    sim.world.edit(sim.key, suspend=False)
    # What the trials before the pause have found is asked for first, and that is behind the key.
    sim.until(lambda: sim.ready == ("False", "SecretNotFound"))
    assert "there is no Secret s3 in the namespace team: kubectl create" in sim.status["conditions"][0]["message"]
    assert bring_back is not None
    bring_back()
    go_on(sim)


def pause(sim: Simulation) -> None:
    sim.tuner.hangs_after = 2
    sim.until_trials_end(2)
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    assert sim.ready == ("False", "Suspended")
    assert sim.status.get("trials", {}).get("running", 0) == 0


def go_on(sim: Simulation) -> None:
    sim.tuner.hangs_after = None
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()
    assert sim.status["restarts"] == 0


def against_the_clock(sim: Simulation) -> None:
    sim.tuner.hangs_after, sim.tuner.last_words = 2, True
    sim.world.settle()
    assert sim.status["bestTrial"]["number"] == 4, "it ended while its pods stopped"


def with_a_namesake_of_the_winner(sim: Simulation) -> None:
    namesake = sim.world.add("TrainingJob", "a-winner", SWEEP["template"])
    sim.until(lambda: sim.ready == ("False", "ChildRejected"))
    sim.world.remove(namesake)
    sim.world.settle()


def without_success(sim: Simulation) -> None:
    for number in (1, 2):
        sim.until_attempt_runs(number)
        sim.trainer.fail("memory", -1)
    sim.world.settle()


def with_orphans_in_the_end(sim: Simulation) -> None:
    sim.until_pods_run()
    sim.trainer.delete_job(orphan=True)
    sim.world.settle()
    assert not [pod for pod in sim.world.cluster.of_kind("Pod") if alive(pod)]


def until_it_is_deleted(sim: Simulation) -> None:
    sim.until(lambda: bool(sim.winners))
    sim.world.remove(sim.key)
    sim.world.settle()


SCENARIOS: dict[str, tuple[dict[str, Any], dict[str, str], Scenario, tuple[str, str] | None]] = {
    "lost node": (SWEEP, {}, with_a_lost_driver_on_a_lost_node, ("True", "Succeeded")),
    "lost when done": (SWEEP, {}, with_a_driver_that_dies_when_all_is_done, ("True", "Succeeded")),
    "pause": (SWEEP, {}, with_a_pause, ("True", "Succeeded")),
    "queued pause": (SWEEP, QUEUED, with_a_pause_and_no_key_to_go_on_with, ("True", "Succeeded")),
    "deadline": ({**SWEEP, "activeDeadlineSeconds": 30}, {}, against_the_clock, ("True", "Succeeded")),
    "namesake": (SWEEP, {}, with_a_namesake_of_the_winner, ("True", "Succeeded")),
    "failure": ({**SWEEP, "maxRestarts": 1}, {}, without_success, ("False", "RestartsExhausted")),
    "orphans": ({**SWEEP, "maxRestarts": 0}, {}, with_orphans_in_the_end, ("False", "RestartsExhausted")),
    "deleted": (SWEEP, {}, until_it_is_deleted, None),
    "deleted when done": ({**SWEEP, "ttlSecondsAfterFinished": 0}, {}, quietly, None),
}


def play(name: str, crash_after: int | None = None, fates: tuple[str, ...] = ()) -> Simulation:
    spec, labels, scenario, _ = SCENARIOS[name]
    sim = Simulation(spec, labels)
    prepare(sim, crash_after, fates)
    scenario(sim)
    return sim


def test_a_quiet_run_writes_only_what_changes() -> None:
    sim = Simulation()
    sim.world.settle()
    assert sim.ready == sim.world.condition(sim.winner_key) == ("True", "Succeeded")
    assert [words for words in sim.world.writes if not words.startswith("status")] == [
        "apply Service a-d9df7",
        "create Secret a-d9df7-ray",
        "apply Job a-d9df7-1",
        "apply TrainingJob a-winner",
        "apply Service a-winner-7ed2a",
        "apply Job a-winner-7ed2a-1",
        "move champion of titanic to 1",
    ]
    # Started, searching, five reports of its driver, and ended.
    assert len(sim.world.statuses[sim.key]) == 8
    assert len(sim.world.statuses[sim.winner_key]) <= 5


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_sweep_ends_as_its_story_has_it(name: str) -> None:
    sim = play(name)
    assert sim.ready == SCENARIOS[name][-1]
    if sim.ready is None:
        assert {key.kind for key in sim.world.cluster.objects} == {"Secret"}


def test_an_outage_of_the_store_costs_a_sweep_one_restart_however_long_it_lasts() -> None:
    sim = Simulation()
    sim.until_pods_run()
    sim.world.bucket.down = True
    for _ in range(600):
        sim.trainer.fail("storage")
        sim.world.step()
    assert (sim.ready, sim.status["restarts"]) == (("False", "StorageUnavailable"), 0)
    sim.world.bucket.down = False
    sim.world.settle()
    assert (sim.ready, sim.status["restarts"]) == (("True", "Succeeded"), 1)


@pytest.mark.parametrize("notices", [True, False])
def test_a_sweep_that_is_deleted_at_any_moment_leaves_nothing_behind(notices: bool) -> None:
    for moment in range(20):
        sim = Simulation()
        sim.world.run(moment)
        thaw = None if notices else chaos.freeze("TuningSweep")(sim.world)
        sim.world.remove(sim.key)
        sim.world.run(5)
        if thaw is not None:
            thaw()
        sim.world.settle()
        assert [key.name for key in sim.world.cluster.objects] == ["s3"], moment
        sim.world.assert_steady()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_after_any_write_changes_nothing(name: str) -> None:
    assert_no_crash_changes_anything(partial(play, name))


# Fewer than crashes: a process that goes on has it easier than a new one, and the mixes have their share of them.
def test_a_write_that_fails_is_made_good() -> None:
    assert_every_failed_write_is_made_good(partial(play, "lost node"))
