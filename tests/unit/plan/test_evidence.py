"""What a TrainingJob reads on S3 before it starts again or gives up, one situation at a time."""

from datetime import timedelta
from typing import Any

import pytest

from modelwright.api.layout import completed_key
from modelwright.plan.attempts import finished
from tests.simulation.cluster import key_of
from tests.simulation.nodes import finish
from tests.simulation.one_job import COMMAND, LOGGED_COMMAND, RECIPE, Simulation
from tests.unit.plan.training_world import message, running

HALF_AN_HOUR = 1800
SHORT = {**RECIPE, "activeDeadlineSeconds": 20}


def go_on(sim: Simulation) -> None:
    """Let pods train again, and come to their end."""
    sim.world.controllers.append(sim.trainer)
    sim.world.settle()


@pytest.mark.parametrize("spec", [COMMAND, LOGGED_COMMAND, RECIPE])
def test_an_outage_of_the_store_costs_one_restart_however_long_it_lasts(spec: dict[str, Any]) -> None:
    sim = running({**spec, "failurePolicy": {}})
    sim.world.bucket.down = True
    sim.trainer.fail("evicted")
    for _ in range(HALF_AN_HOUR):
        sim.world.step()
        sim.trainer.fail("storage")
    assert sim.ready == ("False", "StorageUnavailable")
    assert "storage cannot be read" in message(sim)
    began = sim.status["restarts"]
    assert began <= 1
    sim.world.bucket.down = False
    go_on(sim)
    assert (sim.ready, sim.status["restarts"]) == (("True", "Succeeded"), began + 1)


def test_what_no_restart_cures_ends_a_command_while_the_store_is_away() -> None:
    sim = running(COMMAND)
    sim.world.bucket.down = True
    sim.trainer.fail("final")
    sim.world.settle()
    assert sim.ready == ("False", "DataInvalid")


def test_rules_that_are_changed_while_a_restart_is_waited_for_hide_no_version_of_a_lost_attempt() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 60}})
    (job,) = sim.world.cluster.of_kind("Job")
    sim.trainer.begin_version(job)
    sim.trainer.leave_result(job)
    sim.trainer.fail("exit")
    sim.until(lambda: "endTime" in sim.status["attempts"][0])
    sim.world.edit(sim.key, failurePolicy={"rules": [{"exitCodes": [1], "restart": False}]})
    sim.world.settle()
    assert (sim.ready, sim.status["restarts"]) == (("True", "Succeeded"), 0)


def test_what_no_restart_cures_ends_a_recipe_while_the_store_is_away_whatever_is_left_of_it() -> None:
    sim = running()
    sim.world.bucket.down = True
    sim.trainer.fail("final")
    sim.world.kubelets.leaves_after = 30
    sim.until(lambda: sim.status["attempts"][0].get("final", False))
    (job,) = sim.world.cluster.of_kind("Job")
    assert not finished(job)
    sim.world.remove(key_of(job))
    sim.world.settle()
    assert sim.ready == ("False", "DataInvalid")


def clean_away(sim: Simulation, *, well: bool = True) -> None:
    """Let the pods end, and the Job be deleted, before the operator looks again."""
    (job,) = sim.world.cluster.of_kind("Job")
    if well:
        sim.trainer.leave_word(job)
    for pod in sim.world.cluster.of_kind("Pod"):
        finish(sim.world.cluster, pod, code=0 if well else 1)
    sim.world.act_unseen(3)
    (job,) = sim.world.cluster.of_kind("Job")
    assert finished(job)
    sim.world.remove(key_of(job))


def test_a_command_that_ended_well_while_nobody_looked_is_not_trained_again_when_its_job_is_gone() -> None:
    sim = running(LOGGED_COMMAND)
    clean_away(sim)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert message(sim) == "the program of attempt 1 ended well; its Job was deleted after that"
    assert (sim.status["restarts"], sim.status.get("failures", [])) == (0, [])
    (attempt,) = sim.status["attempts"]
    assert (attempt["reason"], attempt["endTime"]) == ("Completed", sim.status["completionTime"])


