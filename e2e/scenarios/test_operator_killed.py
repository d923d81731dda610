"""The operator may be killed at any moment: what it was doing ends as if it had not been, once and only once."""

import time

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.waiting import eventually
from e2e.support.install import Installation
from e2e.support.models import Models
from e2e.support.operator_pods import OperatorPods
from e2e.support.resources import Object, is_ready, reason
from modelwright.api.layout import result_key

pytestmark = pytest.mark.alone

_JOBS, _DEPLOYMENTS = "trainingjobs", "modeldeployments"
_TRAINING_SECONDS = 20
"""For a rollout and another job to begin, and the operator to be killed, while it trains."""
_QUIET_SECONDS = 10
_HANDOVER_SECONDS = 12
"""Less than the fifteen for which an abandoned Lease stays with its holder."""


@pytest.fixture(scope="module")
def killed(space: Space, data: Data, models: Models, operator_pods: OperatorPods, champion: Object, pace: Pace) -> None:
    """A job that trains, a job that starts and a deployment that rolls out lose their operator at the same moment.

    The second job trains, evaluates, registers and says so on S3 before another operator leads.
    """
    trained = champion["status"]["model"]
    for number in (1, 2):
        models.copy(trained["name"], trained["version"], "rolled", number)
    models.promote("rolled", 1)
    space.apply(
        specs.deployment("rolled", "rolled"),
        specs.network("training", data.winter, "training", replicas=1, steps=pace.steps(_TRAINING_SECONDS)),
    )
    space.journal.wait(_DEPLOYMENTS, "rolled", is_ready, timeout=60)
    space.journal.wait(_JOBS, "training", lambda job: "progress" in job["status"], timeout=120)

    promoted = {"model": {"promotion": {**specs.PROMOTION, "rule": "Always"}}}
    starting = specs.changed(specs.trees("starting", data.winter, "starting"), **promoted)
    models.promote("rolled", 2)
    space.poke("modeldeployment", "rolled")
    space.journal.wait(_DEPLOYMENTS, "rolled", lambda found: reason(found) == "RollingOut", timeout=30)
    space.apply(starting)
    begun = space.journal.wait(_JOBS, "starting", lambda job: reason(job) == "Starting", timeout=30)
    result = result_key(space.namespace, begun["metadata"]["uid"])
    with operator_pods.away() as gone:
        assert reason(space.journal.entries(_JOBS, "training")[-1].object) == "Training"
        assert not models.bucket.keys(result)
        eventually(lambda: bool(models.bucket.keys(result)), "the job did not end without an operator", timeout=120)
    operator_pods.await_leader(other_than=gone)


@pytest.mark.usefixtures("killed")
@pytest.mark.parametrize("name", ["starting", "training"])
def test_a_job_loses_nothing_and_registers_once(space: Space, models: Models, name: str) -> None:
    job = space.journal.wait(_JOBS, name, is_ready, timeout=180)
    assert [entry["reason"] for entry in job["status"]["attempts"]] == ["Completed"]
    assert len([child for child in space.children(job) if child.startswith("Job/")]) == 1
    assert models.numbers_taken(name) == [1]


@pytest.mark.usefixtures("killed")
def test_an_alias_is_moved_by_the_next_operator(space: Space, models: Models) -> None:
    job = space.journal.wait(_JOBS, "starting", is_ready, timeout=120)
    assert job["status"]["promotion"]["outcome"] == "Promoted"
    assert models.holder("starting") == 1


@pytest.mark.usefixtures("killed")
def test_a_rollout_is_finished(space: Space) -> None:
    def rolled_out(found: Object) -> bool:
        return is_ready(found) and bool(found["status"]["serving"]["version"] == 2)

    found = space.journal.wait(_DEPLOYMENTS, "rolled", rolled_out, timeout=120)
    eventually(
        lambda: [pod["metadata"]["labels"]["modelwright.dev/version"] for pod in space.pods(found)] == ["2"],
        "servers of the old version are still there",
    )


@pytest.mark.usefixtures("killed")
def test_a_restarted_operator_with_nothing_to_do_writes_nothing(space: Space, operator_pods: OperatorPods) -> None:
    for plural, name in ((_JOBS, "starting"), (_JOBS, "training"), (_DEPLOYMENTS, "rolled")):
        space.journal.wait(plural, name, is_ready, timeout=180)
    before, began = space.written(), time.monotonic()
    operator_pods.await_leader(other_than=operator_pods.tell_leader_to_go())
    time.sleep(_QUIET_SECONDS)
    assert space.journal.writes(began) == []
    assert space.written() == before


def test_a_second_replica_takes_over_at_once_from_one_that_is_told_to_go(
    space: Space, installation: Installation, operator_pods: OperatorPods
) -> None:
    installation.install(replicas=2)
    try:
        began = time.monotonic()
        leader = operator_pods.tell_leader_to_go()
        successor = operator_pods.await_leader(other_than=leader)
        assert time.monotonic() - began < _HANDOVER_SECONDS
        space.apply(specs.changed(specs.command("held", "pass", replicas=1), suspend=True))
        space.journal.wait(_JOBS, "held", lambda job: reason(job) == "Suspended", timeout=20)
        assert operator_pods.leader() == successor
    finally:
        installation.install(replicas=1)
