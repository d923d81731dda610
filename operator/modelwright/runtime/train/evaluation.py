"""How good the model is on rows that it has never seen, and whether that is good enough."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from modelwright.api.artifacts import Metrics
from modelwright.api.trainingjob import MetricValue, Threshold
from modelwright.runtime.failure import RunError
from modelwright.runtime.train import metrics
from modelwright.runtime.train.metrics import Classified, Estimated, Outcome
from modelwright.runtime.train.problem import Rows


def outcome_of(scores: npt.NDArray[np.float32], rows: Rows, classes: tuple[str, ...]) -> Outcome:
    """Put scores beside the truth: [rows, classes] for classification, [rows, 1] for regression."""
    if classes:
        return Classified(rows.target, scores)
    return Estimated(rows.target, scores[:, 0])


def align(scores: npt.NDArray[np.float32], known: tuple[str, ...], wanted: tuple[str, ...]) -> npt.NDArray[Any]:
    """Return a model's probabilities in the order of another list of classes; one that it does not know gets 0."""
    positions = {name: column for column, name in enumerate(known)}
    aligned = np.zeros((len(scores), len(wanted)), dtype=np.float32)
    for column, name in enumerate(wanted):
        if name in positions:
            aligned[:, column] = scores[:, positions[name]]
    return aligned


def evaluate(outcome: Outcome) -> Metrics:
    """Return every metric that is defined on these rows."""
    measured = {name: metrics.measure(name, outcome) for name in metrics.names(outcome)}
    values = tuple(MetricValue(name=name, value=value) for name, value in measured.items() if math.isfinite(value))
    return Metrics(rows=len(outcome), values=values)


def require_thresholds(result: Metrics, thresholds: tuple[Threshold, ...]) -> None:
    """Raise `RunError` ThresholdNotMet that names every bound that is not kept."""
    values = {metric.name: metric.value for metric in result.values}
    broken = [sentence for bound in thresholds if (sentence := _broken(bound, values.get(bound.metric)))]
    if broken:
        raise RunError("ThresholdNotMet", f"The model is not registered: {'; '.join(broken)}", retryable=False)


def _broken(bound: Threshold, value: float | None) -> str:
    if value is None:
        return f"{bound.metric} is not defined for this task and these rows"
    if bound.min is not None and value < bound.min:
        return f"{bound.metric} is {value:.4g}, below the minimum {bound.min:g}"
    if bound.max is not None and value > bound.max:
        return f"{bound.metric} is {value:.4g}, above the maximum {bound.max:g}"
    return ""