def test_whether_a_command_had_ended_is_waited_for_and_costs_nothing_while_the_store_is_away() -> None:
    sim = running(LOGGED_COMMAND)
    clean_away(sim)
    sim.world.bucket.down = True
    sim.world.run(120)
    assert sim.ready == ("False", "StorageUnavailable")
    assert (sim.status.get("failures", []), sim.status["restarts"]) == ([], 0)
    sim.world.bucket.down = False
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_the_last_restart_is_not_missed_by_a_command_that_had_ended_well() -> None:
    sim = running({**LOGGED_COMMAND, "failurePolicy": {"maxRestarts": 0}})
    clean_away(sim)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


@pytest.mark.parametrize(("spec", "well"), [(LOGGED_COMMAND, False), (COMMAND, True)])
def test_a_command_of_which_nothing_tells_that_it_ended_well_is_trained_again(spec: dict[str, Any], well: bool) -> None:
    sim = running(spec)
    clean_away(sim, well=well)
    go_on(sim)
    assert (sim.ready, sim.status["restarts"]) == (("True", "Succeeded"), 1)
    assert [entry["reason"] for entry in sim.status["attempts"]] == ["JobDeleted", "Completed"]


def test_the_word_of_an_earlier_attempt_does_not_count() -> None:
    sim = running({**LOGGED_COMMAND, "failurePolicy": {"backoffSeconds": 0}})
    uid = sim.world.cluster.objects[sim.key]["metadata"]["uid"]
    sim.trainer.fail("evicted")
    sim.until_attempt_runs(2)
    sim.world.bucket.write(completed_key("team", uid, 1), {})
    sim.trainer.delete_job()
    sim.until_attempt_runs(3)
    assert sim.status["restarts"] == 2


def test_a_version_that_was_registered_before_the_time_was_up_counts() -> None:
    sim = running(SHORT)
    (job,) = sim.world.cluster.of_kind("Job")
    sim.trainer.begin_version(job)
    sim.trainer.leave_result(job)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.world.bucket.moves == [("models/titanic/aliases/champion.json", 1)]
    (attempt,) = sim.status["attempts"]
    assert attempt["reason"] == "Completed"
    assert "message" not in attempt
    assert sim.world.cluster.of_kind("Job") == []


def test_a_version_that_is_registered_while_the_pods_stop_counts() -> None:
    sim = running(SHORT)
    (job,) = sim.world.cluster.of_kind("Job")
    sim.world.kubelets.lost |= {pod["metadata"]["uid"] for pod in sim.world.cluster.of_kind("Pod")}
    sim.until(lambda: "activeDeadlineSeconds is over: the pods stop" in message(sim))
    sim.world.run(5)
    sim.trainer.begin_version(job)
    sim.trainer.leave_result(job)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_a_recipe_without_a_version_when_its_pods_have_stopped_is_out_of_time() -> None:
    sim = running(SHORT)
    sim.world.settle()
    assert sim.ready == ("False", "DeadlineExceeded")
    (attempt,) = sim.status["attempts"]
    assert (attempt["reason"], attempt["message"]) == ("DeadlineExceeded", message(sim))
    assert sim.status.get("failures", []) == []
    assert (sim.world.cluster.of_kind("Job"), sim.world.cluster.of_kind("Pod")) == ([], [])
    assert sim.status["activeSeconds"] == pytest.approx(20, abs=2)


def test_a_store_that_is_away_when_the_time_is_up_keeps_no_pod_at_work() -> None:
    sim = running(SHORT)
    (job,) = sim.world.cluster.of_kind("Job")
    sim.trainer.begin_version(job)
    sim.trainer.leave_result(job)
    sim.world.bucket.down = True
    sim.world.run(60)
    assert (sim.ready, sim.world.cluster.of_kind("Pod")) == (("False", "StorageUnavailable"), [])
    sim.world.now += timedelta(hours=1)
    sim.world.bucket.down = False
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["activeSeconds"] == pytest.approx(20, abs=2)


def test_more_time_lets_a_recipe_go_on_that_has_just_been_stopped_for_want_of_it() -> None:
    sim = running(SHORT)
    sim.world.bucket.down = True
    sim.world.run(60)
    sim.world.edit(sim.key, activeDeadlineSeconds=1000)
    sim.world.bucket.down = False
    go_on(sim)
    assert sim.ready == ("True", "Succeeded")
    assert [entry["reason"] for entry in sim.status["attempts"]] == ["DeadlineExceeded", "Completed"]
