"""What the driver decides: what is left to search, on which rows, and when a search is finished. Ray is a stand-in."""

from typing import Any

import pytest
from ray.tune import TuneConfig

from modelwright.api.recipe import TabularRecipe
from modelwright.api.run import Run, SweepResult
from modelwright.api.trainingjob import Dataset
from modelwright.api.tuningsweep import Trial, TrialState
from modelwright.registry.store import ObjectStore
from modelwright.runtime.failure import RunError
from modelwright.runtime.train.problem import Split, prepare
from modelwright.runtime.tune import driver
from modelwright.runtime.tune.cluster import Share
from tests.unit.registry.fake_s3 import memory_store
from tests.unit.runtime_train.tables import as_csv, cancer, csv_table

RECIPE = {"task": "Classification", "target": "diagnosis"}
SPACE = [{"name": "lightGBM.numLeaves", "int": {"min": 2, "max": 128}}]
KEY = "runs/team/uid/sweep.json"


def run_of(recipe: Any = RECIPE, dataset: bool = True, **sweep: Any) -> Run:
    training: dict[str, Any] = {"recipe": {"tabular": recipe}} if recipe else {}
    if dataset:
        training["dataset"] = {"uri": "s3://bucket/base/data/cells.csv"}
    template = {"recipe": {"tabular": RECIPE}}
    spec = {"template": template, "searchSpace": SPACE, "objective": {"metric": "roc_auc"}, "maxTrials": 3, **sweep}
    document = {"namespace": "team", "name": "s", "uid": "uid", "attempt": 2, "storage": {"uri": "s3://bucket/base"}}
    return Run.model_validate({**document, "training": training, "sweep": spec})


class FakeTuner:
    """Remembers what it was made with, and breaks when it is told to."""

    def __init__(self, trainable: Any, tune_config: TuneConfig, run_config: Any) -> None:
        self.resources, self.asked, self.failures = trainable, tune_config, run_config.failure_config
        self.broken: Exception | None = None

    def fit(self) -> None:
        if self.broken:
            raise self.broken


class World:
    """A store with data in it, and Ray as the driver sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store: ObjectStore = memory_store()
        self.store.write("data/cells.csv", as_csv(cancer()))
        self.waited: list[int] = []
        self.shared: list[Split] = []
        self.tuners: list[FakeTuner] = []
        self.left = 0
        self.broken: Exception | None = None
        monkeypatch.setattr(driver, "open_store", lambda storage: self.store)
        monkeypatch.setattr(driver, "wait_for_nodes", self.waited.append)
        monkeypatch.setattr(driver, "share_of", lambda parallelism: Share(cpus=0.5, gpus=0.0))
        monkeypatch.setattr(driver, "trainable", lambda task, split: (task, split))
        monkeypatch.setattr(driver.ray, "init", lambda **settings: None)
        monkeypatch.setattr(driver.ray, "put", lambda split: self.shared.append(split) or "reference")
        monkeypatch.setattr(driver.ray, "shutdown", self._leave)
        monkeypatch.setattr(driver.tune, "with_resources", lambda trainable, wanted: (trainable, wanted))
        monkeypatch.setattr(driver.tune, "Tuner", self._tuner)

    def remember(self, *values: float | None) -> None:
        """Leave the trials of an earlier attempt, numbered from 1; None is one that failed."""
        trials = [
            Trial(number=number, state=TrialState.FAILED if value is None else TrialState.SUCCEEDED, value=value)
            for number, value in enumerate(values, 1)
        ]
        self.store.write_json(KEY, SweepResult(attempt=1, finished=False, trials=tuple(trials)).document())

    @property
    def result(self) -> SweepResult:
        found = self.store.read_document(KEY, SweepResult)
        assert found is not None
        return found

    def _leave(self) -> None:
        self.left += 1

    def _tuner(self, *args: Any, **settings: Any) -> FakeTuner:
        tuner = FakeTuner(*args, **settings)
        tuner.broken = self.broken
        self.tuners.append(tuner)
        return tuner


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_the_budget_counts_the_trials_of_earlier_attempts_those_that_failed_too(world: World) -> None:
    world.remember(0.9, None)
    driver.search(run_of(maxTrials=7, parallelism=4, workers={"replicas": 3}))
    (tuner,) = world.tuners
    assert (tuner.asked.num_samples, tuner.asked.max_concurrent_trials) == (5, 4)
    assert tuner.asked.search_alg.suggest("next")["number"] == 3
    assert world.waited == [3]
    (task, split), wanted = tuner.resources
    assert (task.metric, split, wanted) == ("roc_auc", "reference", {"cpu": 0.5, "gpu": 0.0})
    assert TabularRecipe.model_validate(task.recipe) == TabularRecipe.model_validate(RECIPE)


@pytest.mark.parametrize("trials", [3, 4])
def test_a_budget_that_is_spent_is_a_finished_search_and_needs_neither_data_nor_pods(world: World, trials: int) -> None:
    world.store.delete_prefix("data/")
    world.remember(*(0.5 + number / 100 for number in range(trials)))
    driver.search(run_of(maxTrials=3))
    assert world.tuners == []
    assert (world.result.finished, world.result.attempt) == (True, 2)
    assert world.result.best_trial == world.result.trials[-1]


def test_trials_are_scored_on_rows_that_the_gate_does_not_use(world: World) -> None:
    driver.search(run_of())
    (given,) = world.shared
    dataset = Dataset(uri="s3://bucket/base/data/cells.csv")
    gate = prepare(csv_table(cancer()), TabularRecipe.model_validate(RECIPE), dataset)
    assert len(given.train) + len(given.held_out) == len(gate.train)
    held_out = set(map(repr, gate.held_out.features.to_numpy().tolist()))
    assert not held_out & set(map(repr, given.held_out.features.to_numpy().tolist()))


def test_a_search_that_breaks_leaves_the_cluster_and_is_not_finished(world: World) -> None:
    world.remember(0.9)
    world.broken = RuntimeError("the cluster is gone")
    with pytest.raises(RuntimeError, match="the cluster is gone"):
        driver.search(run_of())
    assert world.left == 1
    assert not world.result.finished


def test_a_search_that_ends_is_finished_and_leaves_the_cluster(world: World) -> None:
    driver.search(run_of())
    assert world.left == 1
    assert world.result.finished


@pytest.mark.parametrize("early", [None, {"asha": {"gracePeriod": 1, "reductionFactor": 3}}])
def test_a_process_that_dies_is_replaced_but_a_trial_is_not_repeated_for_ever(world: World, early: Any) -> None:
    driver.search(run_of(earlyStopping=early))
    (tuner,) = world.tuners
    assert tuner.failures.max_failures == 2
    assert type(tuner.asked.scheduler).__name__ == ("RememberingAsha" if early else "FIFOScheduler")


@pytest.mark.parametrize(
    ("run", "missing"),
    [
        (run_of().model_copy(update={"sweep": None}), "no sweep, or no recipe"),
        (run_of(recipe=None), "no sweep, or no recipe"),
        (run_of(dataset=False), "no dataset"),
    ],
)
def test_a_run_without_something_to_search_is_refused_for_good(world: World, run: Run, missing: str) -> None:
    with pytest.raises(RunError, match=missing) as caught:
        driver.search(run)
    assert (caught.value.reason, caught.value.retryable) == ("RunInvalid", False)
