"""Metrics of held-out rows, for one weighting of the rows or for many at once.

A resample of the bootstrap is a vector of counts, how often each row was drawn; so one implementation gives the plain
value (every count 1) and a thousand resampled ones, as matrix products.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from modelwright.api.schema import CLASSIFICATION_METRICS, LOWER_IS_BETTER, REGRESSION_METRICS

Doubles = npt.NDArray[np.float64]
Value = TypeVar("Value", float, Doubles)

_SMALLEST_PROBABILITY = float(np.finfo(np.float32).eps)
_BINARY = 2
_CELLS = 4_000_000
"""Of a matrix [rows, classes], held in memory at once: 32 MB."""
_ROUNDING = 1e-12
"""Of the mean of squares: what is left of a spread that is none."""


@dataclass(frozen=True)
class Classified:
    """Answers of a classifier and the truth."""

    truth: npt.NDArray[np.int64]
    """[rows], positions of the classes."""
    probabilities: npt.NDArray[np.float32]
    """[rows, classes]."""

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """The most probable class of each row."""
        best: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return best

    @property
    def scored(self) -> range:
        """The classes that precision, recall, F1 and ROC-AUC look at: the second of two, or each in turn."""
        count = self.probabilities.shape[1]
        return range(1, _BINARY) if count == _BINARY else range(count)

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True)
class Estimated:
    """Answers of a regression and the truth, both [rows]."""

    truth: npt.NDArray[np.float32]
    estimate: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.truth)


Outcome: TypeAlias = Classified | Estimated


def names(outcome: Outcome) -> tuple[str, ...]:
    """Return the metrics that this kind of outcome has."""
    return CLASSIFICATION_METRICS if isinstance(outcome, Classified) else REGRESSION_METRICS


def gain(metric: str, candidate: Value, incumbent: Value) -> Value:
    """Return by how much the candidate is better, positive when it is, whichever way the metric points."""
    return incumbent - candidate if metric in LOWER_IS_BETTER else candidate - incumbent


def measure(metric: str, outcome: Outcome) -> float:
    """Return a metric over all rows; NaN where it is not defined."""
    return float(measure_resamples(metric, outcome, np.ones((1, len(outcome))))[0])


def measure_resamples(metric: str, outcome: Outcome, counts: Doubles) -> Doubles:
    """Return a metric for each resample: `counts` is [resamples, rows], the answer [resamples].

    Two classes, in sorted order: precision, recall, F1 and ROC-AUC speak of the second. More: they are means over the
    classes (macro; ROC-AUC one against the rest) that occur among the truth or the predictions of the resample.
    """
    if isinstance(outcome, Estimated):
        return _REGRESSION[metric](outcome, counts)
    return _CLASSIFICATION[metric](outcome, counts)


def _accuracy(outcome: Classified, counts: Doubles) -> Doubles:
    return _mean(outcome.predicted == outcome.truth, counts)


def _log_loss(outcome: Classified, counts: Doubles) -> Doubles:
    chosen = outcome.probabilities[np.arange(len(outcome)), outcome.truth].astype(np.float64)
    return _mean(-np.log(np.clip(chosen, _SMALLEST_PROBABILITY, 1)), counts)


def _confusion(outcome: Classified, counts: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return true positives, predicted and actual counts: [resamples, scored classes] each."""
    classes = np.array(outcome.scored)
    sums = np.zeros((3, len(counts), len(classes)))
    at_once = max(1, _CELLS // len(classes))
    for start in range(0, len(outcome), at_once):
        rows = slice(start, start + at_once)
        actual = outcome.truth[rows, None] == classes
        predicted = outcome.predicted[rows, None] == classes
        for total, chosen in zip(sums, (actual & predicted, predicted, actual), strict=True):
            total += counts[:, rows] @ chosen.astype(np.float64)
    return sums[0], sums[1], sums[2]


def _precision(outcome: Classified, counts: Doubles) -> Doubles:
    hits, predicted, actual = _confusion(outcome, counts)
    return _macro(_divide(hits, predicted, otherwise=0.0), predicted + actual)


def _recall(outcome: Classified, counts: Doubles) -> Doubles:
    hits, predicted, actual = _confusion(outcome, counts)
    return _macro(_divide(hits, actual, otherwise=0.0), predicted + actual)


def _f1(outcome: Classified, counts: Doubles) -> Doubles:
    hits, predicted, actual = _confusion(outcome, counts)
    return _macro(_divide(2 * hits, predicted + actual, otherwise=0.0), predicted + actual)


def _roc_auc(outcome: Classified, counts: Doubles) -> Doubles:
    areas = [_area(outcome.probabilities[:, c], outcome.truth == c, counts) for c in outcome.scored]
    return _mean_of_defined(np.stack(areas, axis=1))


def _area(scores: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_], counts: Doubles) -> Doubles:
    """Return P(score of a positive > that of a negative), ties counting half (Mann-Whitney); NaN without both kinds."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    positives = np.add.reduceat(counts[:, order] * positive[order], starts, axis=1)
    negatives = np.add.reduceat(counts[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    won = (positives * (below + negatives / 2)).sum(axis=1)
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return _divide(won, pairs, otherwise=np.nan)


def _mae(outcome: Estimated, counts: Doubles) -> Doubles:
    return _mean(np.abs(_errors(outcome)), counts)


def _rmse(outcome: Estimated, counts: Doubles) -> Doubles:
    return _mean(_errors(outcome) ** 2, counts) ** 0.5


def _r2(outcome: Estimated, counts: Doubles) -> Doubles:
    # Centred first: the difference of two large means of squares would lose what is asked for.
    truth = outcome.truth.astype(np.float64) - float(outcome.truth.mean(dtype=np.float64))
    squares = _mean(truth**2, counts)
    spread = squares - _mean(truth, counts) ** 2
    # Of equal targets what is left is rounding.
    spread = np.where(spread <= _ROUNDING * squares, 0.0, spread)
    unexplained = _mean(_errors(outcome) ** 2, counts)
    return 1 - _divide(unexplained, spread, otherwise=np.nan)


def _errors(outcome: Estimated) -> Doubles:
    return outcome.estimate.astype(np.float64) - outcome.truth.astype(np.float64)


def _mean(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_], counts: Doubles) -> Doubles:
    weighted: Doubles = counts @ values.astype(np.float64)
    total: Doubles = counts.sum(axis=1)
    return weighted / total


def _divide(part: Doubles, whole: Doubles, *, otherwise: float) -> Doubles:
    """Return the quotients; `otherwise` where there is nothing to divide by."""
    quotient: Doubles = np.full(part.shape, otherwise)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient


def _macro(values: Doubles, present: Doubles) -> Doubles:
    """Return the mean over the classes that occur; the one class of a binary problem always counts."""
    if values.shape[1] == 1:
        return values[:, 0]
    return _mean_of_defined(np.where(present > 0, values, np.nan))


def _mean_of_defined(values: Doubles) -> Doubles:
    defined = ~np.isnan(values)
    sums = np.where(defined, values, 0).sum(axis=1)
    return _divide(sums, defined.sum(axis=1).astype(np.float64), otherwise=np.nan)


_CLASSIFICATION: dict[str, Callable[[Classified, Doubles], Doubles]] = {
    "accuracy": _accuracy,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
    "roc_auc": _roc_auc,
    "log_loss": _log_loss,
}
_REGRESSION: dict[str, Callable[[Estimated, Doubles], Doubles]] = {"mae": _mae, "rmse": _rmse, "r2": _r2}
