"""What the data looked like in training, in bins: the yardstick that live data is held against."""

from typing import Any

import numpy as np
import numpy.typing as npt

from modelwright.api.artifacts import ColumnKind, Reference, ReferenceColumn
from modelwright.runtime.train.problem import Split

BINS = 10
CATEGORIES = 20


def describe(split: Split, scores: npt.NDArray[np.float32]) -> Reference:
    """Return the distribution of every column over the training rows, and of the predictions over the held-out rows.

    `scores` are the model's answers to the held-out rows: on rows that it has learnt from, a model is surer than it
    ever is in use. So the counts of the predictions add up to the held-out rows, those of a column to `rows`.
    """
    columns = tuple(_column(c.name, c.kind, split.train.features[c.name]) for c in split.columns)
    return Reference(rows=len(split.train), columns=columns, prediction=_prediction(split, scores))


def _prediction(split: Split, scores: npt.NDArray[np.float32]) -> ReferenceColumn:
    if not split.classes:
        return numeric(split.target, scores[:, 0])
    counts = np.bincount(scores.argmax(axis=1), minlength=len(split.classes))
    return ReferenceColumn(
        name=split.target,
        kind=ColumnKind.CATEGORICAL,
        categories=split.classes,
        counts=(*counts.tolist(), 0, 0),
    )


def _column(name: str, kind: ColumnKind, values: Any) -> ReferenceColumn:
    if kind is ColumnKind.NUMERIC:
        return numeric(name, values.to_numpy(dtype=np.float32))
    return _categorical(name, values)


def numeric(name: str, values: npt.NDArray[np.float32]) -> ReferenceColumn:
    """Return up to ten bins between deciles; where many values are equal there are fewer edges."""
    known = values[~np.isnan(values)]
    deciles = np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1], method="lower") if known.size else np.empty(0)
    # An edge at the largest value would leave nothing above it, and nothing to compare there.
    edges = np.unique(deciles[deciles < known.max()]) if known.size else deciles
    # "left": a value that equals an edge belongs below it.
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=edges.size + 1)
    return ReferenceColumn(
        name=name,
        kind=ColumnKind.NUMERIC,
        edges=tuple(float(edge) for edge in edges),
        counts=(*counts.tolist(), int(values.size - known.size)),
    )


def _categorical(name: str, values: Any) -> ReferenceColumn:
    counts = values[values != ""].value_counts()
    ranked = sorted(((str(text), int(count)) for text, count in counts.items()), key=lambda item: (-item[1], item[0]))
    kept, others = ranked[:CATEGORIES], ranked[CATEGORIES:]
    missing = int((values == "").sum())
    return ReferenceColumn(
        name=name,
        kind=ColumnKind.CATEGORICAL,
        categories=tuple(text for text, _ in kept),
        counts=(*(count for _, count in kept), sum(count for _, count in others), missing),
    )
