"""The loop around a trainer, with a trainer that only counts."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from modelwright.api.run import TrainingReport
from modelwright.api.trainingjob import CheckpointStatus
from modelwright.registry.store import ObjectStore
from modelwright.runtime.failure import EXIT_TERMINATED, RunError, explain
from modelwright.runtime.report import Reporter
from modelwright.runtime.train import learning
from modelwright.runtime.train.checkpoints import CheckpointStore, CheckpointWriter
from modelwright.runtime.train.learning import Learnt, Surroundings, learn, report
from modelwright.runtime.train.phases import Phases
from modelwright.runtime.train.stop import Stop
from modelwright.runtime.train.world import World
from modelwright.runtime.watchdog import Watchdog
from tests.unit.registry.fake_s3 import FakeS3, memory_store, refusal
from tests.unit.runtime_train.runs import run_of


@dataclass
class Counter:
    """A trainer whose state is the list of steps that it has done."""

    total_steps: int = 20
    steps_per_epoch: int = 4
    step: int = 0
    done: list[int] = field(default_factory=list)
    stop_at: int = -1
    nan_at: int = -1
    stop: Stop = field(default_factory=Stop)

    def advance(self, stop: bool = False) -> bool:
        self.step += 1
        self.done.append(self.step)
        if self.step == self.stop_at:
            self.stop.request()
        return stop

    @property
    def loss(self) -> float:
        return math.nan if self.step == self.nan_at or not self.done else 1 / self.step

    def capture(self) -> Callable[[], dict[str, bytes]]:
        text = ",".join(map(str, self.done)).encode()
        return lambda: {"done": text}

    def restore(self, step: int, files: dict[str, bytes]) -> None:
        self.step = step
        self.done = [int(number) for number in files["done"].split(b",")]

    def scores(self, features: Any) -> Any:
        raise AssertionError

    graph = weights = start_from = scores


class Collected(Reporter):
    def __init__(self) -> None:
        super().__init__(None)
        self.reports: list[Any] = []

    def send(self, report: Any) -> None:
        self.reports.append(report)


class Ticks:
    """A clock that moves by a second at each look."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 1
        return self.time


def around(trainer: Counter, attempt: int = 1, **checkpoint: Any) -> Surroundings:
    run, ticks = run_of(attempt, checkpoint=checkpoint or {"everySeconds": 10}), Ticks()
    return Surroundings(run, World(), trainer.stop, Collected(), ticks, phases=Phases(ticks))


def train(
    trainer: Counter,
    store: ObjectStore,
    attempt: int = 1,
    warm_start: Callable[[], None] | None = None,
    **checkpoint: Any,
) -> tuple[Learnt, list[TrainingReport]]:
    surroundings = around(trainer, attempt, **checkpoint)
    learnt = learn(trainer, CheckpointStore(store, surroundings.run, "same"), surroundings, warm_start)
    return learnt, surroundings.reporter.reports  # type: ignore[attr-defined]


class Breaking(Counter):
    """A trainer that cannot make its seventh step."""

    def advance(self, stop: bool = False) -> bool:
        if self.step == 6:
            raise ValueError("bad batch")
        return super().advance(stop)


def test_an_error_tells_at_which_step_it_happened() -> None:
    with pytest.raises(ValueError, match="bad batch") as caught:
        train(Breaking(), memory_store())
    assert explain(caught.value).step == 6


