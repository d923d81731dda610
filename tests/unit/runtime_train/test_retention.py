"""Which checkpoints stay, over every history of checkpoints that there may be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.checkpoint import Keep
from modelwright.runtime.train.retention import Kept, superfluous

_LOSSES = st.one_of(st.none(), st.floats(allow_nan=True), st.sampled_from([0.25, 0.5]))
_COMPLETE = st.dictionaries(st.integers(1, 60), _LOSSES, min_size=1)
_KEEPS = st.builds(
    lambda last, best, every: Keep.model_validate({"last": last, "best": best, "everySteps": every}),
    st.integers(1, 5),
    st.none() | st.fixed_dictionaries({"metric": st.just("loss"), "mode": st.sampled_from(["Min", "Max"])}),
    st.none() | st.integers(1, 20),
)


def kept(history: dict[int, float | None]) -> list[Kept]:
    return [Kept(step, {} if loss is None else {"loss": loss}) for step, loss in history.items()]


def left(history: dict[int, float | None], keep: Keep, written: int | None = None) -> list[int]:
    newest = written or max(history)
    return sorted(set(history) - set(superfluous(history, kept(history), keep, newest)))


@given(_COMPLETE, _KEEPS, st.sets(st.integers(1, 60)))
def test_the_newest_is_never_deleted_and_debris_below_it_always(
    history: dict[int, float | None], keep: Keep, debris: set[int]
) -> None:
    newest = max(history)
    gone = superfluous({*history, *debris}, kept(history), keep, newest)
    assert newest not in gone
    assert {step for step in debris - set(history) if step < newest} <= set(gone)
    assert all(step < newest for step in gone)


@given(_COMPLETE, _KEEPS)
def test_at_least_the_last_stay_and_no_more_than_was_asked_for(history: dict[int, float | None], keep: Keep) -> None:
    stay = left(history, keep)
    assert stay[-keep.last :] == sorted(history)[-keep.last :]
    stretches = {step // keep.every_steps for step in history} if keep.every_steps else set()
    assert len(stay) <= keep.last + (keep.best.count if keep.best else 0) + len(stretches)


@given(_COMPLETE, _KEEPS)
def test_pruning_twice_deletes_nothing_more(history: dict[int, float | None], keep: Keep) -> None:
    once = {step: history[step] for step in left(history, keep)}
    assert left(once, keep) == sorted(once)


@given(_COMPLETE, _KEEPS)
def test_pruning_after_each_save_leaves_what_pruning_at_the_end_would(
    history: dict[int, float | None], keep: Keep
) -> None:
    present: dict[int, float | None] = {}
    for step in sorted(history):
        present[step] = history[step]
        present = {kept_step: history[kept_step] for kept_step in left(present, keep)}
    assert sorted(present) == left(history, keep)


def test_what_lies_beyond_was_left_by_an_attempt_that_was_cut_off_and_stays() -> None:
    assert left({5: None, 10: None, 90: None}, Keep(last=1), written=10) == [10, 90]


def test_the_best_stay_by_either_end_and_the_newer_of_equals() -> None:
    history: dict[int, float | None] = {5: 0.4, 10: 0.1, 15: 0.1, 20: math.nan, 25: 0.9, 30: 0.5}
    least = Keep.model_validate({"last": 1, "best": {"metric": "loss", "mode": "Min"}})
    most = Keep.model_validate({"last": 1, "best": {"metric": "loss", "mode": "Max", "count": 2}})
    assert left(history, least) == [15, 30]
    assert left(history, most) == [25, 30]


@pytest.mark.parametrize(("every", "stay"), [(10, [3, 10, 21, 35]), (100, [3, 35])])
def test_a_trail_of_checkpoints_stays_for_good(every: int, stay: list[int]) -> None:
    history = dict.fromkeys((3, 7, 10, 14, 21, 28, 35))
    assert left(history, Keep(last=1, every_steps=every)) == stay
