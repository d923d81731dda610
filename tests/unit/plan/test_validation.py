import pytest

from modelwright.api.common import Status
from modelwright.api.driftpolicy import DriftPolicyStatus
from modelwright.api.modeldeployment import ModelDeploymentStatus
from modelwright.api.trainingjob import TrainingJobStatus
from modelwright.api.tuningsweep import TuningSweepStatus
from modelwright.plan.validation import status_before

READY = {
    "type": "Ready",
    "status": "False",
    "reason": "Training",
    "message": "attempt 2 trains on 1 pod",
    "lastTransitionTime": "2026-11-23T10:00:00Z",
}


@pytest.mark.parametrize(
    ("model", "strange"),
    [
        (TrainingJobStatus, {"promotion": {"alias": "champion", "outcome": "Perhaps", "message": "so"}, "goodput": 1}),
        (TuningSweepStatus, {"bestTrial": {"number": "first"}}),
        (ModelDeploymentStatus, {"serving": 3, "traffic": [{"version": 3, "percent": 20}]}),
        (DriftPolicyStatus, {"drift": "none"}),
    ],
)
def test_a_status_of_another_version_is_understood_as_far_as_it_can_be(
    model: type[Status], strange: dict[str, object]
) -> None:
    found = status_before(model, {"status": {"conditions": [READY], "observedGeneration": 4, **strange}})
    assert [entry.reason for entry in found.conditions] == ["Training"]
    assert found.observed_generation == 4
    assert not set(strange) & set(found.document())


def test_what_ends_a_job_outlives_a_change_of_version() -> None:
    status = {"completionTime": "2026-11-23T10:00:00Z", "attempt": 2, "attempts": [{"number": "two"}]}
    found = status_before(TrainingJobStatus, {"status": status})
    assert (found.completion_time, found.attempt, found.attempts) == ("2026-11-23T10:00:00Z", 2, ())
