"""The built-in test of a DriftPolicy: what servers counted of a version, against the reference from its training."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from modelwright.api.artifacts import Reference, ReferenceColumn, Window
from modelwright.api.driftpolicy import ColumnDrift, DriftResult, DriftTest
from modelwright.plan import psi
from modelwright.plan.times import stamp

PREDICTION = "prediction"
"""What the model's answers are called among the columns."""
_COLUMNS_REPORTED = 20
_DIGITS = 6


@dataclass(frozen=True)
class Sample:
    """What all servers of a version counted over a while, put together."""

    rows: int
    columns: tuple[tuple[ReferenceColumn, tuple[int, ...]], ...]
    """Every column of the reference and the live rows in its bins; the predictions come last."""


def merge(reference: Reference, documents: Iterable[dict[str, Any]], model: str, version: int) -> Sample:
    """Add up window documents of any number of replicas.

    A document that is no window of this version, or that does not fit the reference's bins, is left out: it says
    nothing about this version, and one broken file must not blind the policy.
    """
    windows = [
        window
        for window in map(_window, documents)
        if window is not None and (window.model, window.version) == (model, version) and _fits(window, reference)
    ]
    columns = [
        (column, psi.add((window.columns[column.name] for window in windows), len(column.counts)))
        for column in reference.columns
    ]
    prediction = reference.prediction.model_copy(update={"name": PREDICTION})
    predicted = psi.add((window.prediction for window in windows), len(prediction.counts))
    return Sample(sum(window.rows for window in windows), (*columns, (prediction, predicted)))


def judge(test: DriftTest, sample: Sample, version: int, before: DriftResult | None, now: datetime) -> DriftResult:
    """Return the result of one test; `before` is the last result for the same version.

    With fewer than `minSamples` rows there is no verdict: the result carries no columns, and what was known stands. The
    confidence is shared among the columns (Bonferroni), so a wide table raises no more false alarms than a narrow one.
    Drift is called when enough tests in a row have found a shift, and it is over with the first that finds none.
    """
    if sample.rows < test.min_samples:
        return DriftResult(
            time=stamp(now),
            version=version,
            samples=sample.rows,
            drifted=before is not None and before.drifted,
            consecutive=before.consecutive if before else 0,
            since=before.since if before else None,
        )
    columns = _shifts(test, sample)
    moved = any(column.drifted for column in columns)
    consecutive = (before.consecutive if before else 0) + 1 if moved else 0
    since = before.since if before and moved else None
    if since is None and consecutive >= test.consecutive:
        since = stamp(now)
    return DriftResult(
        time=stamp(now),
        version=version,
        samples=sample.rows,
        drifted=since is not None,
        consecutive=consecutive,
        since=since,
        columns=columns[:_COLUMNS_REPORTED],
    )


def has_verdict(result: DriftResult) -> bool:
    """Tell whether a test had enough rows to say anything."""
    return bool(result.columns)


def moved_columns(result: DriftResult, limit: int = 3) -> str:
    """Return the names of the columns that moved, those that moved most first: `age, income and 4 more`."""
    names = [column.column for column in result.columns if column.drifted]
    if len(names) <= limit:
        return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def _shifts(test: DriftTest, sample: Sample) -> tuple[ColumnDrift, ...]:
    alpha = (1 - test.confidence) / len(sample.columns)
    shifts = [(column.name, psi.compare(column.counts, live, alpha)) for column, live in sample.columns]
    found = [
        ColumnDrift(
            column=name,
            psi=round(shift.psi, _DIGITS),
            critical=round(shift.critical, _DIGITS),
            drifted=shift.beyond(test.min_psi),
        )
        for name, shift in shifts
        if shift is not None
    ]
    return tuple(sorted(found, key=lambda entry: (not entry.drifted, -entry.psi, entry.column)))


def _window(document: dict[str, Any]) -> Window | None:
    try:
        return Window.model_validate(document)
    except ValidationError:
        return None


def _fits(window: Window, reference: Reference) -> bool:
    counted = [(window.prediction, reference.prediction)]
    for column in reference.columns:
        if column.name not in window.columns:
            return False
        counted.append((window.columns[column.name], column))
    return all(len(live) == len(column.counts) and min(live, default=0) >= 0 for live, column in counted)
