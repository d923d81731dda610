import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
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


@pytest.mark.parametrize(
    "text", ["2013-01-31", "2013-01-31 17:30:00", "2013-01-31 17:30:00.25", "17:30:00", "1950-12-01 00:00:01", "true"]
)
def test_a_category_reads_as_people_write_it_in_csv_and_to_the_server(text: str) -> None:
    column = pyarrow.csv.read_csv(io.BytesIO(f"x\n{text}\n".encode()))["x"]
    assert not pa.types.is_string(column.type)
    assert strings(column).tolist() == [text]


def test_a_moment_at_midnight_is_its_day_in_every_type() -> None:
    day = pa.array([date(2013, 1, 31), None])
    for kind in (pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns")):
        assert strings(day.cast(kind)).tolist() == ["2013-01-31", ""]


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()])
def test_whole_numbers_beyond_float32_stay_apart_as_categories(kind: Any) -> None:
    column = pa.array([123456789, 123456790, -3, None]).cast(kind)
    assert strings(column).tolist() == ["123456789", "123456790", "-3", ""]


def test_keys_of_64_bits_stay_apart_as_categories() -> None:
    assert strings(pa.array([2**63 - 1, 2**63 - 2])).tolist() == ["9223372036854775807", "9223372036854775806"]


def test_dictionaries_read_as_what_they_stand_for() -> None:
    assert strings(pa.array(["b", "a", "b"]).dictionary_encode()).tolist() == ["b", "a", "b"]


def test_numbers_too_large_for_float32_become_infinite_without_a_warning() -> None:
    assert np.isinf(numbers(pa.array([1e300]))).all()


def test_labels_are_the_shortest_text() -> None:
    values = np.array([1, 0.5, -0.0, 100000, np.nan], dtype=np.float32)
    assert labels(values + np.float32(0)).tolist() == ["1", "0.5", "0", "100000", ""]
