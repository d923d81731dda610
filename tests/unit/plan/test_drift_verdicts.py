from datetime import timedelta

import pytest

from modelwright.api.common import Storage
from modelwright.plan import drift
from modelwright.plan.actions import ObjectWatch
from modelwright.plan.observed import Observed
from modelwright.plan.questions import ReadDocument, ReadDocuments, Store, Unavailable
from modelwright.plan.settings import Settings
from tests.unit.plan.drift_world import MOVED, REFERENCE, SETTINGS, STILL, World


def watching(**spec: object) -> World:
    """A policy that only watches."""
    return World(retraining=None, **spec)


def test_live_data_like_the_training_data_is_watched() -> None:
    world = watching()
    world.traffic(STILL)
    plan = world.look()

    assert world.condition("Ready") == ("True", "Watching")
    assert world.condition("Drifted") == ("False", "NoShift")
    assert world.status.drift is not None
    assert world.status.drift.samples == 1000
    assert plan.wake_after == 60
    assert plan.watches == (ObjectWatch("ModelDeployment", "team", "delay"),)


def test_a_test_reads_the_reference_and_the_windows_of_the_version_that_serves() -> None:
    world = watching()
    world.traffic()
    world.look()

    store = Store(SETTINGS.resolve(Storage()), "team", None)  # type: ignore[arg-type]
    below = "monitoring/team/delay/1/"
    assert ReadDocument(store, "models/delay/versions/1/reference.json") in world.asked
    oldest = int(world.now.timestamp()) - 600
    assert ReadDocuments(store, below, f"{below}{oldest:012d}/") in world.asked


def test_drift_is_called_only_after_enough_failed_tests_in_a_row() -> None:
    world = watching(test={"intervalSeconds": 60, "consecutive": 3})
    world.traffic(MOVED)
    seen = []
    for _ in range(4):
        world.look()
        assert world.status.drift is not None
        seen.append((world.status.drift.drifted, world.status.drift.consecutive, world.status.drift.since))
        world.forward(60)

    since = "2026-11-23T10:02:00Z"
    assert seen == [(False, 1, None), (False, 2, None), (True, 3, since), (True, 4, since)]
    assert world.condition("Drifted") == ("True", "ColumnsMoved")
    assert world.message("Drifted") == "age moved"
    assert world.condition("Ready") == ("True", "Drifted")


def test_one_failed_test_is_not_yet_drift_and_is_said() -> None:
    world = watching()
    world.traffic(MOVED)
    world.look()

    assert world.condition("Drifted") == ("False", "NotConsecutive")
    assert world.message("Drifted") == "age moved, but not yet in 2 tests in a row"


def test_a_test_that_passes_ends_the_drift() -> None:
    world = watching(test={"intervalSeconds": 60, "consecutive": 1})
    world.traffic(MOVED)
    world.look()
    world.forward(60)
    world.traffic(STILL)
    world.look()

    assert world.status.drift is not None
    assert (world.status.drift.drifted, world.status.drift.consecutive, world.status.drift.since) == (False, 0, None)
    assert world.condition("Ready") == ("True", "Watching")


def test_drift_is_announced_once() -> None:
    world = watching(test={"intervalSeconds": 60, "consecutive": 1})
    world.traffic(MOVED)
    first = world.look()
    world.forward(60)
    second = world.look()

    assert "DriftDetected" in [event.reason for event in first.events]
    assert "DriftDetected" not in [event.reason for event in second.events]


def test_the_windows_of_all_replicas_count_together() -> None:
    world = watching()
    world.traffic((60, 60, 60, 60, 0), replicas=3)
    world.look()

    assert world.status.drift is not None
    assert world.status.drift.samples == 720


def test_too_few_rows_are_a_declared_outcome_and_no_verdict() -> None:
    world = watching()
    world.traffic((70, 10, 10, 10, 0))
    world.look()

    assert world.status.drift is not None
    assert (world.status.drift.samples, world.status.drift.columns) == (100, ())
    assert world.condition("Drifted") == ("False", "NotEnoughSamples")
    assert world.condition("Ready") == ("True", "Watching")
    assert "spec.test.minSamples (500)" in world.message()


