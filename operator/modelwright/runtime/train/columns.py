"""The one form that columns have everywhere: float32 with NaN, or strings with "". It is what the graph reads.

CSV and Parquet, int and double, null and NaN all end in the same values here, so that a row is the same row however it
was written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from modelwright.api.artifacts import ColumnKind
from modelwright.runtime.labels import label

Floats = npt.NDArray[np.float32]

_NEEDLESS = ((r"(\.[0-9]*?)0+$", r"\1"), (r"\.$", ""), (r" 00:00:00$", ""))
"""What Arrow writes of a moment and people do not, and what stays of it."""


@dataclass(frozen=True)
class Table:
    """The rows of a data set."""

    frame: Any
    """A pandas DataFrame: float32 for Numeric columns, Python strings for Categorical ones."""
    kinds: dict[str, ColumnKind]
    unsupported: tuple[str, ...]
    """Columns that hold lists, structs, bytes or the like; they are not in the frame."""
    digest: str
    """SHA-256 over the names and ETags of the objects read."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.frame)


def gather(tables: Sequence[Any], digest: str) -> Table:
    """Put pyarrow tables below each other; a column that one of them lacks is missing in its rows.

    A column is numeric when it is numeric in every table. Booleans, dates and times become strings.
    """
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    columns: dict[str, Any] = {}
    kinds: dict[str, ColumnKind] = {}
    unsupported: list[str] = []
    for name in names:
        pieces = [table[name] if name in table.column_names else pa.nulls(len(table)) for table in tables]
        kind = kind_of([piece.type for piece in pieces])
        if kind is None:
            unsupported.append(name)
            continue
        kinds[name] = kind
        convert = numbers if kind is ColumnKind.NUMERIC else strings
        columns[name] = np.concatenate([convert(piece) for piece in pieces])
    rows = sum(len(table) for table in tables)
    frame = pd.DataFrame(columns, index=pd.RangeIndex(rows))
    return Table(frame, kinds, tuple(unsupported), digest)


def unlike(tables: Sequence[Any]) -> tuple[str, ...]:
    """Return the Categorical columns that pyarrow tables do not have with one and the same type."""
    types: dict[str, list[Any]] = {}
    for table in tables:
        for name in table.column_names:
            types.setdefault(name, []).append(table.schema.field(name).type)
    return tuple(
        name for name, found in types.items() if len(set(found)) > 1 and kind_of(found) is ColumnKind.CATEGORICAL
    )


def kind_of(types: Sequence[Any]) -> ColumnKind | None:
    """Return the kind of a column whose parts have these Arrow types; None when it cannot be used."""
    if all(_is_number(t) or pa.types.is_null(t) for t in types):
        return ColumnKind.NUMERIC
    if all(_is_number(t) or pa.types.is_null(t) or _is_text(t) for t in types):
        return ColumnKind.CATEGORICAL
    return None


def numbers(column: Any) -> Floats:
    """Return an Arrow column as float32; null is NaN, and what float32 cannot hold is infinite."""
    with np.errstate(over="ignore"):
        # Adding zero makes -0.0 and 0.0 the same value, and so the same row.
        return _doubles(column).astype(np.float32) + np.float32(0)


def strings(column: Any) -> npt.NDArray[np.object_]:
    """Return an Arrow column as Python strings, as people write them: 1, 2013-01-31, 2013-01-31 17:30:00, true.

    Null is the empty string. Moments are in UTC; one at midnight is its day.
    """
    if _is_number(column.type) and not pa.types.is_integer(column.type):
        return labels(_doubles(column))
    if pa.types.is_dictionary(column.type):
        return strings(column.cast(column.type.value_type))
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        # One unit for all: the same moment must not read differently for being kept in ns or in ms.
        column = column.cast(pa.timestamp("us"), safe=False)
    text = pc.fill_null(pc.cast(column, pa.string()), "")
    if pa.types.is_temporal(column.type):
        for needless, kept in _NEEDLESS:
            text = pc.replace_substring_regex(text, pattern=needless, replacement=kept)
    return np.asarray(text.to_numpy(zero_copy_only=False), dtype=object)


def labels(values: Floats | npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    """Return numbers as texts, see `label`; NaN is the empty string."""
    distinct, codes = np.unique(values, return_inverse=True)
    texts = ["" if np.isnan(value) else label(float(value)) for value in distinct]
    return np.array(texts, dtype=object)[codes]


def _doubles(column: Any) -> npt.NDArray[np.float64]:
    doubles = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(doubles, dtype=np.float64)


def _is_text(kind: Any) -> bool:
    """Tell whether values of an Arrow type can be written as text that means them."""
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type) or _is_number(kind.value_type)
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_boolean,
        pa.types.is_temporal,
    )
    return any(test(kind) for test in tests) and not pa.types.is_duration(kind)


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
