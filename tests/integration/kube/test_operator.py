"""The operator against a real API server: what it makes, what it leaves alone, what it survives."""

import signal
import time
from typing import Any

import pytest

from tests.integration.kube.conftest import StartOperator, await_true, manifest, ready_reason
from tests.integration.plane import Plane
from tests.unit.kube.fake_api import as_deep_as_the_operator

JOB = "trainingjob-command"
pytestmark = pytest.mark.timeout(180)


def suspended(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return manifest(JOB, namespace, name, suspend=True, **spec)


def test_a_training_job_gets_its_children_and_its_status_and_a_restart_writes_nothing(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    first = start_operator()
    names = [f"job-{number}" for number in range(5)]
    plane.kubectl.apply([suspended(namespace, name) for name in names])
    await_true(lambda: {ready_reason(entry) for entry in plane.list(namespace, "trainingjobs")} == {"Suspended"})
    jobs = plane.list(namespace, "jobs")
    assert sorted(job["metadata"]["ownerReferences"][0]["name"] for job in jobs) == names
    assert all(job["spec"]["suspend"] for job in jobs)
    await_true(lambda: all(job.get("status", {}).get("conditions") for job in plane.list(namespace, "jobs")))
    time.sleep(1)
    assert first.metric("modelwright_status_writes_total") == len(names)
    versions = _versions(plane, namespace)
    assert first.stop() == 0

    second = start_operator()
    second.wait_until(lambda: second.metric("modelwright_reconcile_seconds_count") >= len(names))
    time.sleep(1)
    assert second.writes() == 0
    assert _versions(plane, namespace) == versions


def test_children_go_with_their_owner_and_nothing_of_ours_holds_it_up(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    operator = start_operator()
    plane.kubectl.apply([suspended(namespace, "a")])
    await_true(lambda: plane.list(namespace, "jobs"))
    assert "finalizers" not in plane.list(namespace, "trainingjobs")[0]["metadata"]
    plane.kubectl.run("delete", "trainingjob", "a", f"--namespace={namespace}", "--timeout=10s")
    await_true(lambda: not plane.list(namespace, "jobs"))
    time.sleep(1)
    assert plane.list(namespace, "jobs") == []
    assert operator.metric("modelwright_unexpected_errors_total") == 0


def test_objects_deleted_while_every_watch_was_down_are_forgotten(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    operator = start_operator()
    plane.kubectl.apply([suspended(namespace, name) for name in ("kept", "gone")])
    await_true(lambda: {ready_reason(entry) for entry in plane.list(namespace, "trainingjobs")} == {"Suspended"})
    count = 'modelwright_objects{kind="TrainingJob",reason="Suspended"}'
    operator.pause()
    # First the connections, then the object: else the news of it would wait in a socket.
    plane.restart_api_server()
    plane.kubectl.run("delete", "trainingjob", "gone", f"--namespace={namespace}")
    operator.resume()
    # A roll call waits half a minute for news that may be on their way.
    operator.wait_until(lambda: operator.metric(count) == 1, 100)
    plane.kubectl.apply([suspended(namespace, "new")])
    operator.wait_until(lambda: operator.metric(count) == 2)
    await_true(lambda: _owners(plane, namespace) == {"kept", "new"})
    # Not a new process that had never heard of it: this one has survived the pause.
    assert operator.exit_code() is None


def test_the_operator_goes_on_when_the_api_server_has_been_away(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    operator = start_operator()
    plane.restart_api_server()
    plane.kubectl.apply([suspended(namespace, "a")])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Suspended")
    assert operator.get("/healthz")[0] == 200
    assert operator.exit_code() is None


def test_a_killed_operator_is_replaced_by_one_that_finishes_the_work(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    first = start_operator()
    plane.kubectl.apply([suspended(namespace, f"job-{number}") for number in range(30)])
    await_true(lambda: plane.list(namespace, "jobs"))
    first.stop(signal.SIGKILL)
    start_operator("operator-1")
    await_true(lambda: {ready_reason(entry) for entry in plane.list(namespace, "trainingjobs")} == {"Suspended"})
    assert len(plane.list(namespace, "jobs")) == 30


def test_a_refused_child_is_said_in_the_status_and_made_when_it_is_allowed(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": namespace},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    plane.kubectl.apply([quota])
    await_true(lambda: (plane.get(namespace, "resourcequota", "none") or {}).get("status", {}).get("hard"))
    operator = start_operator()
    plane.kubectl.apply([suspended(namespace, "a")])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "ChildRejected")
    message = plane.get(namespace, "trainingjob", "a")["status"]["conditions"][0]["message"]
    assert "exceeded quota" in message
    tried = operator.writes()
    time.sleep(3)
    assert operator.writes() == tried
    plane.kubectl.run("delete", "resourcequota", "none", f"--namespace={namespace}")
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Suspended", 90)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"nodeSelectr": {"a": "b"}}, ".spec.template.spec.nodeSelectr: field not declared in schema"),
        ({"hostNetwork": "yes"}, ".spec.template.spec.hostNetwork: expected boolean"),
        ({"initContainers": [{"name": "fetch"}]}, "spec.template.spec.initContainers[0].image: Required value"),
    ],
)
def test_a_pod_template_that_kubernetes_does_not_take_is_said_in_the_status_and_not_tried_in_a_loop(
    plane: Plane, namespace: str, start_operator: StartOperator, spec: dict[str, Any], sentence: str
) -> None:
    operator = start_operator()
    job = suspended(namespace, "a")
    job["spec"]["workers"]["podTemplate"] = {"spec": spec}
    plane.kubectl.apply([job])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "ChildRejected")
    assert sentence in plane.get(namespace, "trainingjob", "a")["status"]["conditions"][0]["message"]
    tried = operator.writes()
    time.sleep(3)
    assert operator.writes() == tried


@pytest.mark.parametrize("example", ["trainingjob-gpus", "trainingjob-sidecar"])
def test_the_examples_of_pod_templates_make_jobs_that_kubernetes_takes(
    plane: Plane, namespace: str, start_operator: StartOperator, example: str
) -> None:
    start_operator()
    plane.kubectl.apply([manifest(example, namespace, "a", suspend=True, storage={"uri": "s3://models"})])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Suspended")
    (job,) = plane.list(namespace, "jobs")
    assert [entry["name"] for entry in job["spec"]["template"]["spec"]["containers"]] == ["worker"]


def test_only_its_own_namespaces_are_touched(plane: Plane, namespace: str, start_operator: StartOperator) -> None:
    start_operator()
    plane.kubectl.apply([suspended("default", "elsewhere"), suspended(namespace, "here")])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "here")) == "Suspended")
    assert "status" not in plane.get("default", "trainingjob", "elsewhere")
    plane.kubectl.run("delete", "trainingjob", "elsewhere", "--namespace=default")