def test_a_quiet_hour_neither_clears_drift_nor_adds_to_it() -> None:
    world = watching(test={"intervalSeconds": 60, "consecutive": 1})
    world.traffic(MOVED)
    world.look()
    called = world.status.drift
    world.forward(60)
    world.traffic((20, 20, 20, 20, 0))
    world.look()

    assert called is not None
    assert world.status.drift is not None
    assert (world.status.drift.drifted, world.status.drift.consecutive) == (True, 1)
    assert world.status.drift.since == called.since
    assert world.message("Drifted").endswith("the last verdict stands")


def test_another_version_starts_with_a_clean_slate_and_is_tested_at_once() -> None:
    world = watching(test={"intervalSeconds": 60, "consecutive": 1})
    world.traffic(MOVED)
    world.look()
    assert world.deployment is not None
    world.deployment["status"]["serving"]["version"] = 2
    world.traffic(STILL, version=2)
    world.forward(5)
    world.look()

    assert world.status.drift is not None
    assert (world.status.drift.version, world.status.drift.drifted) == (2, False)


@pytest.mark.parametrize(
    "broken",
    [
        {"nonsense": 1},
        {"model": "other"},
        {"version": 7},
        {"columns": {"age": [1, 2]}},
        {"columns": {}},
        {"columns": {"age": [-5, 5, 0, 0, 0]}},
        {"prediction": [1]},
    ],
)
def test_a_window_that_does_not_fit_is_left_out(broken: dict[str, object]) -> None:
    world = watching()
    world.traffic()
    assert isinstance(world.windows, list)
    fits = world.windows[0]
    world.windows.append(broken if "nonsense" in broken else {**fits, "rows": 9999, **broken})
    world.look()

    assert world.status.drift is not None
    assert world.status.drift.samples == 1000


def test_the_columns_that_moved_most_come_first_and_only_twenty_are_kept() -> None:
    world = watching()
    names = [f"c{number:02d}" for number in range(30)]
    world.reference = {**REFERENCE, "columns": [{**REFERENCE["columns"][0], "name": name} for name in names]}
    world.traffic()
    assert isinstance(world.windows, list)
    world.windows[0]["columns"] = dict.fromkeys(names, STILL) | {"c07": MOVED, "c21": (900, 50, 25, 25, 0)}
    world.look()

    assert world.status.drift is not None
    columns = world.status.drift.columns
    assert len(columns) == 20
    assert [column.column for column in columns[:2]] == ["c21", "c07"]
    assert [column.drifted for column in columns[:3]] == [True, True, False]


def test_predictions_are_tested_like_a_column() -> None:
    world = watching(test={"intervalSeconds": 60, "consecutive": 1})
    world.traffic()
    assert isinstance(world.windows, list)
    world.windows[0]["prediction"] = [900, 100, 0]
    world.look()

    assert world.message("Drifted") == "prediction moved"


def test_windows_that_take_long_to_read_are_read_once() -> None:
    world = watching()
    world.traffic()
    world.slowness = timedelta(seconds=7)
    world.look()

    assert len([question for question in world.asked if isinstance(question, ReadDocuments)]) == 1
    assert world.condition("Ready") == ("True", "Watching")


def test_between_two_tests_nothing_is_read_and_nothing_is_written() -> None:
    world = watching()
    world.traffic()
    world.look()
    world.asked.clear()
    world.forward(20)
    plan = world.look()

    assert world.status_writes == 1
    assert not [question for question in world.asked if isinstance(question, ReadDocument | ReadDocuments)]
    assert plan.wake_after == 40


def test_a_policy_on_alerts_alone_sleeps_until_something_happens() -> None:
    world = World(test=None)
    plan = world.look()

    assert plan.wake_after is None
    assert world.condition("Ready") == ("True", "Watching")
    assert world.condition("Drifted") is None


def test_a_clock_that_was_set_back_does_not_stop_the_tests() -> None:
    world = watching()
    world.traffic()
    world.look()
    world.forward(-86400)

    assert world.look().wake_after == 60


def test_a_deployment_that_is_not_there_is_named_and_waited_for() -> None:
    world = watching()
    world.deployment = None
    plan = world.look()

    assert world.condition("Ready") == ("False", "DeploymentNotFound")
    assert world.condition("Reconciling") == ("True", "DeploymentNotFound")
    assert "no ModelDeployment delay" in world.message()
    assert plan.watches


def test_a_deployment_that_serves_nothing_yet_has_no_data() -> None:
    world = watching()
    assert world.deployment is not None
    world.deployment["status"] = {}
    world.look()

    assert world.condition("Ready") == ("False", "NoData")


