"""A report that the API server could not store is refused where it comes in; a number that is none is not one."""

import math

import pytest
from pydantic import ValidationError

from modelwright.api.artifacts import Alias, Window
from modelwright.api.run import Comparison, SweepReport, TrainingReport
from modelwright.api.trainingjob import MetricValue, Progress
from modelwright.api.tuningsweep import Trial, TrialState

INT64 = 2**63 - 1


def checkpoint(time: str) -> str:
    return f'{{"attempt": 1, "checkpoint": {{"step": 1, "uri": "s3://b/c", "time": "{time}"}}}}'


def progress(field: str, value: str) -> str:
    return f'{{"attempt": 1, "progress": {{"step": 1, "{field}": {value}}}}}'


@pytest.mark.parametrize(
    "time",
    [
        "now",
        "",
        "2026-11-23",
        "2026-11-23T10:00:00",
        "2026-02-31T10:00:00Z",
        "2026-11-23T10:61:00Z",
        "2026-11-23T10:00:00Z\\n",
        "2026-11-23t10:00:00z",
        "12026-11-23T10:00:00Z",
    ],
)
def test_a_time_that_is_no_timestamp_is_refused(time: str) -> None:
    with pytest.raises(ValidationError, match=r"checkpoint\.time"):
        TrainingReport.model_validate_json(checkpoint(time))


def test_a_timestamp_is_kept_as_it_stands() -> None:
    report = TrainingReport.model_validate_json(checkpoint("2028-02-29T23:59:59Z"))
    assert report.checkpoint is not None
    assert report.checkpoint.time == "2028-02-29T23:59:59Z"


@pytest.mark.parametrize("field", ["step", "totalSteps", "epoch", "epochs", "etaSeconds"])
@pytest.mark.parametrize("value", [INT64 + 1, 2**70, -1])
def test_a_count_that_does_not_fit_is_refused(field: str, value: int) -> None:
    assert TrainingReport.model_validate_json(progress(field, str(INT64))).progress is not None
    with pytest.raises(ValidationError, match=rf"progress\.{field}"):
        TrainingReport.model_validate_json(progress(field, str(value)))


@pytest.mark.parametrize("report", [TrainingReport, SweepReport])
def test_an_attempt_that_does_not_fit_is_refused(report: type[TrainingReport | SweepReport]) -> None:
    with pytest.raises(ValidationError, match="attempt"):
        report.model_validate_json(f'{{"attempt": {2**70}, "trials": {{}}}}')


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_loss_that_is_no_number_is_no_loss_and_the_rest_of_the_report_counts(number: str) -> None:
    report = TrainingReport.model_validate_json(progress("loss", number))
    assert report.progress == Progress(step=1, loss=None)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_failed_trial_without_a_number_stays_a_failed_trial_beside_the_others(number: str) -> None:
    failed = f'{{"number": 2, "state": "Failed", "value": {number}, "message": "diverged"}}'
    good = '{"number": 1, "state": "Succeeded", "value": 0.5}'
    body = f'{{"attempt": 1, "trials": {{"succeeded": 1, "failed": 1}}, "history": [{good}, {failed}]}}'
    assert SweepReport.model_validate_json(body).history == (
        Trial(number=1, state=TrialState.SUCCEEDED, value=0.5),
        Trial(number=2, state=TrialState.FAILED, message="diverged"),
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_result_that_must_be_a_number_is_one(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        MetricValue(name="rmse", value=value)
    comparison = {"candidate": 1, "incumbent": 1, "improvement": 0, "lowerBound": value, "confidence": 0.9}
    with pytest.raises(ValidationError, match="lowerBound"):
        Comparison.model_validate({"alias": "a", "metric": "f1", "rows": 9, "incumbentVersion": 1, **comparison})


def test_documents_of_pods_hold_numbers_that_a_status_can_hold() -> None:
    alias = {"movedBy": "a", "reason": "b", "at": "2026-11-23T10:00:00Z"}
    with pytest.raises(ValidationError, match="version"):
        Alias.model_validate({"version": 2**70, **alias})
    window = {"model": "m", "version": 1, "replica": "a", "start": alias["at"], "end": alias["at"], "columns": {}}
    with pytest.raises(ValidationError, match="rows"):
        Window.model_validate({**window, "rows": 2**60, "prediction": [1]})
    with pytest.raises(ValidationError, match="prediction"):
        Window.model_validate({**window, "rows": 1, "prediction": [-1]})
