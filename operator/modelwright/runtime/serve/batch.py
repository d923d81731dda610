"""Rows on their way into the model: checked against the signature, laid out as the graph wants them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from modelwright.api.artifacts import ColumnKind, InputColumn
from modelwright.runtime.labels import label
from modelwright.runtime.serve.errors import RequestError, describe

MAX_ROWS = 100_000
"""Of one request; larger work is batch work."""

Values: TypeAlias = Sequence[Any] | NDArray[Any]
"""One column: JSON values or a decoded tensor, of shape [rows]."""

_NUMBERS = {int, float, bool, type(None)}
_TEXTS = {str, int, float, bool, type(None)}


@dataclass(frozen=True)
class Batch:
    """Rows, column by column, in the order of the layout's columns of each kind."""

    numeric: NDArray[np.float32]
    """[numeric columns, rows]; a missing value is NaN."""
    text: NDArray[np.object_]
    """[categorical columns, rows]; a missing value is the empty string."""
    rows: int


class Layout:
    """Where each column of a signature goes."""

    def __init__(self, columns: Sequence[InputColumn]) -> None:
        self.columns = {column.name: column for column in columns}
        self.numeric = tuple(column for column in columns if column.kind is ColumnKind.NUMERIC)
        self.text = tuple(column for column in columns if column.kind is ColumnKind.CATEGORICAL)

    def column(self, name: str) -> InputColumn:
        """Return the column of a name. Raises RequestError when the model has none."""
        if name not in self.columns:
            raise unknown_column(name, self.columns)
        return self.columns[name]

    def batch(self, values: Mapping[str, Values]) -> Batch:
        """Return the rows as the graph wants them. Every column is there, all of one length. Raises RequestError."""
        rows = len(next(iter(values.values())))
        check_rows(rows)
        numeric = [_numbers(column.name, values[column.name]) for column in self.numeric]
        text = [_texts(column.name, values[column.name]) for column in self.text]
        return Batch(
            numeric=self._matrix(numeric, rows),
            text=np.array(text, dtype=object).reshape(len(text), rows),
            rows=rows,
        )

    def _matrix(self, columns: list[Values], rows: int) -> NDArray[np.float32]:
        try:
            wide = np.array(columns, dtype=np.float64).reshape(len(columns), rows)
        except OverflowError as error:
            raise RequestError(
                "a number is too large", expected="numbers within the range of a 32-bit float", got="a larger integer"
            ) from error
        # One look at the whole matrix: a check per column would cost more than a small model's inference.
        with np.errstate(over="ignore"):
            matrix = wide.astype(np.float32)
        if np.isinf(matrix).any():
            column, row = (int(index[0]) for index in np.nonzero(np.isinf(matrix)))
            raise wrong_value(
                self.numeric[column].name, row, "a finite 32-bit float, or null", float(wide[column, row])
            )
        return matrix


def check_rows(rows: int) -> None:
    """Raise RequestError unless there is a row, and not too many."""
    if rows == 0:
        raise RequestError("the request has no rows", expected="at least 1 row", got="0 rows")
    if rows > MAX_ROWS:
        raise RequestError(
            "the request has too many rows: split it",
            status=413,
            expected=f"at most {MAX_ROWS} rows",
            got=f"{rows} rows",
        )


def unknown_column(name: str, known: Mapping[str, InputColumn]) -> RequestError:
    """Return the error for a column that the model does not read."""
    return RequestError(
        f"the model has no column {describe(name)}",
        column=name,
        expected="one of " + ", ".join(list(known)[:20]) + (", …" if len(known) > 20 else ""),
        got=name,
    )


def wrong_value(column: str, row: int, expected: str, got: object) -> RequestError:
    """Return the error for one value of a column."""
    return RequestError(
        f"column {column}, row {row}: expected {expected}, got {describe(got)}",
        column=column,
        expected=expected,
        got=describe(got),
    )


def _numbers(name: str, values: Values) -> Values:
    if isinstance(values, np.ndarray):
        return values
    if not set(map(type, values)) <= _NUMBERS:
        row = next(row for row, value in enumerate(values) if type(value) not in _NUMBERS)
        raise wrong_value(name, row, "a number or null", values[row])
    return values


def _texts(name: str, values: Values) -> Values:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    kinds = set(map(type, values))
    if kinds == {str}:
        return values
    if not kinds <= _TEXTS:
        row = next(row for row, value in enumerate(values) if type(value) not in _TEXTS)
        raise wrong_value(name, row, "a string or null", values[row])
    return [_text(value) for value in values]


def _text(value: str | float | bool | None) -> str:
    """Return a category as training reads it from a file: `true`, `3` for 3 and 3.0, nothing for null."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return label(value)
        case _:
            return str(value)
