import math

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.runtime.train import metrics
from modelwright.runtime.train.metrics import Classified, Estimated, Outcome, measure, measure_resamples, names


def classified(seed: int, classes: int, rows: int = 60) -> Classified:
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), generator.integers(0, classes, rows - classes)])
    # Rounded, so that there are ties.
    raw = generator.dirichlet(np.ones(classes), rows).round(1) + 0.01 + 0.3 * np.eye(classes)[truth]
    return Classified(truth, (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32))


def expected(metric: str, outcome: Classified, weights: np.ndarray | None = None) -> float:
    truth, scores, predicted = outcome.truth, outcome.probabilities, outcome.predicted
    binary = scores.shape[1] == 2
    average = "binary" if binary else "macro"
    every = {"sample_weight": weights}
    match metric:
        case "accuracy":
            return float(reference.accuracy_score(truth, predicted, **every))
        case "log_loss":
            exact = scores.astype(np.float64)  # rows that add up to 1, without which scikit-learn complains
            return float(reference.log_loss(truth, exact / exact.sum(axis=1, keepdims=True), **every))
        case "roc_auc" if binary:
            return float(reference.roc_auc_score(truth, scores[:, 1], **every))
        case "roc_auc":
            areas = [reference.roc_auc_score(truth == c, scores[:, c], **every) for c in range(scores.shape[1])]
            return float(np.mean(areas))
    function = getattr(reference, {"precision": "precision_score", "recall": "recall_score", "f1": "f1_score"}[metric])
    return float(function(truth, predicted, average=average, zero_division=0, **every))


@given(seed=st.integers(0, 1000), classes=st.sampled_from([2, 3, 5]))
@settings(max_examples=15, deadline=None)
def test_classification_agrees_with_scikit_learn(seed: int, classes: int) -> None:
    outcome = classified(seed, classes)
    for metric in names(outcome):
        assert measure(metric, outcome) == pytest.approx(expected(metric, outcome), abs=1e-6), metric


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_regression_agrees_with_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = (generator.normal(size=50) * 10 + 1e4).astype(np.float32)
    outcome = Estimated(truth, truth + generator.normal(size=50).astype(np.float32))
    assert measure("mae", outcome) == pytest.approx(reference.mean_absolute_error(truth, outcome.estimate), rel=1e-5)
    assert measure("rmse", outcome) == pytest.approx(
        reference.root_mean_squared_error(truth, outcome.estimate), rel=1e-5
    )
    assert measure("r2", outcome) == pytest.approx(
        reference.r2_score(truth.astype(float), outcome.estimate.astype(float)), rel=1e-5
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_a_resample_counts_each_row_as_often_as_it_was_drawn(classes: int) -> None:
    outcome = classified(1, classes)
    drawn = np.random.default_rng(2).integers(0, len(outcome), len(outcome))
    counts = np.bincount(drawn, minlength=len(outcome)).astype(float)[None]
    repeated = Classified(outcome.truth[drawn], outcome.probabilities[drawn])
    for metric in names(outcome):
        assert measure_resamples(metric, outcome, counts)[0] == pytest.approx(measure(metric, repeated), abs=1e-9)


@pytest.mark.parametrize(
    ("metric", "outcome"),
    [
        ("roc_auc", Classified(np.zeros(3, dtype=np.int64), np.full((3, 2), 0.5, dtype=np.float32))),
        ("r2", Estimated(np.ones(3, dtype=np.float32), np.zeros(3, dtype=np.float32))),
    ],
)
def test_what_is_not_defined_is_nan(metric: str, outcome: Outcome) -> None:
    assert math.isnan(measure(metric, outcome))


def test_a_class_that_never_occurs_does_not_pull_the_mean_down() -> None:
    truth = np.array([0, 1, 0, 1])
    outcome = Classified(truth, np.eye(3, dtype=np.float32)[truth])
    assert measure("recall", outcome) == 1.0
    assert measure("precision", outcome) == 1.0


@pytest.mark.parametrize("classes", [2, 5])
def test_rows_are_counted_in_pieces_that_fit_into_memory(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    outcome = classified(3, classes)
    counts = np.random.default_rng(4).integers(0, 4, (6, len(outcome))).astype(float)
    at_once = {metric: measure_resamples(metric, outcome, counts) for metric in ("precision", "recall", "f1")}
    monkeypatch.setattr(metrics, "_CELLS", 7 * classes)
    for metric, values in at_once.items():
        assert (measure_resamples(metric, outcome, counts) == values).all()


def test_a_certain_mistake_costs_much_but_not_everything() -> None:
    outcome = Classified(np.array([0]), np.array([[0.0, 1.0]], dtype=np.float32))
    assert 10 < measure("log_loss", outcome) < 20


def test_draws_of_equal_targets_have_no_r2_instead_of_a_huge_one() -> None:
    truth = np.full(164, 0.1, dtype=np.float32)
    truth[0] = 10.0
    outcome = Estimated(truth, (truth + 0.11).astype(np.float32))
    counts = np.ones((2, truth.size))
    counts[1, 0], counts[1, 1] = 0, 2
    found = measure_resamples("r2", outcome, counts)
    assert np.isfinite(found[0])
    assert np.isnan(found[1])
