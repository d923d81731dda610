"""A gang that has nowhere to go but to nodes that it keeps away from."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelwright.api.failurepolicy import FailureClass
from modelwright.plan.actions import Object
from modelwright.plan.exclusion import PATIENCE, cornered
from modelwright.plan.times import stamp
from tests.simulation.one_job import COMMAND, Simulation
from tests.unit.plan.training_world import message

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LATER = NOON + timedelta(seconds=PATIENCE)
EXCLUDED = "node(s) didn't match Pod's node affinity/selector"
TAINT = "node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"
NO_HELP = "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."


def waiting(text: str, index: int = 0) -> Object:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": text,
        "lastTransitionTime": "2026-11-23T12:00:00Z",
    }
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    status = {"phase": "Pending", "conditions": [condition]}
    return {"metadata": {"name": f"a-2-{index}", "labels": labels}, "spec": {}, "status": status}


def placed(node: str, index: int) -> Object:
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    meta = {"name": f"a-2-{index}", "labels": labels}
    return {"metadata": meta, "spec": {"nodeName": node}, "status": {"phase": "Running"}}


@pytest.mark.parametrize(
    "text",
    [
        f"0/1 nodes are available: 1 {EXCLUDED}. {NO_HELP}",
        f"0/3 nodes are available: 1 {TAINT}, 2 {EXCLUDED}. {NO_HELP}",
        f"0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 {EXCLUDED}. {NO_HELP}",
        f"0/3 nodes are available: 1 {EXCLUDED}, 2 node(s) were unschedulable. {NO_HELP}",
    ],
)
def test_pods_that_no_other_node_could_take_get_the_excluded_ones_back_after_a_while(text: str) -> None:
    assert cornered([waiting(text)], ("gpu-17",), NOON + timedelta(seconds=100)) == (None, PATIENCE - 100)
    loss, due = cornered([waiting(text)], ("gpu-17", "gpu-4"), LATER)
    assert loss is not None
    assert (loss.reason, loss.failure_class, loss.retryable, due) == (
        "NodesExcluded",
        FailureClass.INFRASTRUCTURE,
        True,
        None,
    )
    assert loss.message == (
        "pod a-2-0 (worker 0) found no node in 10 minutes but those that are excluded: gpu-17, gpu-4 may be used again"
    )


@pytest.mark.parametrize(
    "text",
    [
        f"0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 {EXCLUDED}. {NO_HELP}",
        f"0/3 nodes are available: 1 {TAINT}, 2 Insufficient cpu. preemption: 0/3 nodes are available: 3 {EXCLUDED}.",
        f"0/3 nodes are available: 3 {TAINT}. {NO_HELP}",
        "no nodes available to schedule pods",
        "",
    ],
)
def test_pods_that_another_node_may_take_one_day_wait_for_it(text: str) -> None:
    assert cornered([waiting(text)], ("gpu-17",), LATER) == (None, None)


def test_a_node_that_the_gang_itself_fills_is_not_another_node() -> None:
    text = f"0/3 nodes are available: 1 {EXCLUDED}, 2 Insufficient nvidia.com/gpu. {NO_HELP}"
    peers = [placed("gpu-1", 0), placed("gpu-1", 1)]
    assert cornered([*peers, waiting(text, 2)], ("gpu-17",), LATER) == (None, None)
    loss, _ = cornered([*peers, placed("gpu-2", 3), waiting(text, 2)], ("gpu-17",), LATER)
    assert loss is not None


def test_who_keeps_away_from_nothing_waits_for_ever() -> None:
    text = f"0/1 nodes are available: 1 {EXCLUDED}. {NO_HELP}"
    assert cornered([waiting(text)], (), NOON + timedelta(days=9)) == (None, None)


RULE = {"exitCodes": [1], "excludeNode": True, "failureClass": "Infrastructure"}
POLICY: dict[str, Any] = {"failurePolicy": {"rules": [RULE], "backoffSeconds": 0}}


def cornered_job(**policy: Any) -> Simulation:
    """Return a job whose only node is excluded by the loss of its first attempt."""
    sim = Simulation({**COMMAND, "failurePolicy": {**POLICY["failurePolicy"], **policy}})
    create = sim.world.controllers[1]._pod  # type: ignore[attr-defined]
    seen: dict[str, str] = {}

    def on_the_only_node(job: Object, index: int) -> Object:
        affinity = job["spec"]["template"]["spec"].get("affinity")
        return {**create(job, index), "spec": {"affinity": affinity} if affinity else {"nodeName": "node-1"}}

    def obstacle(pod: Object) -> Object | None:
        if "nodeName" in pod["spec"]:
            return None
        since = seen.setdefault(pod["metadata"]["uid"], stamp(sim.world.now))
        condition = waiting(f"0/1 nodes are available: 1 {EXCLUDED}. {NO_HELP}")["status"]["conditions"][0]
        return {"conditions": [{**condition, "lastTransitionTime": since}]}

    sim.world.controllers[1]._pod = on_the_only_node  # type: ignore[attr-defined]
    sim.world.kubelets.obstacle = obstacle
    sim.until_pods_run()
    sim.world.run(2)
    sim.trainer.fail("exit")
    return sim


def test_a_job_whose_only_node_is_excluded_goes_back_to_it_and_says_so() -> None:
    sim = cornered_job()
    sim.until(lambda: sim.ready == ("False", "Unschedulable"))
    assert sim.status["excludedNodes"] == ["node-1"]
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert [entry["reason"] for entry in sim.status["attempts"]] == ["WorkerFailed", "NodesExcluded", "Completed"]
    assert sim.status["attempts"][1]["message"].endswith("excluded: node-1 may be used again")
    assert not sim.status.get("excludedNodes")
    assert sim.status["failures"] == [{"failureClass": "Infrastructure", "count": 2}]


def test_a_crash_while_the_nodes_are_given_back_costs_nothing() -> None:
    for crash in range(1, 8):
        sim = cornered_job()
        sim.until(lambda: sim.ready == ("False", "Unschedulable"))  # noqa: B023 (used at once)
        sim.world.faults.crash_after = len(sim.world.writes) + crash
        sim.world.settle()
        assert sim.ready == ("True", "Succeeded")
        assert sim.status["restarts"] == 2


def test_the_budget_of_infrastructure_pays() -> None:
    sim = cornered_job(budgets={"infrastructure": 1})
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted")
    assert "excluded: node-1 may be used again" in message(sim)
