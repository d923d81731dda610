import math

import pytest

from modelwright.api.run import SweepResult
from modelwright.api.tuningsweep import Goal, Objective, Trial, TrialCounts, TrialState
from modelwright.runtime.tune.book import Book, direction

AUC, LOSS = Objective(metric="roc_auc"), Objective(metric="log_loss")


def begin(book: Book, *numbers: int) -> None:
    for number in numbers:
        book.begin(Trial(number=number, state=TrialState.RUNNING))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (AUC, "maximize"),
        (LOSS, "minimize"),
        (Objective(metric="rmse"), "minimize"),
        (Objective(metric="rmse", goal=Goal.MAXIMIZE), "maximize"),
    ],
)
def test_the_direction_is_the_metric_s_unless_the_user_says_otherwise(objective: Objective, expected: str) -> None:
    assert direction(objective) == expected


@pytest.mark.parametrize(("objective", "best"), [(AUC, 2), (LOSS, 1)])
def test_the_best_trial_is_the_one_that_the_objective_asks_for(objective: Objective, best: int) -> None:
    book = Book(objective, 1)
    begin(book, 1, 2, 3)
    for number, value in [(1, 0.2), (2, 0.9), (3, 0.5)]:
        book.succeed(number, value, stopped=number == 3)

    assert book.best is not None
    assert book.best.number == best


def test_of_equals_the_first_number_is_the_best_whichever_ended_first() -> None:
    book = Book(AUC, 1)
    begin(book, 1, 2)
    book.succeed(2, 0.9, stopped=False)
    book.succeed(1, 0.9, stopped=False)

    assert book.best is not None
    assert book.best.number == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.9"])
@pytest.mark.parametrize("objective", [AUC, LOSS])
def test_what_is_no_number_is_a_failure_and_never_the_best(value: object, objective: Objective) -> None:
    book = Book(objective, 1)
    begin(book, 1)
    book.succeed(1, value, stopped=False)

    assert book.best is None
    assert book.ended[0].state is TrialState.FAILED
    assert book.ended[0].message
    assert book.ended[0].value is None


def test_a_report_counts_the_trials_of_all_attempts_and_shows_the_newest_ten() -> None:
    earlier = Book(AUC, 1)
    for number in range(1, 12):
        begin(earlier, number)
        earlier.succeed(number, number / 100, stopped=number % 2 == 0)
    begin(earlier, 12, 13)
    earlier.fail(12, "broke")
    book = Book(AUC, 2, earlier.ended)
    begin(book, 13)
    report = book.report()

    assert report.attempt == 2
    assert report.trials == TrialCounts(running=1, succeeded=6, stopped=5, failed=1)
    assert [trial.number for trial in report.history] == list(range(3, 13))
    assert report.best_trial is not None
    assert report.best_trial.number == 11


def test_the_record_survives_its_way_through_json_and_is_continued() -> None:
    book = Book(LOSS, 1)
    begin(book, 1, 2)
    book.succeed(1, 0.25, stopped=False)
    kept = SweepResult.model_validate_json(book.result(finished=False).model_dump_json(by_alias=True))
    after = Book(LOSS, 2, kept.trials)

    assert after.ended == book.ended
    assert after.best == book.best
    assert after.next_number() == 2, "trial 2 was interrupted: it counts for nothing"


def test_a_trial_that_starts_again_is_one_trial() -> None:
    book = Book(AUC, 1)
    begin(book, 1)
    begin(book, 1)
    book.succeed(1, 0.5, stopped=False)
    book.succeed(1, 0.6, stopped=False)

    assert [(trial.number, trial.value) for trial in book.ended] == [(1, 0.5)]
    assert book.report().trials == TrialCounts(succeeded=1)


def test_a_long_error_is_cut() -> None:
    book = Book(AUC, 1)
    begin(book, 1)
    book.fail(1, "x" * 10_000)

    assert len(book.ended[0].message or "") == 500