class Listening(Watchdog):
    """A watchdog that writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[int | str] = []

    def beat(self, step: int) -> None:
        self.told.append(step)

    def close(self) -> None:
        self.told.append("closed")


@pytest.mark.parametrize(("stop_at", "steps"), [(-1, 20), (7, 8)])
def test_every_step_is_told_and_nothing_is_watched_after_the_last(
    stop_at: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, watchdog = Counter(stop_at=stop_at), Listening()
    # Time stands still, so nothing is saved in between.
    surroundings = replace(around(trainer), watchdog=watchdog, now=lambda: 0.0)
    monkeypatch.setattr(CheckpointWriter, "wait", lambda writer: watchdog.told.append("saved"))
    with suppress(RunError):
        learn(trainer, CheckpointStore(memory_store(), surroundings.run, "same"), surroundings)
    told = [entry for entry in watchdog.told if isinstance(entry, int)]
    assert told == list(range(1, steps + 1))
    last = watchdog.told[watchdog.told.index(steps) :]
    assert last[:2] == [steps, "closed"], "the last save takes as long as it takes"


def test_it_trains_to_the_end_and_saves_on_the_timer_and_last() -> None:
    client = FakeS3()
    learnt, _ = train(Counter(), memory_store(client))
    assert learnt.checkpoint is not None
    assert learnt.checkpoint.step == 20
    assert learnt.resumed_from_step is None
    saved = [int(key.split("/")[-2]) for key in client.puts if key.endswith("manifest.json")]
    assert saved == sorted(saved)
    assert saved[0] < saved[-1] == 20


def test_a_checkpoint_that_is_due_while_another_is_written_is_saved_as_soon_as_that_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    trainer = Counter(total_steps=12)

    class Busy(CheckpointWriter):
        @property
        def busy(self) -> bool:
            return trainer.step < 7

        def save(self, step: int, save: Callable[[], CheckpointStatus | None]) -> None:
            asked.append(step)

    monkeypatch.setattr(learning, "CheckpointWriter", Busy)
    train(trainer, memory_store())
    assert asked[0] == 7


def test_reports_tell_step_epoch_loss_and_time_left() -> None:
    _, reports = train(Counter(), memory_store())
    first, last = reports[0].progress, reports[-1].progress
    assert first is not None
    assert last is not None
    assert (first.step, first.epoch, first.epochs, first.total_steps) == (1, 1, 5, 20)
    assert last.loss == pytest.approx(1 / last.step)
    assert last.eta_seconds is not None
    assert first.eta_seconds is not None
    assert last.eta_seconds < first.eta_seconds


def test_a_new_attempt_goes_on_where_the_last_checkpoint_is() -> None:
    store = memory_store()
    first = Counter(stop_at=7)
    with pytest.raises(RunError) as caught:
        train(first, store)
    assert caught.value.reason == "Terminated"
    assert caught.value.retryable
    assert caught.value.exit_code == EXIT_TERMINATED == 143
    second = Counter()
    learnt, reports = train(second, store, attempt=2)
    assert learnt.resumed_from_step == first.step == 8
    assert second.done == list(range(1, 21))
    assert {r.resumed_from_step for r in reports} == {8}


def test_it_saves_by_steps_where_the_user_counts_steps() -> None:
    client = FakeS3()
    train(Counter(), memory_store(client), everySteps=6, keep={"last": 100})
    saved = [int(key.split("/")[-2]) for key in client.puts if key.endswith("manifest.json")]
    assert saved == [6, 12, 18, 20]


def test_a_warm_start_is_for_a_job_without_a_checkpoint_of_its_own() -> None:
    store, started = memory_store(), list[str]()
    with pytest.raises(RunError):
        train(Counter(stop_at=3), store, warm_start=lambda: started.append("first"))
    train(Counter(), store, attempt=2, warm_start=lambda: started.append("second"))
    assert started == ["first"]


def test_the_operator_hears_of_the_last_checkpoint_of_a_run_that_leaves() -> None:
    trainer = Counter(stop_at=7)
    surroundings = around(trainer)
    with pytest.raises(RunError, match="saved at step 8"):
        learn(trainer, CheckpointStore(memory_store(), surroundings.run, "same"), surroundings)
    last = surroundings.reporter.reports[-1]  # type: ignore[attr-defined]
    assert last.checkpoint.step == last.progress.step == 8


def test_a_run_that_could_not_save_says_so() -> None:
    client = FakeS3()

    def down() -> None:
        raise refusal("ServiceUnavailable", 503)

    client.before_put["base/runs/ns/uid/checkpoints/000000000008/done"] = down
    with pytest.raises(RunError, match="step 8 could not be saved"):
        train(Counter(stop_at=7), memory_store(client))


def test_an_attempt_after_training_has_nothing_to_train() -> None:
    store = memory_store()
    train(Counter(), store)
    again = Counter()
    learnt, _ = train(again, store, attempt=2)
    assert again.done == list(range(1, 21))
    told = report(around(again, 2), learnt, "Evaluating")
    assert told.progress is not None


def test_a_loss_that_is_no_number_ends_it_without_a_retry() -> None:
    with pytest.raises(RunError, match="lower the learning rate") as caught:
        train(Counter(nan_at=20), memory_store())
    assert caught.value.reason == "Diverged"
    assert not caught.value.retryable


def test_reports_tell_what_the_time_was_spent_on_and_a_last_one_that_it_was_saved() -> None:
    trainer = Counter(stop_at=7)
    surroundings = around(trainer)
    with pytest.raises(RunError):
        learn(trainer, CheckpointStore(memory_store(), surroundings.run, "same"), surroundings)
    reports = surroundings.reporter.reports  # type: ignore[attr-defined]
    spent = [told.spent for told in reports]
    assert all(now.since == before.since and now.training >= before.training for before, now in pairwise(spent))
    assert (reports[0].progress.step, spent[0].saving) == (1, 0)
    assert spent[0].starting > 0, "the first step makes what is made at first use"
    assert (reports[-1].progress.step, reports[-1].checkpoint.step) == (8, 8)
    assert spent[-1].saving > 0


def test_what_comes_after_the_last_step_is_no_training() -> None:
    trainer = Counter()
    surroundings = around(trainer)
    learnt = learn(trainer, CheckpointStore(memory_store(), surroundings.run, "same"), surroundings)
    first, later = (report(surroundings, learnt, "Evaluating").spent for _ in range(2))
    assert first is not None
    assert later is not None
    assert first.training == later.training > 0
    assert later.evaluating > first.evaluating > 0
