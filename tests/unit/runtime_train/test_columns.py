from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelwright.api.artifacts import ColumnKind
from modelwright.runtime.train.columns import gather, labels, numbers, strings


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, None], ColumnKind.NUMERIC),
        ([1.5, None], ColumnKind.NUMERIC),
        ([Decimal("1.5")], ColumnKind.NUMERIC),
        ([None, None], ColumnKind.NUMERIC),
        (["a", None], ColumnKind.CATEGORICAL),
        ([True, False], ColumnKind.CATEGORICAL),
        ([date(2026, 1, 1)], ColumnKind.CATEGORICAL),
        ([datetime(2026, 1, 1, tzinfo=UTC)], ColumnKind.CATEGORICAL),
    ],
)
def test_every_scalar_type_has_a_kind(values: list[Any], kind: ColumnKind) -> None:
    table = gather([pa.table({"x": values})], "")
    assert table.kinds == {"x": kind}
    assert table.rows == len(values)


def test_what_is_no_scalar_is_set_aside_by_name() -> None:
    odd = {"list": [[1]], "struct": [{"a": 1}], "bytes": [b"x"], "span": [timedelta(1)]}
    table = gather([pa.table({**odd, "good": [1]})], "")
    assert set(table.unsupported) == set(odd)
    assert list(table.frame) == ["good"]


def test_missing_is_nan_or_the_empty_string() -> None:
    table = gather([pa.table({"n": [1, None], "text": ["a", None]})], "")
    assert np.isnan(table.frame["n"][1])
    assert table.frame["text"].tolist() == ["a", ""]


def test_files_may_differ_in_types_and_columns() -> None:
    first, second = pa.table({"n": [1], "mixed": [1], "old": ["x"]}), pa.table({"n": [2.5], "mixed": ["b"]})
    table = gather([first, second], "")
    assert table.frame["n"].tolist() == [1.0, 2.5]
    assert table.frame["mixed"].tolist() == ["1", "b"]
    assert table.frame["old"].tolist() == ["x", ""]


def test_the_same_moment_reads_the_same_in_every_unit() -> None:
    moments = [pa.array([datetime(2026, 5, 1, 12, tzinfo=UTC)]).cast(pa.timestamp(unit)) for unit in ("s", "ms", "ns")]
    assert len({strings(moment)[0] for moment in moments}) == 1


def test_dictionaries_read_as_what_they_stand_for() -> None:
    assert strings(pa.array(["b", "a", "b"]).dictionary_encode()).tolist() == ["b", "a", "b"]


def test_numbers_too_large_for_float32_become_infinite_without_a_warning() -> None:
    assert np.isinf(numbers(pa.array([1e300]))).all()


def test_labels_are_the_shortest_text() -> None:
    values = np.array([1, 0.5, -0.0, 100000, np.nan], dtype=np.float32)
    assert labels(values + np.float32(0)).tolist() == ["1", "0.5", "0", "100000", ""]
