import math

import pytest

from modelwright.api.run import SweepReport
from modelwright.api.tuningsweep import TrialCounts, TrialState
from modelwright.plan.actions import Apply, Rejection
from modelwright.plan.questions import Unavailable
from tests.unit.plan.tuning_world import SPACE, TEMPLATE, World, result, trial

BEST = trial(2, 0.97)


def searching(**spec: object) -> World:
    """A sweep whose pods are up."""
    world = World(**spec)
    world.look()
    world.pods_run()
    world.look()
    return world


def test_a_new_sweep_starts_a_gang_of_ray_pods_with_the_driver_in_the_first() -> None:
    world = World()
    world.look()

    assert world.job["spec"]["completions"] == 2
    assert world.job["spec"]["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    command = world.job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "modelwright.runtime.tune" in " ".join(command)
    assert world.services
    assert (world.run.attempt, world.run.sweep is not None, world.run.training.model is not None) == (1, True, True)
    assert world.condition("Ready") == ("False", "Starting")
    assert world.condition("Succeeded") == ("Unknown", "Starting")


def test_once_all_pods_run_it_searches() -> None:
    world = searching()

    assert world.condition("Reconciling") == ("True", "Searching")
    assert world.message() == "attempt 1 searches on 2 pods"
    assert world.status.start_time == "2026-11-23T10:00:00Z"


def test_nothing_is_written_when_nothing_changed() -> None:
    world = searching()
    writes = world.status_writes
    world.forward(60)
    plan = world.look()

    assert (world.status_writes, plan.actions, plan.wake_after) == (writes, (), None)


def test_the_driver_s_report_is_in_the_status() -> None:
    world = searching()
    world.report = SweepReport(
        attempt=1, trials=TrialCounts(running=2, succeeded=1), best_trial=BEST, history=(trial(1, 0.5), BEST)
    )
    world.look()

    assert world.status.trials == TrialCounts(running=2, succeeded=1)
    assert world.status.best_trial == BEST
    assert [entry.number for entry in world.status.history] == [1, 2]
    world.report = None
    writes = world.status_writes
    world.look()
    assert world.status_writes == writes


def test_a_report_of_another_attempt_is_not_about_this_one() -> None:
    world = searching()
    world.report = SweepReport(attempt=7, trials=TrialCounts(running=2), best_trial=BEST)
    world.look()

    assert world.status.best_trial is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_never_the_best_and_never_in_the_status(value: float) -> None:
    world = searching()
    strange = trial(1, value)
    world.report = SweepReport(attempt=1, trials=TrialCounts(), best_trial=strange, history=(strange,))
    world.look()

    assert world.status.best_trial is None
    assert world.status.history[0].value is None


def test_a_finished_search_succeeds_with_its_best_trial() -> None:
    world = searching()
    world.result = result(trial(1, 0.5), BEST, trial(3, None, TrialState.FAILED, "broke"), best=BEST)
    world.job_ends()
    world.look()

    assert world.condition("Ready") == ("True", "Succeeded")
    assert world.condition("Succeeded") == ("True", "Succeeded")
    assert world.message() == "the search is over: trial 2 is the best, with roc_auc 0.97"
    assert world.status.trials == TrialCounts(succeeded=2, failed=1)
    assert world.status.results_uri == "s3://models/team/runs/team/sweep-uid/sweep.json"
    assert world.status.completion_time is not None
    assert world.training_jobs == {}


def test_the_winner_is_trained_from_the_template_with_the_best_parameters() -> None:
    world = searching(winner={"train": True})
    world.result = result(BEST, best=BEST)
    world.job_ends()
    world.look()

    (job,) = world.training_jobs.values()
    assert job["metadata"]["name"] == world.status.winner_training_job == "search-winner"
    assert job["metadata"]["annotations"]["modelwright.dev/trigger"] == "TuningSweep/search trial 2"
    tabular = job["spec"]["recipe"]["tabular"]
    assert (tabular["algorithm"], tabular["neuralNetwork"]) == ("LightGBM", {"epochs": 5, "learningRate": 0.01})
    assert {key: job["spec"][key] for key in ("dataset", "model")} == {
        key: TEMPLATE[key] for key in ("dataset", "model")
    }
    assert "algorithm" not in TEMPLATE["recipe"]["tabular"]  # type: ignore[index]


def test_the_winner_waits_in_the_queue_of_its_sweep() -> None:
    queue = {"kueue.x-k8s.io/queue-name": "gpus"}
    world = World(winner={"train": True})
    world.sweep["metadata"]["labels"] = queue
    world.look()
    world.job["spec"]["suspend"] = False
    world.pods_run()
    world.result = result(BEST, best=BEST)
    world.job_ends()
    world.look()

    assert queue.items() <= world.training_jobs["search-winner"]["metadata"]["labels"].items()


def test_a_crash_before_the_status_is_written_leads_to_the_same_winner() -> None:
    world = searching(winner={"train": True})
    world.result = result(BEST, best=BEST)
    world.job_ends()
    world.look(write=False)
    plan = world.look()

    assert len(world.training_jobs) == 1
    assert not [action for action in plan.actions if isinstance(action, Apply)]
    assert world.status.winner_training_job == "search-winner"


def test_a_user_s_training_job_of_the_winner_s_name_is_left_alone() -> None:
    world = searching(winner={"train": True})
    theirs = {"kind": "TrainingJob", "metadata": {"name": "search-winner"}}
    world.training_jobs["search-winner"] = theirs
    world.result = result(BEST, best=BEST)
    world.job_ends()
    plan = world.look()

    assert plan.actions == ()
    assert world.training_jobs == {"search-winner": theirs}
    assert world.condition("Stalled") == ("True", "ChildRejected")
    assert world.condition("Succeeded") == ("Unknown", "ChildRejected")
    assert plan.wake_after is not None


def test_a_search_without_a_success_fails_and_says_why_the_last_trial_did() -> None:
    world = searching(winner={"train": True})
    world.result = result(trial(1, None, TrialState.FAILED, "out of ideas"))
    world.job_ends()
    world.look()

    assert world.condition("Succeeded") == ("False", "NoTrialSucceeded")
    assert world.message().endswith("out of ideas")
    assert world.training_jobs == {}


def test_a_lost_gang_is_started_again_and_its_trials_are_shown() -> None:
    world = searching()
    world.result = result(BEST, best=BEST, finished=False)
    world.job_ends("Failed")
    world.look()
    assert world.condition("Ready") == ("False", "Restarting")
    world.forward(60)
    world.look()

    assert world.run.attempt == 2
    assert (world.status.restarts, world.status.best_trial) == (1, BEST)


def test_a_gang_that_was_lost_after_its_last_trial_is_not_started_again() -> None:
    world = searching()
    world.result = result(BEST, best=BEST)
    world.job_ends("Failed")
    world.forward(60)
    world.look()

    assert len(world.jobs) == 1
    assert world.condition("Succeeded") == ("True", "Succeeded")


def test_when_all_restarts_are_spent_the_sweep_fails_and_keeps_what_was_found() -> None:
    world = searching(maxRestarts=0)
    world.result = result(BEST, best=BEST, finished=False)
    world.job_ends("Failed")
    world.forward(60)
    world.look()

    assert world.condition("Succeeded") == ("False", "RestartsExhausted")
    assert world.message().endswith("; raise spec.maxRestarts in a new TuningSweep")
    assert world.status.best_trial == BEST


def test_a_driver_that_leaves_no_result_has_failed() -> None:
    world = searching()
    world.job_ends()
    world.look()

    assert world.condition("Succeeded") == ("False", "Failed")
    assert "no complete result" in world.message()


@pytest.mark.parametrize(("best", "expected"), [(BEST, "Succeeded"), (None, "DeadlineExceeded")])
def test_a_spent_time_budget_ends_the_search_with_what_was_found(best: object, expected: str) -> None:
    world = searching(activeDeadlineSeconds=600)
    world.result = result(*([BEST] if best else []), best=best, finished=False)  # type: ignore[arg-type]
    world.forward(601)
    world.look()
    assert world.condition("Reconciling") == ("True", "Searching"), "a trial may end while its pods stop"
    assert world.jobs == {}
    assert world.asked == []

    world.look()
    assert world.condition("Ready") is not None
    assert world.condition("Ready")[1] == expected  # type: ignore[index]


def test_while_the_store_is_down_nothing_is_decided() -> None:
    world = searching()
    world.result = Unavailable("no route to s3")
    world.job_ends()
    plan = world.look()

    assert world.condition("Ready") == ("False", "StorageUnavailable")
    assert plan.wake_after is not None
    world.result = result(BEST, best=BEST)
    world.look()
    assert world.condition("Succeeded") == ("True", "Succeeded")


def test_a_sweep_that_goes_on_without_its_secret_says_how_to_make_it() -> None:
    world = searching()
    world.sweep["spec"]["template"] = {**TEMPLATE, "storage": {"secretName": "mine"}}
    world.sweep["spec"]["suspend"] = True
    world.look()
    world.jobs.clear()
    world.pods.clear()
    world.sweep["spec"]["suspend"] = False
    world.result, world.has_secret = Unavailable("Secret does not exist"), False
    world.look()
    assert world.condition("Suspended") == ("True", "SecretNotFound")
    assert "kubectl create secret generic mine" in world.message()


def test_a_suspended_sweep_stops_its_pods_and_goes_on_in_the_same_attempt() -> None:
    world = searching()
    world.sweep["spec"]["suspend"] = True
    world.look()
    assert world.job["spec"]["suspend"] is True
    assert world.condition("Ready") == ("False", "Suspended")
    world.sweep["spec"]["suspend"] = False
    world.look()
    world.look()

    assert world.job["spec"]["suspend"] is False
    assert world.run.attempt == 1


def test_no_trial_runs_while_the_sweep_is_suspended_whatever_was_reported_last() -> None:
    world = searching()
    world.report = SweepReport(attempt=1, trials=TrialCounts(running=2, succeeded=1), best_trial=BEST, history=(BEST,))
    world.look()
    world.sweep["spec"]["suspend"] = True
    world.look()
    world.look()

    assert world.status.trials == TrialCounts(running=0, succeeded=1)


def test_a_suspended_sweep_whose_job_is_gone_stays_suspended_until_the_store_can_be_read() -> None:
    world = searching()
    world.sweep["spec"]["suspend"] = True
    world.look()
    world.jobs.clear()
    world.pods.clear()
    world.sweep["spec"]["suspend"] = False
    world.result = Unavailable("no route to s3")
    world.look()
    assert world.condition("Suspended") == ("True", "StorageUnavailable")
    world.look()
    world.result = None
    world.look()

    assert (world.run.attempt, world.status.restarts) == (1, 0)
    assert world.condition("Ready") == ("False", "Starting")


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ([{"name": "neuralNetwork.size", "int": {"min": 1, "max": 2}}], "no such field to search"),
        ([{"name": "target", "choice": {"values": ["x"]}}], "no such field to search"),
        ([{"name": "algorithm", "choice": {"values": ["NeuralNetwork", "Oracle"]}}], "Oracle will not do"),
        ([{"name": "algorithm", "int": {"min": 1, "max": 2}}], "use choice, of NeuralNetwork, LightGBM"),
        ([{"name": "neuralNetwork.dropout", "float": {"min": 0.1, "max": 1.5}}], "1.5 will not do"),
        ([{"name": "lightGBM.numLeaves", "int": {"min": 1, "max": 64}}], "1 will not do"),
        ([{"name": "lightGBM.numLeaves", "float": {"min": 2.5, "max": 64}}], "use int, not float"),
        ([{"name": "neuralNetwork.batchSize", "choice": {"values": ["32", "many"]}}], "many will not do"),
    ],
)
def test_a_search_space_that_does_not_fit_the_recipe_is_refused_before_any_pod(space: object, says: str) -> None:
    world = World(searchSpace=space)
    plan = world.look()

    assert world.condition("Stalled") == ("True", "InvalidSpec")
    assert world.condition("Succeeded") == ("False", "InvalidSpec")
    assert says in world.message()
    assert (plan.actions, plan.wake_after) == ((), None)


