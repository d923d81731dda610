"""Pods that only take the place of the workers that an elastic gang lacks."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.elastic import Elastic
from modelwright.api.run import ResolvedStorage, Run
from modelwright.api.trainingjob import TrainingJobSpec
from modelwright.plan.actions import Object
from modelwright.plan.gang import Gang, Launcher, job, job_name
from modelwright.plan.launch import program
from modelwright.plan.placeholder import name_of, placeholder
from modelwright.plan.requests import of_pod
from tests.unit.plan.test_gang import SETTINGS, SPEC, owner

SCRATCH = {
    "storageClassName": "local-nvme",
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Ti"}},
}
ELASTIC = Elastic(min=1, wait_seconds=60, grow_after_seconds=300)


def gang(**workers: Any) -> Gang:
    spec = TrainingJobSpec.model_validate({**SPEC, "workers": {"replicas": 2, **workers}})
    storage = ResolvedStorage(uri="s3://models/team")
    run = Run(namespace="team", name="titanic", uid="uid-1", attempt=4, storage=storage, training=spec)
    started = program("modelwright.runtime.train", spec.workers.command, spec.workers.args)
    return Gang(owner(), run, spec.workers, started, Launcher.TORCH, "s3", suspend=False, avoided_nodes=("bad",))


def pods_of(**workers: Any) -> tuple[Object, Object]:
    """Return the pod specs of a worker and of what stands in for one."""
    made = gang(**workers)
    job_of, placed = job(made, SETTINGS), placeholder(made, ELASTIC, 3, SETTINGS)
    return job_of["spec"]["template"]["spec"], placed["spec"]["template"]["spec"]


def test_it_goes_where_a_worker_could() -> None:
    worker, pod = pods_of(
        nodeSelector={"pool": "gpu"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
        priorityClassName="batch",
        topology="Pack",
        resources={"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": 1}},
        podTemplate={
            "spec": {
                "resourceClaims": [{"name": "nic", "resourceClaimTemplateName": "fast"}],
                "containers": [{"name": "worker", "resources": {"claims": [{"name": "nic"}]}}],
            }
        },
    )
    same = ("nodeSelector", "tolerations", "priorityClassName", "affinity", "resourceClaims", "securityContext")
    assert {name: pod[name] for name in same} == {name: worker[name] for name in same}
    assert "metadata.name" in str(pod["affinity"]), "and stays away from the nodes that the gang stays away from"
    assert pod["containers"][0]["resources"] == worker["containers"][0]["resources"]
    assert pod["containers"][0]["image"] == worker["containers"][0]["image"]


def test_it_is_told_nothing_and_does_nothing() -> None:
    worker, pod = pods_of(
        env=[{"name": "SECRET", "value": "x"}],
        podTemplate={
            "spec": {
                "initContainers": [{"name": "fetch", "image": "fetch:1"}],
                "containers": [
                    {
                        "name": "worker",
                        "lifecycle": {"preStop": {"sleep": {"seconds": 9}}},
                        "volumeMounts": [{"name": "rows", "mountPath": "/rows"}],
                    }
                ],
                "volumes": [
                    {"name": "rows", "persistentVolumeClaim": {"claimName": "rows"}},
                    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": SCRATCH}}},
                    {"name": "keys", "secret": {"secretName": "keys"}},
                ],
            }
        },
    )
    (container,) = pod["containers"]
    grace = worker["terminationGracePeriodSeconds"]
    assert container["command"] == ["sleep", str(60 + grace + 60)]
    assert not {"env", "volumeMounts", "lifecycle", "args"} & set(container)
    assert "initContainers" not in pod
    kept = [volume for volume in worker["volumes"] if volume["name"] in ("rows", "scratch")]
    assert pod["volumes"] == kept, "a claim may bind it to nodes; others do not"
    assert pod["terminationGracePeriodSeconds"] == 1


_PARTS = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from(["100m", "2"]),
        "memory": st.sampled_from(["512Mi", "2Gi"]),
        "example.com/nic": st.sampled_from(["1", "2"]),
    },
)


@given(_PARTS, _PARTS, _PARTS)
def test_it_asks_for_what_a_pod_with_company_asks_for(
    own: dict[str, str], beside: dict[str, str], before: dict[str, str]
) -> None:
    inits = [
        {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "resources": {"limits": beside}},
        {"name": "fetch", "image": "fetch:1", "resources": {"limits": before}},
    ]
    worker, pod = pods_of(resources={"limits": own}, podTemplate={"spec": {"initContainers": inits}})
    assert of_pod(pod) == of_pod(worker)
    resources = pod["containers"][0]["resources"]
    devices = {name for name in resources["requests"] if "/" in name}
    assert {name: resources["limits"][name] for name in devices} == {
        name: resources["requests"][name] for name in devices
    }, "Kubernetes takes no device without a limit"


def test_its_pods_end_together_and_kubernetes_clears_them_away() -> None:
    made = placeholder(gang(), ELASTIC, 3, SETTINGS)
    spec = made["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (3, 3, 0)
    assert spec["successPolicy"] == {"rules": [{"succeededCount": 1}]}
    assert spec["ttlSecondsAfterFinished"] == ELASTIC.grow_after_seconds
    assert spec["activeDeadlineSeconds"] == 1800 + 240, "a node that cannot start it is not held for ever"


def test_it_belongs_to_its_owner_and_to_no_attempt() -> None:
    made = placeholder(gang(podTemplate={"metadata": {"labels": {"team": "vision"}}}), ELASTIC, 1, SETTINGS)
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels["modelwright.dev/placeholder"] == made["metadata"]["labels"]["modelwright.dev/placeholder"] == "4"
    assert labels["team"] == "vision", "affinity may go by it"
    assert "modelwright.dev/attempt" not in labels


@given(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True), st.integers(1, 1001))
def test_its_name_fits_and_is_no_attempts(name: str, attempt: int) -> None:
    of = owner(name)
    assert len(f"{name_of(of, attempt)}-999") <= 63
    assert name_of(of, attempt) not in {job_name(of, attempt), job_name(of, attempt + 1), name_of(of, attempt + 1)}
