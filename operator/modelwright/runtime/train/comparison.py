"""Is the new model better than the one in use, or was it lucky? A paired bootstrap over the same held-out rows."""

from collections.abc import Iterator

import numpy as np

from modelwright.runtime.failure import RunError
from modelwright.runtime.train.metrics import Doubles, Outcome, gain, measure_resamples

RESAMPLES = 1000
_CELLS = 4_000_000
"""Counts held in memory at once: 32 MB."""


def improvement_bound(
    metric: str, candidate: Outcome, incumbent: Outcome, *, confidence: float, seed: int, resamples: int = RESAMPLES
) -> float:
    """Return the one-sided lower confidence bound of the candidate's improvement.

    Percentile bootstrap (Efron 1979): rows are drawn with replacement, both models are measured on the same draw, and
    the bound is the (1 - confidence) quantile of the differences. Raises `RunError` when the metric is never defined.
    """
    differences = np.concatenate(
        [
            gain(metric, measure_resamples(metric, candidate, counts), measure_resamples(metric, incumbent, counts))
            for counts in _draws(len(candidate), resamples, seed)
        ]
    )
    defined = differences[~np.isnan(differences)]
    if not defined.size:
        raise RunError("MetricUndefined", f"{metric} is not defined on the held-out rows", retryable=False)
    return float(np.quantile(defined, 1 - confidence))


def _draws(rows: int, resamples: int, seed: int) -> Iterator[Doubles]:
    """Yield how often each row was drawn: [some resamples, rows] at a time, the same for the same seed."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS // rows)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = generator.integers(0, rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
