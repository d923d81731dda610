"""Pods that have a node and do not begin."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelwright.api.failurepolicy import FailureClass
from modelwright.plan.actions import Object
from modelwright.plan.startup import timeout, trouble

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def pod(index: int = 0, phase: str = "Pending", scheduled: str = "True", **status: Any) -> Object:
    condition = {"type": "PodScheduled", "status": scheduled, "lastTransitionTime": "2026-11-23T12:00:00Z"}
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {
        "metadata": {"name": f"a-1-{index}", "labels": labels},
        "spec": {"nodeName": "node-7"},
        "status": {"phase": phase, "conditions": [condition], **status},
    }


PULLING = {
    "containerStatuses": [{"name": "worker", "image": "mine:1", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
}


def test_a_pod_that_has_a_node_must_start_in_time() -> None:
    assert timeout([pod(), pod(1, "Running")], 600, NOON + timedelta(seconds=100)) == (None, 500.0)
    loss, due = timeout([pod(1, "Running"), pod(**PULLING)], 600, NOON + timedelta(seconds=600))
    assert loss is not None
    assert (loss.reason, loss.failure_class, loss.node, due) == (
        "StartTimeout",
        FailureClass.STARTUP_TIMEOUT,
        "node-7",
        None,
    )
    assert loss.message == (
        "pod a-1-0 (worker 0) did not start within 600 s on its node: "
        "mine:1 cannot be pulled: check its name and imagePullSecrets"
    )


@pytest.mark.parametrize("peer", [{"running": {}}, {"terminated": {"exitCode": 1}}])
def test_an_image_that_others_of_the_job_have_pulled_is_a_fault_of_the_node(peer: Object) -> None:
    worked = {"containerStatuses": [{"name": "worker", "image": "mine:1", "state": peer}]}
    late, others = pod(**PULLING), [pod(1, "Running", **worked)]
    loss, _ = timeout([late], 600, NOON + timedelta(seconds=600), [late, *others])
    assert loss is not None
    assert (loss.reason, loss.failure_class) == ("StartTimeout", FailureClass.INFRASTRUCTURE)
    assert loss.message == (
        "pod a-1-0 (worker 0) did not start within 600 s on its node: "
        "mine:1 cannot be pulled there, and was elsewhere: look at the node's way to the registry"
    )


def test_another_image_that_was_pulled_says_nothing_of_this_one() -> None:
    other = {"containerStatuses": [{"name": "worker", "image": "mine:2", "state": {"running": {}}}]}
    loss, _ = timeout([pod(**PULLING)], 600, NOON + timedelta(seconds=600), [pod(1, "Running", **other)])
    assert loss is not None
    assert loss.failure_class is FailureClass.STARTUP_TIMEOUT


def test_waiting_for_a_node_is_no_failure_however_long_it_takes() -> None:
    later = NOON + timedelta(days=3)
    assert timeout([pod(scheduled="False"), pod(1, "Running"), pod(2, "Failed")], 600, later) == (None, None)


def test_a_pod_that_is_on_its_way_out_need_not_start() -> None:
    leaving = pod()
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T12:05:00Z"
    assert timeout([leaving], 600, NOON + timedelta(seconds=600)) == (None, None)


def test_an_image_of_an_init_container_that_cannot_be_pulled_is_named() -> None:
    state = {"waiting": {"reason": "ErrImagePull"}}
    found = trouble([pod(initContainerStatuses=[{"name": "fetch", "image": "tools/fetch:1", "state": state}])])
    assert found is not None
    assert found.message == "tools/fetch:1 cannot be pulled: check its name and imagePullSecrets"
