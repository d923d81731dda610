"""Counting in the reference's bins."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.api.artifacts import ColumnKind, Reference, ReferenceColumn
from modelwright.runtime.monitor.bins import NumericBins, TextBins, bin_names
from modelwright.runtime.monitor.counters import PENDING_ROWS, Counters

AGE = ReferenceColumn(name="age", kind=ColumnKind.NUMERIC, edges=(0.1, 30.0), counts=(1, 2, 3, 0))
CITY = ReferenceColumn(name="city", kind=ColumnKind.CATEGORICAL, categories=("Basel", "Bern"), counts=(1, 2, 3, 0))
LABEL = ReferenceColumn(name="p", kind=ColumnKind.CATEGORICAL, categories=("no", "yes"), counts=(4, 2, 0, 0))
SCORE = ReferenceColumn(name="p", kind=ColumnKind.NUMERIC, edges=(0.5,), counts=(4, 2, 0))
REFERENCE = Reference(rows=6, columns=(AGE, CITY), prediction=LABEL)


def record(counters: Counters, ages: list[float], cities: list[str], labels: list[str]) -> None:
    counters.record(
        np.array([ages], dtype=np.float32), np.array([cities], dtype=object), np.array(labels, dtype=object)
    )


@pytest.fixture
def counters() -> Counters:
    return Counters(REFERENCE, ["age"], ["city"])


def test_a_value_on_an_edge_belongs_to_the_bin_below_even_after_rounding_to_float32():
    values = np.array([0.1, 0.1000001, 30, 31, -np.inf, np.inf, np.nan], dtype=np.float32)
    assert NumericBins(AGE).count(values).tolist() == [2, 2, 2, 1]


def test_categories_others_and_missing_have_bins_of_their_own():
    bins = TextBins(CITY)
    assert bins.codes(["Bern", "Basel", "Paris", "", "bern"]) == [1, 0, 2, 3, 2]


def test_bins_are_named_by_number_and_the_last_is_missing():
    assert bin_names(AGE) == bin_names(CITY) == ["0", "1", "2", "missing"]


def test_rows_are_counted_by_column(counters: Counters):
    record(counters, [20, 40], ["Bern", "x"], ["yes", "no"])
    record(counters, [np.nan], [""], ["yes"])
    total = counters.total()
    assert total.rows == 3
    assert total.columns["age"].tolist() == [0, 1, 1, 1]
    assert total.columns["city"].tolist() == [0, 1, 1, 1]
    assert total.prediction.tolist() == [1, 2, 0, 0]


def test_numbers_that_are_predicted_are_binned():
    counters = Counters(REFERENCE.model_copy(update={"prediction": SCORE}), ["age"], ["city"])
    counters.record(
        np.zeros((1, 3), np.float32), np.full((1, 3), "Bern", object), np.array([0.5, 0.6, np.nan], np.float32)
    )
    assert counters.total().prediction.tolist() == [1, 1, 1]


def test_a_window_begins_where_the_last_one_ended_and_totals_go_on(counters: Counters):
    record(counters, [20], ["Bern"], ["yes"])
    assert counters.take_window().rows == 1
    assert counters.take_window().rows == 0
    record(counters, [20, 20], ["Bern", "Bern"], ["yes", "no"])
    assert counters.take_window().rows == 2
    assert counters.total().rows == 3


def test_columns_that_the_reference_does_not_have_are_passed_over():
    counters = Counters(REFERENCE, ["new", "age"], ["city"])
    counters.record(np.array([[1], [20]], np.float32), np.array([["Bern"]], object), np.array(["no"], object))
    assert {name: counts.tolist() for name, counts in counters.total().columns.items()} == {
        "age": [0, 1, 0, 0], "city": [0, 1, 0, 0],
    }  # fmt: skip


def test_a_model_without_columns_of_a_kind_is_counted():
    counters = Counters(Reference(rows=6, columns=(AGE,), prediction=LABEL), ["age"], [])
    counters.record(np.array([[20, 40]], np.float32), np.empty((0, 2), object), np.array(["no", "no"], object))
    assert counters.total().rows == 2


@settings(deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([-1.0, 0.1, 0.2, 30.0, 99.0, float("nan")]),
                st.sampled_from(["Bern", "Basel", "Paris", ""]),
                st.sampled_from(["no", "yes"]),
            ),
            min_size=1,
            max_size=5,
        ),
        max_size=8,
    )
)
def test_how_rows_are_batched_does_not_matter(batches: list[list[tuple[float, str, str]]]):
    counters, reference = Counters(REFERENCE, ["age"], ["city"]), Counters(REFERENCE, ["age"], ["city"])
    rows = [row for batch in batches for row in batch]
    for batch in batches:
        record(counters, *map(list, zip(*batch, strict=True)))
        counters.total()
    for row in rows:
        record(reference, *([value] for value in row))
    one, other = counters.total(), reference.total()
    assert one.rows == other.rows == len(rows)
    assert one.prediction.tolist() == other.prediction.tolist()
    for name in ("age", "city"):
        assert one.columns[name].tolist() == other.columns[name].tolist()
        assert int(one.columns[name].sum()) == len(rows)


def test_nothing_is_lost_when_many_threads_count_and_windows_close_meanwhile(counters: Counters):
    calls, threads = PENDING_ROWS // 2, 4

    def work() -> None:
        for _ in range(calls):
            record(counters, [20], ["Bern"], ["yes"])

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    seen = 0
    while any(worker.is_alive() for worker in workers):
        seen += counters.take_window().rows
    seen += counters.take_window().rows
    assert seen == counters.total().rows == calls * threads


def test_no_text_of_a_request_is_kept(counters: Counters):
    record(counters, [20], ["alice@example.com"], ["yes"])
    assert "alice" not in repr(counters._pending)