@pytest.mark.parametrize(
    "space",
    [
        [{"name": "neuralNetwork.batchSize", "choice": {"values": ["32", "64"]}}],
        [{"name": "lightGBM.numLeaves", "int": {"min": 2, "max": 131072, "log": True}}, SPACE[1]],
        [{"name": "neuralNetwork.dropout", "float": {"min": 0, "max": 0.9}}],
    ],
)
def test_a_search_space_that_fits_is_searched(space: object) -> None:
    world = World(searchSpace=space)
    world.look()

    assert world.condition("Ready") == ("False", "Starting")


def test_a_winner_that_could_not_be_trained_is_refused_before_the_search() -> None:
    world = World(template={**TEMPLATE, "workers": {"replicas": 2}}, winner={"train": True})
    world.look()

    assert world.condition("Stalled") == ("True", "InvalidSpec")
    assert "template.workers.replicas must be 1" in world.message()


def test_a_template_without_a_recipe_is_refused() -> None:
    world = World(template={"workers": {"command": ["train"]}})
    world.look()

    assert world.condition("Stalled") == ("True", "InvalidSpec")
    assert "template.recipe" in world.message()


def test_a_refused_child_is_said_and_tried_again_later() -> None:
    world = World()
    world.rejection = Rejection("create Job search-1", "exceeded quota")
    plan = world.look()

    assert world.condition("Ready") == ("False", "ChildRejected")
    assert world.status.attempt is None
    assert plan.actions
    world.rejection = None
    world.look()
    assert world.condition("Ready") == ("False", "Starting")