def test_no_request_at_all_is_no_data() -> None:
    world = watching()
    world.look()

    assert world.condition("Ready") == ("False", "NoData")
    assert "answered no request" in world.message()


@pytest.mark.parametrize(
    ("monitoring", "says"),
    [
        ({"enabled": False}, "spec.monitoring.enabled"),
        ({"windowSeconds": 3600}, "raise spec.test.windowSeconds"),
    ],
)
def test_a_deployment_that_cannot_give_data_is_stalled_with_what_to_change(
    monitoring: dict[str, object], says: str
) -> None:
    world = watching()
    assert world.deployment is not None
    world.deployment["spec"]["monitoring"] = monitoring
    world.look()

    assert world.condition("Stalled") == ("True", "NoData")
    assert says in world.message()


def test_a_test_that_would_read_windows_without_end_is_stalled_with_what_to_change() -> None:
    world = watching(test={"windowSeconds": 7 * 86400})
    assert world.deployment is not None
    world.deployment["spec"]["monitoring"] = {"windowSeconds": 60}
    world.look()

    assert world.condition("Stalled") == ("True", "NoData")
    assert "10080 windows" in world.message()
    assert "raise spec.monitoring.windowSeconds of ModelDeployment delay" in world.message()


def test_a_secret_that_is_not_there_is_named() -> None:
    world = watching()
    world.settings = Settings("runtime", "server", storage=Storage(uri="s3://models/team", secret_name="s3-keys"))
    world.windows = Unavailable("there is no Secret s3-keys")
    world.look()

    assert world.condition("Ready") == ("False", "SecretNotFound")
    assert "s3-keys" in world.message()


def test_what_is_wrong_is_told_once_as_an_event() -> None:
    world = watching()
    world.deployment = None
    assert [(event.type, event.reason) for event in world.look().events] == [("Warning", "DeploymentNotFound")]
    world.forward(60)
    assert world.look().events == ()
    world.policy["spec"]["test"]["minSamples"] = 3
    assert [(event.type, event.reason) for event in world.look().events] == [("Warning", "InvalidSpec")]
    assert world.look().events == ()


def test_storage_that_is_down_is_said_and_tried_again_after_an_interval() -> None:
    world = watching()
    world.windows = Unavailable("s3://models cannot be reached")
    plan = world.look()

    assert world.condition("Ready") == ("False", "StorageUnavailable")
    assert world.message() == "s3://models cannot be reached"
    assert plan.wake_after == 60
    world.windows = []
    world.traffic()
    world.look()
    assert world.condition("Ready") == ("True", "Watching")


@pytest.mark.parametrize("reference", [None, {"rows": 1}])
def test_a_version_without_a_reference_cannot_be_watched(reference: dict[str, object] | None) -> None:
    world = watching()
    world.reference = reference
    world.look()

    assert world.condition("Stalled") == ("True", "NoData")
    assert "version 1 of delay has no readable reference.json" in world.message()


def test_without_any_storage_the_policy_says_where_to_set_it() -> None:
    world = watching()
    question = drift.plan(Observed(world.policy), SETTINGS, world.now).questions[0]  # type: ignore[union-attr]
    observed = Observed(world.policy, answers={question: world.deployment})
    plan = drift.plan(observed, Settings("runtime", "server"), world.now)

    assert not isinstance(plan, drift.Ask)
    assert plan.status["conditions"][0]["reason"] == "StorageNotConfigured"


def test_a_suspended_policy_makes_no_test_and_keeps_what_it_saw() -> None:
    world = watching()
    world.traffic()
    world.look()
    seen = world.status.drift
    world.policy["spec"]["suspend"] = True
    world.asked.clear()
    world.forward(3600)
    plan = world.look()

    assert world.status.drift == seen
    assert world.condition("Ready") == ("False", "Suspended")
    assert world.condition("Suspended") == ("True", "Suspended")
    assert (world.asked, plan.wake_after) == ([], None)


def test_a_spec_that_cannot_be_read_is_stalled_and_forgets_nothing() -> None:
    world = watching()
    world.traffic()
    world.look()
    seen = world.status.drift
    world.policy["spec"]["test"]["minSamples"] = 3
    world.look()

    assert world.condition("Stalled") == ("True", "InvalidSpec")
    assert world.message().startswith("spec.test.minSamples: ")
    assert world.status.drift == seen
    writes = world.status_writes
    world.forward(600)
    world.look()
    assert world.status_writes == writes
