"""Two replicas and one Lease, as processes against a real API server."""

import signal
import time
from typing import Any

import pytest

from e2e.bench.operator import Operator
from tests.integration.kube.conftest import StartOperator, await_true, manifest, ready_reason
from tests.integration.plane import Plane

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def pair(start_operator: StartOperator) -> tuple[Operator, Operator]:
    """The replica that leads, and one that is ready to."""
    first = start_operator("operator-0")
    second = start_operator("operator-1", lead=False)
    second.wait_until(lambda: second.get("/readyz")[0] == 200)
    return first, second


def await_suspended(plane: Plane, namespace: str) -> None:
    plane.kubectl.apply([manifest("trainingjob-command", namespace, "a", suspend=True)])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Suspended")


def test_a_leader_that_stops_hands_over_at_once(plane: Plane, namespace: str, pair: tuple[Operator, Operator]) -> None:
    first, second = pair
    assert second.metric("modelwright_is_leader") == 0
    begun = time.monotonic()
    assert first.stop() == 0
    second.await_leading(12)
    assert time.monotonic() - begun < 12
    await_suspended(plane, namespace)


def test_a_leader_that_is_killed_is_replaced_when_its_lease_is_over(
    plane: Plane, namespace: str, pair: tuple[Operator, Operator]
) -> None:
    first, second = pair
    first.stop(signal.SIGKILL)
    second.await_leading(40)
    await_suspended(plane, namespace)


def test_a_leader_that_slept_over_its_lease_writes_nothing_and_exits(
    plane: Plane, namespace: str, pair: tuple[Operator, Operator]
) -> None:
    first, second = pair
    await_suspended(plane, namespace)
    first.pause()
    second.await_leading(40)
    # What the first replica believes from now on is that the Job is to be suspended, and is told that it is not.
    plane.kubectl.run(
        "patch", "trainingjob", "a", f"--namespace={namespace}", "--type=merge", '--patch={"spec":{"suspend":false}}'
    )
    await_true(lambda: not job_of(plane, namespace)["spec"]["suspend"])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) != "Suspended")
    before = await_true(lambda: settled(plane, namespace))
    first.resume()
    await_true(lambda: first.exit_code() is not None)
    assert first.exit_code() == 1
    time.sleep(1)
    assert versions(plane, namespace) == before
    assert not job_of(plane, namespace)["spec"]["suspend"]
    assert second.exit_code() is None


def job_of(plane: Plane, namespace: str) -> dict[str, Any]:
    (job,) = plane.list(namespace, "jobs")
    return job


def settled(plane: Plane, namespace: str) -> dict[str, str] | None:
    """Return the versions of everything if nothing was written in the last two seconds."""
    before = versions(plane, namespace)
    time.sleep(2)
    return before if versions(plane, namespace) == before else None


def versions(plane: Plane, namespace: str) -> dict[str, str]:
    """Return the resource versions of everything that a plan writes: nobody wrote anything if they stay."""
    found = [entry for kind in ("trainingjobs", "jobs", "services") for entry in plane.list(namespace, kind)]
    return {entry["metadata"]["uid"]: entry["metadata"]["resourceVersion"] for entry in found}