def test_a_finished_sweep_stays_as_it_is_and_is_deleted_when_its_time_is_up() -> None:
    world = searching(ttlSecondsAfterFinished=100, winner={"train": True})
    world.result = result(BEST, best=BEST)
    world.job_ends()
    assert world.look().wake_after == 100
    writes = world.status_writes
    world.forward(200)
    world.look()
    assert not world.deleted, "its winner would be deleted with it"

    world.training_jobs["search-winner"]["status"] = {"conditions": [{"type": "Succeeded", "status": "False"}]}
    world.look()
    assert world.deleted
    assert world.status_writes == writes


def test_what_no_view_shows_is_asked_for_before_the_winner_is_deleted_with_its_sweep() -> None:
    world = searching(ttlSecondsAfterFinished=0, winner={"train": True})
    world.result = result(BEST, best=BEST)
    world.job_ends()
    world.look()
    world.shown_training_jobs = {}
    world.look()
    assert not world.deleted

    world.training_jobs.clear()
    world.look()
    assert world.deleted


def test_an_old_view_of_the_sweep_does_not_train_the_winner_again() -> None:
    world = searching(winner={"train": True})
    world.result = result(BEST, best=BEST)
    world.job_ends()
    world.live = {**world.sweep, "status": {"completionTime": "2026-11-23T10:00:00Z"}}
    plan = world.look()

    assert plan.actions == ()
    assert plan.wake_after is not None
    assert world.status.completion_time is None


def test_a_sweep_that_is_being_deleted_is_left_alone() -> None:
    world = World()
    world.sweep["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z"

    assert world.look().actions == ()
