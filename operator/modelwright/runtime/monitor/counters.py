"""Counting, at a cost that a small request does not feel."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.api.artifacts import ColumnKind, Reference
from modelwright.runtime.monitor.bins import NumericBins, TextBins

PENDING_ROWS = 1024
"""Rows that wait to be counted together: one pass over many is far cheaper than many passes over one."""
PREDICTION = "__prediction__"


@dataclass(frozen=True)
class Counts:
    """What was seen, in the reference's bins."""

    rows: int
    columns: dict[str, NDArray[np.int64]]
    prediction: NDArray[np.int64]

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.rows + other.rows,
            {name: counts + other.columns[name] for name, counts in self.columns.items()},
            self.prediction + other.prediction,
        )


@dataclass(frozen=True)
class _Recorded:
    numeric: NDArray[np.float32]
    """[numeric columns, rows]."""
    codes: list[list[int]]
    """[categorical columns, rows]: bins, so that no text is kept."""
    prediction: Any
    """[rows]: float32 or bins."""


class Counters:
    """Counts of one model version. `record` may be called from many threads."""

    def __init__(self, reference: Reference, numeric: Sequence[str], text: Sequence[str]) -> None:
        """Count the columns that the reference has; `numeric` and `text` name the rows of the matrices to come."""
        known = {column.name: column for column in reference.columns}
        self._numeric = [(i, name, NumericBins(known[name])) for i, name in enumerate(numeric) if name in known]
        self._text = [(i, name, TextBins(known[name])) for i, name in enumerate(text) if name in known]
        continuous = reference.prediction.kind is ColumnKind.NUMERIC
        self._prediction_numbers = NumericBins(reference.prediction) if continuous else None
        self._prediction_labels = None if continuous else TextBins(reference.prediction)
        self._lock = threading.Lock()
        self._pending: list[_Recorded] = []
        self._pending_rows = 0
        self._window = self._total = self._zero()

    def record(self, numeric: NDArray[np.float32], text: NDArray[np.object_], prediction: NDArray[Any]) -> None:
        """Count some rows, now or soon.

        `numeric` and `text` are [columns, rows] in the order of the constructor's names; `prediction` is [rows]. The
        arrays must not change afterwards.
        """
        labels = self._prediction_labels
        recorded = _Recorded(
            numeric,
            [bins.codes(text[i].tolist()) for i, _, bins in self._text],
            prediction if labels is None else labels.codes(prediction.tolist()),
        )
        with self._lock:
            self._pending.append(recorded)
            self._pending_rows += len(prediction)
            full = self._pending_rows >= PENDING_ROWS
        if full:
            self._fold()

    def total(self) -> Counts:
        """Return everything since the start."""
        self._fold()
        with self._lock:
            return self._total

    def take_window(self) -> Counts:
        """Return everything since the last call, and begin again."""
        self._fold()
        with self._lock:
            window, self._window = self._window, self._zero()
            return window

    def _fold(self) -> None:
        with self._lock:
            pending, self._pending, self._pending_rows = self._pending, [], 0
        if not pending:
            return
        # Outside the lock: a large request is counted in its own thread and holds up nobody.
        counts = self._count(pending)
        with self._lock:
            self._window += counts
            self._total += counts

    def _count(self, pending: list[_Recorded]) -> Counts:
        numeric = np.concatenate([recorded.numeric for recorded in pending], axis=1)
        columns = {name: bins.count(numeric[i]) for i, name, bins in self._numeric}
        for position, (_, name, bins) in enumerate(self._text):
            columns[name] = bins.count(np.concatenate([recorded.codes[position] for recorded in pending]))
        return Counts(numeric.shape[1], columns, self._count_prediction(pending))

    def _count_prediction(self, pending: list[_Recorded]) -> NDArray[np.int64]:
        values = np.concatenate([recorded.prediction for recorded in pending])
        if self._prediction_numbers is not None:
            return self._prediction_numbers.count(values)
        assert self._prediction_labels is not None  # noqa: S101 (one of the two is set)
        return self._prediction_labels.count(values)

    def _zero(self) -> Counts:
        sizes = {name: bins.size for _, name, bins in self._numeric} | {name: b.size for _, name, b in self._text}
        prediction = self._prediction_numbers or self._prediction_labels
        assert prediction is not None  # noqa: S101 (one of the two is set)
        return Counts(
            0,
            {name: np.zeros(size, dtype=np.int64) for name, size in sizes.items()},
            np.zeros(prediction.size, dtype=np.int64),
        )
