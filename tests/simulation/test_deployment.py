"""A ModelDeployment against everything that a cluster, a registry and its users can do to it."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import event, given, note, settings

from tests.simulation import chaos
from tests.simulation.chaos import Chaos, Fault, faults
from tests.simulation.deployments import BROKEN_IMAGE
from tests.simulation.one_deployment import BAD, Simulation
from tests.simulation.one_owner import assert_no_crash_changes_anything
from tests.simulation.profile import PROFILE, TIMEOUT

pytestmark = pytest.mark.timeout(TIMEOUT)
FEWER = settings(PROFILE, max_examples=PROFILE.max_examples // 5)
"""A world with servers takes longer than one with a gang."""

KINDS = ("ModelDeployment", "Deployment", "Pod", "Service")
DEEDS = sorted(Simulation().deeds())
KILLS = ("server killed", "other server killed")


def wanted(sim: Simulation) -> int:
    found = sim.world.cluster.get(sim.key)["spec"]["model"]
    return found.get("version") or [version for _, version in sim.world.bucket.moves][-1]


def assert_end(sim: Simulation, suffered: list[str]) -> None:
    """Check that the wanted version serves, or the last good one with a word why, and that nothing moves any more."""
    status, reason = sim.ready
    event(reason)
    target, replicas = wanted(sim), sim.world.cluster.get(sim.key)["spec"]["replicas"]
    assert sim.status["targetVersion"] == target
    killed = sum(suffered.count(name) for name in KILLS)
    if target == 7 and reason == "StorageUnavailable":
        # It hangs, but the last word of its servers was about S3: with nothing else to serve, that is waited for.
        assert "s3 down" in suffered
        assert "serving" not in sim.status
    elif target in BAD or (reason == "RolloutFailed" and killed > 2):
        assert (status, reason) == ("False", "RolloutFailed")
        assert sim.status["failed"]["version"] == target
        serving = sim.status.get("serving", {}).get("version")
        assert set(sim.fleets) == ({serving} - {None})
        # A version that is not the wanted one keeps the template that it has, even one that its new servers fail on.
        assert serving is None or "bad image" in suffered or sim.fleets[serving] == replicas
        assert serving is None or sim.selected == serving
    else:
        assert (status, reason) == ("True", "Serving")
        assert sim.status["serving"]["version"] == sim.selected == target
        assert sim.fleets == {target: replicas}
    sim.world.assert_steady()


@FEWER
@given(faults([*chaos.GENERAL, *DEEDS]))
def test_every_mix_of_faults_ends_as_it_must(mix: list[Fault]) -> None:
    sim = Simulation()
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds()})
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm.done)
    assert len(sim.world.writes) <= 10 + 14 * len(mix)


@FEWER
@given(faults([*chaos.GENERAL, *DEEDS, *(f"frozen {kind}" for kind in KINDS)]))
def test_watches_that_lag_do_no_harm(mix: list[Fault]) -> None:
    sim = Simulation()
    sim.guard.lagging = True
    lagging = {f"frozen {kind}": chaos.freeze(kind) for kind in KINDS}
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds(), **lagging})
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm.done)


RUSH = [*(f"alias to {version}" for version in (1, 2, 3, 5)), "crash", "error", "timeout", "kill", "silence", "evicted"]
RUSH += ["scaled to 3", "scaled to 1", "fleet deleted", "more memory", "poke"]


@FEWER
@given(faults(RUSH, most=16))
def test_requests_go_to_servers_that_answer_however_the_alias_jumps(mix: list[Fault]) -> None:
    sim = Simulation()
    sim.world.settle()
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds()})
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    event(f"{sim.guard.switches} switches")
    assert_end(sim, storm.done)


Scenario = Callable[[Simulation], None]


def with_a_new_version(sim: Simulation) -> None:
    sim.point(2)
    sim.world.settle()


def with_an_alias_that_moves_during_the_rollout(sim: Simulation) -> None:
    sim.point(2)
    sim.until(lambda: 2 in sim.fleets)
    sim.point(3)
    sim.world.settle()


def with_an_alias_that_comes_back_after_the_switch(sim: Simulation) -> None:
    sim.point(2)
    sim.until(lambda: sim.selected == 2)
    sim.point(1)
    sim.world.operator.wake(sim.key)
    sim.world.settle()


def with_a_version_that_hangs(sim: Simulation) -> None:
    sim.point(7)
    sim.world.settle()


def with_a_second_try(sim: Simulation) -> None:
    sim.point(5)
    sim.world.settle()
    del sim.servers.bad[5]
    sim.world.edit(sim.key, server={"resources": {"limits": {"memory": "2Gi"}}})
    sim.world.settle()


def with_more_servers_and_another_version(sim: Simulation) -> None:
    sim.point(2)
    sim.world.edit(sim.key, replicas=3)
    sim.world.settle()


def with_an_image_that_does_not_run(sim: Simulation) -> None:
    sim.world.edit(sim.key, server={"image": BROKEN_IMAGE})
    sim.until(lambda: len(sim.servers.pods()) == 3)
    sim.world.run(40)
    assert sim.servers.ready(1) == 2
    sim.world.edit(sim.key, server={"image": None})
    sim.world.settle()


def with_a_deleted_fleet(sim: Simulation) -> None:
    sim.deeds()["fleet deleted"](sim.world)
    sim.world.settle()


def without_its_owner(sim: Simulation) -> None:
    sim.point(2)
    sim.until(lambda: 2 in sim.fleets)
    sim.world.remove(sim.key)
    sim.world.settle()
    assert {key.kind for key in sim.world.cluster.objects} == {"Secret"}


def with_a_successor_of_its_name(sim: Simulation) -> None:
    sim.deeds()["made anew"](sim.world)
    sim.world.settle()


SCENARIOS: dict[str, Scenario] = {
    "new version": with_a_new_version,
    "moves twice": with_an_alias_that_moves_during_the_rollout,
    "comes back": with_an_alias_that_comes_back_after_the_switch,
    "hangs": with_a_version_that_hangs,
    "second try": with_a_second_try,
    "grows": with_more_servers_and_another_version,
    "bad image": with_an_image_that_does_not_run,
    "deleted fleet": with_a_deleted_fleet,
    "deleted": without_its_owner,
    "made anew": with_a_successor_of_its_name,
}


def play(name: str, crash_after: int | None = None) -> Simulation:
    sim = Simulation()
    sim.world.faults.crash_after = crash_after
    sim.until(lambda: sim.ready == ("True", "Serving"))
    SCENARIOS[name](sim)
    return sim


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_after_any_write_changes_nothing(name: str) -> None:
    assert_no_crash_changes_anything(partial(play, name))


def test_a_new_version_takes_over_in_three_writes_beside_the_status() -> None:
    sim = play("new version")
    assert [words for words in sim.world.writes if not words.startswith("status")] == [
        "apply Service churn",
        "apply Deployment churn-v1",
        "apply Deployment churn-v2",
        "apply Service churn",
        "delete Deployment churn-v1",
    ]
    assert len(sim.world.statuses[sim.key]) <= 8
