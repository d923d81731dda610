"""What a gang asks for is what its pods ask for, overrides included; a spec and the Job made from it say the same."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.trainingjob import Workers
from modelwright.plan.gangpods import overridden
from modelwright.plan.requests import of_gang, of_job, of_pod, slim, worker_limits

GPU = "nvidia.com/gpu"


def amounts(**given: int | str) -> dict[str, Decimal]:
    return {name: Decimal(value) for name, value in given.items()}


def container(cpu: int, **more: Any) -> dict[str, Any]:
    return {"name": f"c{cpu}", "resources": {"requests": {"cpu": cpu}}, **more}


def test_a_gang_asks_for_what_all_its_pods_do_and_limits_stand_for_requests() -> None:
    resources = {"requests": {"cpu": "500m"}, "limits": {"cpu": "2", GPU: 1}}
    workers = Workers.model_validate({"replicas": 3, "resources": resources})
    assert of_gang(workers, 3) == {"cpu": Decimal("1.5"), GPU: Decimal(3)}


def test_an_override_counts_as_the_pods_show_it() -> None:
    worker = {"name": "worker", "resources": {"limits": {GPU: 8, "memory": None}}}
    sidecar = container(2, restartPolicy="Always")
    workers = Workers.model_validate(
        {
            "resources": {"limits": {GPU: 1, "memory": "1Gi"}},
            "podTemplate": {"spec": {"containers": [worker], "initContainers": [sidecar]}},
        }
    )
    assert of_gang(workers, 2) == {GPU: Decimal(16), "cpu": Decimal(4)}
    assert worker_limits(workers.document()) == {GPU: 8}


def test_of_an_override_nothing_is_merged_but_what_counts() -> None:
    unread = object()  # Which no merge could tell from others.
    worker = {"name": "worker", "resources": {"limits": {GPU: 8}}, "ports": [{"containerPort": unread}]}
    override = {"spec": {"hostAliases": [{"ip": unread}], "containers": [worker]}}
    limits = {"limits": {GPU: 1, "cpu": 2}}
    assert worker_limits({"resources": limits, "podTemplate": override}) == {GPU: 8, "cpu": 2}
    replaced = {"spec": {"containers": [{"name": "worker", "resources": {"$patch": "replace", "limits": {GPU: 8}}}]}}
    assert worker_limits({"resources": limits, "podTemplate": replaced}) == {GPU: 8}


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [container(1), container(2)]}, 3),
        ({"containers": [container(1)], "initContainers": [container(4)]}, 4),
        ({"containers": [container(1)], "initContainers": [container(2, restartPolicy="Always"), container(4)]}, 6),
        ({"containers": [container(3)], "initContainers": [container(4), container(2, restartPolicy="Always")]}, 5),
        ({"containers": [container(1)], "overhead": {"cpu": "500m"}}, "1.5"),
        ({"containers": [container(1)], "resources": {"requests": {"cpu": 8}}}, 8),
        ({"containers": [container(-8)]}, 0),
    ],
)
def test_a_pod_asks_for_what_the_scheduler_counts(spec: dict[str, Any], cpu: int | str) -> None:
    assert of_pod(spec) == amounts(cpu=cpu)
    assert of_pod(slim({**spec, "nodeSelector": {"a": "b"}})) == amounts(cpu=cpu)


_RUBBISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["containers", "initContainers", "name", "resources", "limits", "requests", "cpu", "overhead"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(_RUBBISH)
def test_what_makes_no_sense_counts_for_nothing_and_breaks_nothing(found: Any) -> None:
    spec = found if isinstance(found, dict) else {"containers": found}
    assert all(value >= 0 for value in of_pod(spec).values())
    worker_limits({"resources": found, "podTemplate": {"spec": found}})


_RESOURCES = st.fixed_dictionaries(
    {},
    optional={
        "requests": st.dictionaries(st.sampled_from(["cpu", GPU]), st.integers(0, 8)),
        "limits": st.dictionaries(st.sampled_from(["cpu", GPU]), st.integers(0, 8)),
    },
)


@given(_RESOURCES, _RESOURCES, st.integers(1, 5))
def test_a_job_asks_for_what_was_foreseen(first: dict[str, Any], second: dict[str, Any], replicas: int) -> None:
    override = {"spec": {"containers": [{"name": "worker", "resources": second}]}}
    workers = Workers.model_validate({"resources": first, "replicas": replicas, "podTemplate": override})
    proposed = {"metadata": {}, "spec": {"containers": [{"name": "worker", "resources": workers.resources.document()}]}}
    job = {"spec": {"parallelism": replicas, "template": overridden(workers, proposed)}}
    assert of_job(job) == of_gang(workers, replicas)
