import numpy as np
import pytest

from modelwright.api.artifacts import Metrics
from modelwright.api.trainingjob import MetricValue, Threshold
from modelwright.runtime.failure import RunError
from modelwright.runtime.train.comparison import improvement_bound
from modelwright.runtime.train.evaluation import align, evaluate, require_thresholds
from modelwright.runtime.train.metrics import Classified, Estimated, measure

RESULT = Metrics(rows=10, values=(MetricValue(name="accuracy", value=0.81), MetricValue(name="log_loss", value=0.5)))


def test_thresholds_that_are_kept_pass() -> None:
    require_thresholds(RESULT, (Threshold(metric="accuracy", min=0.81), Threshold(metric="log_loss", max=0.5)))


def test_every_broken_bound_is_named_with_its_value() -> None:
    bounds = (
        Threshold(metric="accuracy", min=0.9),
        Threshold(metric="log_loss", max=0.4),
        Threshold(metric="roc_auc", min=0.5),
    )
    with pytest.raises(RunError) as caught:
        require_thresholds(RESULT, bounds)
    assert caught.value.reason == "ThresholdNotMet"
    assert not caught.value.retryable
    assert caught.value.message == (
        "The model is not registered: accuracy is 0.81, below the minimum 0.9; log_loss is 0.5, above the maximum 0.4; "
        "roc_auc is not defined for this task and these rows"
    )


def test_metrics_that_are_not_defined_are_left_out() -> None:
    result = evaluate(Classified(np.zeros(4, dtype=np.int64), np.full((4, 2), 0.5, dtype=np.float32)))
    assert "roc_auc" not in {value.name for value in result.values}


def test_probabilities_are_put_in_another_order_by_name() -> None:
    scores = np.array([[0.1, 0.7, 0.2]], dtype=np.float32)
    aligned = align(scores, ("c", "a", "b"), ("a", "b", "d"))
    assert aligned == pytest.approx(np.array([[0.7, 0.2, 0.0]]))


def classifier(right: float, rows: int = 500, seed: int = 0) -> Classified:
    generator = np.random.default_rng(seed)
    truth = np.random.default_rng(99).integers(0, 2, rows)
    said = np.where(generator.random(rows) < right, truth, 1 - truth)
    return Classified(truth, np.eye(2, dtype=np.float32)[said] * 0.8 + 0.1)


@pytest.mark.parametrize("metric", ["accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"])
def test_a_clearly_better_model_improves_with_confidence_and_a_worse_one_does_not(metric: str) -> None:
    good, bad = classifier(0.95), classifier(0.7, seed=1)
    assert improvement_bound(metric, good, bad, confidence=0.95, seed=0) > 0
    assert improvement_bound(metric, bad, good, confidence=0.95, seed=0) < 0


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2"])
def test_it_holds_for_regression_too(metric: str) -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=300).astype(np.float32)
    good = Estimated(truth, truth + generator.normal(size=300).astype(np.float32) * np.float32(0.1))
    bad = Estimated(truth, truth + generator.normal(size=300).astype(np.float32) * np.float32(0.5))
    assert improvement_bound(metric, good, bad, confidence=0.95, seed=0) > 0


def test_a_model_is_no_improvement_over_itself() -> None:
    model = classifier(0.8)
    assert improvement_bound("accuracy", model, model, confidence=0.95, seed=0) == 0.0


def test_the_same_seed_gives_the_same_bound_and_more_confidence_a_lower_one() -> None:
    good, bad = classifier(0.85), classifier(0.8, seed=1)
    bounds = [improvement_bound("accuracy", good, bad, confidence=c, seed=3) for c in (0.8, 0.8, 0.99)]
    assert bounds[0] == bounds[1] > bounds[2]


def test_the_bound_covers_the_truth_as_often_as_it_says() -> None:
    # Accuracies 0.85 and 0.80: the true improvement is 0.05, and the 90% bound may lie above it one time in ten.
    above = sum(
        improvement_bound("accuracy", good, bad, confidence=0.9, seed=trial, resamples=200) > 0.05
        for trial in range(100)
        for good, bad in [(_independent(0.85, 2 * trial), _independent(0.80, 2 * trial + 1))]
    )
    assert 2 <= above <= 22  # ten expected; beyond four standard deviations something is wrong


def _independent(right: float, seed: int) -> Classified:
    return classifier(right, rows=300, seed=1000 + seed)


def test_a_metric_that_is_never_defined_is_an_error_and_not_a_verdict() -> None:
    one_class = Classified(np.zeros(5, dtype=np.int64), np.full((5, 2), 0.5, dtype=np.float32))
    assert np.isnan(measure("roc_auc", one_class))
    with pytest.raises(RunError, match="roc_auc is not defined"):
        improvement_bound("roc_auc", one_class, one_class, confidence=0.9, seed=0)