def test_a_wrong_configuration_is_one_sentence_and_an_exit_code(start_operator: StartOperator) -> None:
    operator = start_operator(lead=False, http_port="no")
    for _ in range(300):
        if operator.exit_code() is not None:
            break
        time.sleep(0.1)
    assert operator.exit_code() == 2
    assert (
        operator.log.read_text() == "modelwright: MODELWRIGHT_HTTP_PORT is 'no': a number from 1 to 65535 is wanted\n"
    )


def _owners(plane: Plane, namespace: str) -> set[str]:
    return {job["metadata"]["ownerReferences"][0]["name"] for job in plane.list(namespace, "jobs")}


def _versions(plane: Plane, namespace: str) -> dict[str, str]:
    found = [*plane.list(namespace, "trainingjobs"), *plane.list(namespace, "jobs"), *plane.list(namespace, "services")]
    return {entry["metadata"]["uid"]: entry["metadata"]["resourceVersion"] for entry in found}


def test_objects_of_any_depth_are_told_so_and_keep_nobody_from_the_others(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    operator = start_operator()
    with as_deep_as_the_operator():
        plane.kubectl.apply([_deep(namespace, levels) for levels in (260, 1100, 5000)])
        plane.kubectl.apply([suspended(namespace, "before")])
        await_true(lambda: _reasons(plane, namespace) == ["Suspended", *["InvalidSpec"] * 3])
        assert operator.stop() == 0

        start_operator("operator-1")
        plane.kubectl.apply([suspended(namespace, "behind")])
        await_true(lambda: _reasons(plane, namespace) == [*["Suspended"] * 2, *["InvalidSpec"] * 3])


def _deep(namespace: str, levels: int) -> dict[str, Any]:
    affinity: dict[str, Any] = {"a": 10**20}
    for _ in range(levels):
        affinity = {"a": affinity}
    document = suspended(namespace, f"deep-{levels}")
    document["spec"]["workers"]["podTemplate"] = {"spec": {"affinity": affinity}}
    return document


def _reasons(plane: Plane, namespace: str) -> list[str]:
    return [ready_reason(entry) for entry in plane.list(namespace, "trainingjobs")]
