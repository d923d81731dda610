import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from modelwright.api.run import Run, SweepResult
from modelwright.api.tuningsweep import Asha, EarlyStopping, Objective, TrialState
from modelwright.registry.errors import StoreError
from modelwright.runtime.tune.book import Book
from modelwright.runtime.tune.keeper import Keeper, earlier_trials
from modelwright.runtime.tune.searcher import EPOCH, FAILURE, FINISHED, OBJECTIVE
from modelwright.runtime.tune.watch import RememberingAsha, Watch, scheduler

RUN = Run.model_validate(
    {"namespace": "team", "name": "s", "uid": "u", "attempt": 2, "storage": {"uri": "s3://models"}, "training": {}}
)


class Store:
    """A store that keeps JSON, and is down when told so."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.down = False

    def write_json(self, key: str, document: dict[str, Any]) -> str:
        if self.down:
            raise StoreError("no route to s3", retryable=True)
        self.documents[key] = document
        return "etag"

    def read_document(self, key: str, kind: type[SweepResult]) -> SweepResult | None:
        return kind.model_validate(self.documents[key]) if key in self.documents else None

    @property
    def result(self) -> SweepResult:
        return SweepResult.model_validate(self.documents["runs/team/u/sweep.json"])


class Fixture:
    def __init__(self, stops: TrialScheduler | None = None) -> None:
        self.store, self.reports = Store(), []  # type: Store, list[SweepReport]
        self.book = Book(Objective(metric="roc_auc"), RUN.attempt)
        reporter = SimpleNamespace(send=self.reports.append)
        self.keeper = Keeper(RUN, self.store, reporter, self.book)  # type: ignore[arg-type]
        self.watch = Watch(self.book, self.keeper, stops or FIFOScheduler())

    def start(self, number: int) -> Any:
        config = {"number": number, "parameters": {"algorithm": "LightGBM"}}
        trial = SimpleNamespace(trial_id=f"id{number}", config=config, last_result={})
        self.watch.on_trial_start(0, [], trial)
        return trial

    def end(self, number: int, **result: Any) -> None:
        trial = self.start(number)
        trial.last_result = result
        self.watch.on_trial_complete(0, [], trial)


def test_a_trial_that_ends_is_on_s3_and_reported_at_once() -> None:
    world = Fixture()
    world.end(1, **{OBJECTIVE: 0.9, EPOCH: 3, FINISHED: True})

    (kept,) = world.store.result.trials
    assert (kept.number, kept.state, kept.value) == (1, TrialState.SUCCEEDED, 0.9)
    assert kept.parameters[0].value == "LightGBM"
    assert [report.trials.running for report in world.reports] == [1, 0]
    assert world.reports[-1].best_trial == kept
    assert not world.store.result.finished
    assert earlier_trials(world.store, RUN) == (kept,)  # type: ignore[arg-type]


def test_a_trial_that_told_of_an_error_has_failed_even_with_an_objective() -> None:
    world = Fixture()
    world.end(1, **{OBJECTIVE: 0.9, FAILURE: "diverged"})

    assert [(t.state, t.message) for t in world.book.ended] == [(TrialState.FAILED, "diverged")]


def test_a_trial_that_was_interrupted_counts_for_nothing() -> None:
    world = Fixture()
    world.end(1, **{OBJECTIVE: 0.9, EPOCH: 1})

    assert world.book.ended == ()
    assert world.store.documents == {}


def test_a_trial_that_was_stopped_early_counts_with_its_last_result() -> None:
    stops = scheduler(EarlyStopping(asha=Asha(grace_period=1, reduction_factor=2)), "max")
    assert isinstance(stops, RememberingAsha)
    stops.stopped.add("id1")
    world = Fixture(stops)
    world.end(1, **{OBJECTIVE: 0.4, EPOCH: 1})

    assert [(t.state, t.value) for t in world.book.ended] == [(TrialState.STOPPED, 0.4)]


def test_asha_stops_the_worse_of_two_and_remembers_it() -> None:
    stops = scheduler(EarlyStopping(asha=Asha(grace_period=1, reduction_factor=2)), "min")
    good, bad = SimpleNamespace(trial_id="good"), SimpleNamespace(trial_id="bad")
    for trial in (good, bad):
        stops.on_trial_add(None, trial)

    assert stops.on_trial_result(None, good, {OBJECTIVE: 0.1, EPOCH: 1}) == TrialScheduler.CONTINUE
    assert stops.on_trial_result(None, bad, {OBJECTIVE: 0.9, EPOCH: 1}) == TrialScheduler.STOP
    assert stops.stopped == {"bad"}
    assert stops.on_trial_result(None, good, {FAILURE: "broke"}) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("early", [None, EarlyStopping()])
def test_without_early_stopping_every_trial_runs_to_its_end(early: EarlyStopping | None) -> None:
    assert isinstance(scheduler(early, "max"), FIFOScheduler)


def test_a_trial_whose_process_dies_each_time_has_failed() -> None:
    world = Fixture()
    world.watch.on_trial_error(0, [], world.start(1))

    assert world.book.ended[0].state is TrialState.FAILED
    assert "its process died" in (world.store.result.trials[0].message or "")


def test_while_the_store_is_down_the_search_goes_on_and_the_next_write_catches_up() -> None:
    world = Fixture()
    world.store.down = True
    world.end(1, **{OBJECTIVE: 0.9, FINISHED: True})
    assert world.reports[-1].trials.succeeded == 1
    world.store.down = False
    world.end(2, **{OBJECTIVE: 0.8, FINISHED: True})

    assert [trial.number for trial in world.store.result.trials] == [1, 2]


def test_a_complete_result_that_cannot_be_written_is_an_error() -> None:
    world = Fixture()
    world.store.down = True
    with pytest.raises(StoreError):
        world.keeper.finish()
    world.store.down = False
    world.keeper.finish()

    assert world.store.result.finished


def test_the_watch_can_be_pickled_as_ray_does_though_its_connections_cannot() -> None:
    world = Fixture()
    world.watch._keeper = lambda: None  # type: ignore[assignment]

    assert pickle.loads(pickle.dumps(world.watch)).__dict__ == {}  # noqa: S301 (our own bytes)
