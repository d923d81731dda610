"""A job that starts from what another one has learnt, by its name."""

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.space import Space
from e2e.support.resources import condition, is_ready, reason

_JOBS = "trainingjobs"


def test_a_job_waits_for_the_one_that_it_starts_from(space: Space, data: Data) -> None:
    source = specs.network("source", data.winter, "source", replicas=1, steps=20)
    tuned = specs.changed(
        specs.network("tuned", data.winter, "warmed", replicas=1, steps=5),
        resume={"from": {"trainingJob": "source"}},
    )
    space.apply(tuned)
    space.journal.wait(_JOBS, "tuned", lambda job: reason(job) == "ResumeSourceNotFound", timeout=60)
    space.apply(source)
    space.journal.wait(_JOBS, "tuned", lambda job: reason(job) == "ResumeSourceNotEnded", timeout=60)
    first = space.journal.wait(_JOBS, "source", is_ready, timeout=240)

    done = space.journal.wait(_JOBS, "tuned", is_ready, timeout=240)
    found = done["status"]["startedFrom"]
    assert (found["trainingJob"], found["uid"]) == ("source", first["metadata"]["uid"])
    assert found["uri"] == first["status"]["checkpoint"]["uri"]
    (attempt,) = done["status"]["attempts"]
    assert "resumedFromStep" not in attempt, "the weights alone are taken over"


def test_a_job_of_another_shape_is_told_so_before_a_pod_starts(space: Space, data: Data) -> None:
    other = specs.changed(
        specs.network("wider", data.winter, "wider", replicas=1, steps=5),
        recipe={"tabular": {"neuralNetwork": {"hiddenUnits": 8}}},
        resume={"from": {"trainingJob": "source"}},
    )
    space.apply(other)
    job = space.journal.wait(
        _JOBS, "wider", lambda job: reason(job) == "WarmStartImpossible", timeout=60, stop=lambda _: False
    )
    assert "TrainingJob source has other hiddenUnits than this job" in condition(job, "Ready")["message"]
    assert space.pods(job) == []
