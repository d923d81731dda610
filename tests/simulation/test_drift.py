"""A DriftPolicy and the loop that it closes: alert or drift, retraining, gate, and the deployment that follows."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import event, example, given, note, settings
from hypothesis import strategies as st

from tests.simulation import chaos
from tests.simulation.chaos import Chaos, Fault, faults
from tests.simulation.one_loop import ALERTS, PER_DAY, POLICY, Simulation
from tests.simulation.profile import PROFILE, TIMEOUT
from tests.simulation.traffic import MOVED, STILL

pytestmark = pytest.mark.timeout(TIMEOUT)
FEWER = settings(PROFILE, max_examples=PROFILE.max_examples // 5)
"""A whole loop takes longer than one job."""

KINDS = ("DriftPolicy", "TrainingJob", "ModelDeployment", "Deployment", "Job", "Pod", "Service")
DEEDS = sorted(Simulation().deeds())
CAUSES = [*(f"alert {name}" for name in ALERTS), "notified again", "world moves", "world moves back"]
ONLY_ALERTS = {name: value for name, value in POLICY.items() if name != "test"}
GAINS = (0.02, -0.02)
"""How much better than the champion a retrained model is."""
TIME = ["a minute passes", "five minutes pass", "hours pass"]


def assert_end(sim: Simulation, suffered: list[str]) -> None:
    """Check that the champion serves, that every incident has its outcome, and that nothing moves any more."""
    status, reason = sim.ready
    event(f"{reason}, {len(sim.started)} retrainings")
    assert (status, reason) in {("True", "Watching"), ("True", "Drifted")}
    assert "Retraining" not in sim.outcomes.values()
    served = sim.world.status(sim.deployment)
    if suffered.count("hours pass") > 2 and "failed" in served:
        assert served["failed"] == {"version": sim.champion, "reason": "DeadlineExceeded"} | served["failed"]
    else:
        assert sim.world.condition(sim.deployment) == ("True", "Serving")
        assert served["serving"]["version"] == sim.champion
    sim.assert_steady()


@FEWER
@given(faults([*chaos.GENERAL, *DEEDS, *CAUSES, *TIME], most=16))
def test_every_mix_of_faults_keeps_the_budget_and_ends_as_it_must(mix: list[Fault]) -> None:
    sim = Simulation()
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds()})
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm.done)


@FEWER
@example([Fault(6, "conflict", 1), Fault(30, "alert a", 1), Fault(32, "alert a", 1)], 0.02)
@given(
    faults([*CAUSES, *TIME, *chaos.WRITES, "kill", *(f"frozen {kind}" for kind in KINDS)], most=16),
    st.sampled_from(GAINS),
)
def test_watches_that_lag_lose_no_alert_and_start_nothing_twice(mix: list[Fault], gain: float) -> None:
    sim = Simulation()
    sim.trainer.improvement = gain
    lagging = {f"frozen {kind}": chaos.freeze(kind) for kind in KINDS}
    sim.guard.lagging = True
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds(), **lagging})
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm.done)


OLD = {f"old policy {back}": chaos.rewind(("DriftPolicy",), back) for back in (1, 5, 15)}


@FEWER
@example([Fault(0, "alert a", 1), Fault(1, "old policy 1"), Fault(2, "retraining deleted"), Fault(5, "alert a", 1)])
@given(faults([*CAUSES, *TIME, *OLD, "retraining deleted", "poke", "kill"], most=16))
def test_the_budget_is_kept_however_old_the_view_of_the_policy_is(mix: list[Fault]) -> None:
    sim = Simulation()
    # What was recorded may be written over with what was recorded before; what was started may not be started again.
    sim.world.invariants.remove(sim.no_alert_is_lost)
    sim.record_may_go = True
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds(), **OLD})
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm.done)


Scenario = Callable[[Simulation], None]


def with_an_alert(sim: Simulation) -> None:
    sim.alertmanager.fire("a")
    sim.world.settle()
    assert sim.outcomes == {"Alerta": "Promoted"}


def with_an_alert_that_training_does_not_cure(sim: Simulation) -> None:
    sim.trainer.improvement = -0.02
    sim.alertmanager.fire("a")
    sim.world.settle()
    assert sim.outcomes == {"Alerta": "NotBetter"}
    assert sim.champion == 1


def with_a_training_that_fails(sim: Simulation) -> None:
    sim.alertmanager.fire("a")
    sim.until_training()
    sim.deeds()["training fails: final"](sim.world)
    sim.world.settle()
    assert sim.outcomes == {"Alerta": "Failed"}


def with_a_rival(sim: Simulation) -> None:
    """It takes the alias after the job was compared with the holder before it."""
    sim.alertmanager.fire("a")
    sim.until(lambda: any(key.endswith("/result.json") for key in sim.world.bucket.documents))
    sim.deeds()["rival promoted"](sim.world)
    sim.world.settle()
    assert sim.outcomes == {"Alerta": "Superseded"}
    assert sim.champion == 3


def with_drift(sim: Simulation) -> None:
    sim.traffic.present = MOVED
    sim.world.settle()
    assert sim.outcomes == {"age": "Promoted"}
    assert sim.ready == ("True", "Watching")


SCENARIOS: dict[str, Scenario] = {
    "alert": with_an_alert,
    "not better": with_an_alert_that_training_does_not_cure,
    "training fails": with_a_training_that_fails,
    "rival": with_a_rival,
    "drift": with_drift,
}
A_TEST = "status DriftPolicy watchful"


def play(name: str, crash_at: int | None = None) -> Simulation:
    """Play a scenario; the operator may die after one write, counted from 0 when the first version serves."""
    sim = Simulation(POLICY if name == "drift" else ONLY_ALERTS)
    sim.until(lambda: sim.world.condition(sim.deployment) == ("True", "Serving"))
    if crash_at is not None:
        sim.world.faults.next_writes.extend([*["ok"] * crash_at, "crash"])
    sim.world.writes.clear()
    SCENARIOS[name](sim)
    return sim


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_after_any_telling_write_changes_nothing(name: str) -> None:
    calm = play(name)
    writes = calm.world.writes
    # Most writes are those of drift tests that find nothing, and one of these is as good as another.
    telling = [n for n in range(len(writes)) if n == 0 or {writes[n - 1], writes[n]} != {A_TEST}]
    for number in telling:
        hurt = play(name, crash_at=number)
        assert hurt.world.crashes == 1
        assert hurt.end_state() == calm.end_state(), f"write {number + 1}, {writes[number]}"
        done, due = ([words for words in sim.world.writes if words != A_TEST] for sim in (hurt, calm))
        assert len(done) <= len(due) + 4
        hurt.assert_steady()


def test_the_loop_closes_once_a_day_can_hold_no_more() -> None:
    sim = Simulation()
    sim.world.settle()
    for number in range(PER_DAY + 1):
        sim.traffic.present = (MOVED, STILL)[number % 2]
        sim.world.settle()
    assert len(sim.started) == PER_DAY
    assert sim.ready == ("True", "Drifted")
    assert [entry["outcome"] for entry in sim.status["incidents"]] == ["LimitReached", *["Promoted"] * PER_DAY]
    sim.world.now += timedelta(days=1)
    sim.world.settle()
    assert len(sim.started) == PER_DAY + 1
    assert sim.ready == ("True", "Watching")


def test_what_had_to_wait_for_the_cooldown_is_dealt_with_when_it_is_said_again() -> None:
    sim = Simulation(ONLY_ALERTS)
    sim.alertmanager.fire("a")
    sim.alertmanager.fire("b")
    sim.until(lambda: sorted(sim.outcomes.values()) == ["Cooldown", "Retraining"])
    sim.world.settle()
    assert sim.outcomes == {"Alerta": "Promoted", "Alertb": "Promoted"}
    sim.assert_steady()


def test_an_alert_that_comes_while_a_webhook_is_down_is_not_answered_before_it_is_dealt_with() -> None:
    sim = Simulation(ONLY_ALERTS)
    sim.world.settle()
    answer = chaos.webhook_down(sim.world)
    sim.alertmanager.fire("a")
    sim.until(lambda: sim.ready == ("False", "WebhookUnavailable"))
    sim.world.run(60)
    assert (sim.outcomes, sim.alertmanager.answered) == ({}, {})
    answer()
    sim.until(lambda: len(sim.alertmanager.answered) == 1)
    assert sim.outcomes == {"Alerta": "Retraining"}
    sim.world.settle()
    assert sim.outcomes == {"Alerta": "Promoted"}
    sim.assert_steady()


def test_an_alert_is_answered_by_the_process_that_has_dealt_with_it_and_by_no_other() -> None:
    sim = Simulation(ONLY_ALERTS)
    sim.world.settle()
    sim.world.faults.next_writes.extend(["crash", "crash"])
    sim.alertmanager.fire("a")
    sim.until(lambda: sim.world.crashes == 2)
    assert sim.alertmanager.answered == {}
    assert len(sim.started) == 1
    sim.world.settle()
    assert len(sim.alertmanager.answered) == 1
    assert len(sim.started) == 1
