"""Two replicas and one Lease, as processes against a real API server."""

import signal
import time

import pytest

from tests.integration.kube.conftest import Plane, StartOperator, await_true, manifest, ready_reason

pytestmark = pytest.mark.timeout(180)


def apply_job(plane: Plane, namespace: str, name: str) -> None:
    plane.kubectl.apply([manifest("trainingjob-command", namespace, name, suspend=True)])


def test_a_leader_that_stops_hands_over_at_once(plane: Plane, namespace: str, start_operator: StartOperator) -> None:
    first = start_operator("operator-0")
    second = start_operator("operator-1", lead=False)
    second.wait_until(lambda: second.get("/readyz")[0] == 200)
    assert second.metric("modelwright_is_leader") == 0
    begun = time.monotonic()
    assert first.stop() == 0
    second.await_leading(12)
    assert time.monotonic() - begun < 12
    apply_job(plane, namespace, "a")
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Suspended")


def test_a_leader_that_is_killed_is_replaced_when_its_lease_is_over(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    first = start_operator("operator-0")
    second = start_operator("operator-1", lead=False)
    second.wait_until(lambda: second.get("/readyz")[0] == 200)
    first.stop(signal.SIGKILL)
    second.await_leading(40)
    apply_job(plane, namespace, "a")
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Suspended")


def test_a_leader_that_slept_over_its_lease_writes_nothing_and_exits(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    first = start_operator("operator-0")
    second = start_operator("operator-1", lead=False)
    second.wait_until(lambda: second.get("/readyz")[0] == 200)
    first.pause()
    second.await_leading(40)
    apply_job(plane, namespace, "a")
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Suspended")
    version = plane.get(namespace, "trainingjob", "a")["metadata"]["resourceVersion"]
    first.resume()
    await_true(lambda: first.exit_code() is not None)
    assert first.exit_code() == 1
    assert plane.get(namespace, "trainingjob", "a")["metadata"]["resourceVersion"] == version
    assert second.exit_code() is None
