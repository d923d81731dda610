"""What a lost gang costs: classes of failure, budgets, and rules, as real containers show them."""

import pytest

from e2e.scenarios import specs
from e2e.scenarios.space import Space
from e2e.support.resources import Object, condition, reason

_JOBS = "trainingjobs"
_GREEDY = "held = [bytearray(1 << 20) for _ in range(8000)]"
_LEAVING = "import sys; print('nothing to learn'); sys.exit(42)"


@pytest.fixture(scope="module", autouse=True)
def failing(space: Space) -> None:
    """Programs that fail, each in its way, all at once."""
    memory = {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}}
    ruled = {"rules": [{"exitCodes": [42], "restart": False}, {"message": "some link*down", "excludeNode": True}]}
    space.apply(
        specs.changed(
            specs.command("greedy", _GREEDY, replicas=1),
            workers=memory,
            failurePolicy={"backoffSeconds": 0, "budgets": {"outOfMemory": 0}},
        ),
        specs.changed(specs.command("leaving", _LEAVING, replicas=1), failurePolicy=ruled),
        specs.changed(
            specs.command("linked", "raise SystemExit('some link is down')", replicas=1),
            failurePolicy={**ruled, "backoffSeconds": 0},
        ),
    )


def _over(job: Object) -> bool:
    return condition(job, "Succeeded").get("status") == "False"


def test_a_program_that_wants_too_much_memory_is_told_so(space: Space) -> None:
    job = space.journal.wait(_JOBS, "greedy", _over, timeout=120, stop=lambda _: False)
    assert reason(job) == "RestartsExhausted"
    (attempt,) = job["status"]["attempts"]
    assert (attempt["reason"], attempt["failureClass"]) == ("OutOfMemory", "OutOfMemory")
    assert "raise workers.resources.limits.memory" in condition(job, "Ready")["message"]
    assert job["status"]["failures"] == [{"failureClass": "OutOfMemory", "count": 1}]


def test_a_rule_ends_a_job_by_the_exit_code_of_its_program(space: Space) -> None:
    job = space.journal.wait(_JOBS, "leaving", _over, timeout=120, stop=lambda _: False)
    (attempt,) = job["status"]["attempts"]
    assert (attempt["reason"], attempt["failureClass"], attempt["final"]) == ("WorkerFailed", "ApplicationError", True)
    assert attempt["message"].endswith("exited with code 42: nothing to learn")


def test_a_rule_keeps_the_next_attempt_away_from_a_bad_node(space: Space) -> None:
    job = space.journal.wait(_JOBS, "linked", lambda job: reason(job) == "Unschedulable", timeout=120)
    node = job["status"]["attempts"][0]["node"]
    assert job["status"]["excludedNodes"] == [node], "the only node there is"
    assert "Pod was unschedulable" not in condition(job, "Ready")["message"]
