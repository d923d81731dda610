"""What a user makes of the pods of a gang, and what they cannot unmake."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.podtemplate import GangPods, Topology
from modelwright.plan import gangpods
from tests.unit.plan.test_gang import container_of, env_of, job_of, make, pod_of


def override(metadata: Any = None, **spec: Any) -> dict[str, Any]:
    return {"podTemplate": {"metadata": metadata or {}, "spec": spec}}


def worker(**fields: Any) -> dict[str, Any]:
    return override(containers=[{"name": "worker", **fields}])


def test_volumes_and_mounts_come_beside_ours() -> None:
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "images"}}
    mount = {"name": "data", "mountPath": "/data"}
    made = make(**override(volumes=[claim], containers=[{"name": "worker", "volumeMounts": [mount]}]))
    assert [volume["name"] for volume in pod_of(made)["volumes"]] == ["shared-memory", "data", "identity"]
    assert mount in container_of(made)["volumeMounts"]


def test_labels_and_annotations_come_beside_ours() -> None:
    made = make(**override({"labels": {"team": "vision"}, "annotations": {"note": "x"}}))
    metadata = job_of(made)["spec"]["template"]["metadata"]
    assert metadata["labels"] == {**job_of(made)["metadata"]["labels"], "team": "vision"}
    assert metadata["annotations"] == {"note": "x"}


def test_an_init_container_leaves_its_last_words() -> None:
    made = make(**override(initContainers=[{"name": "fetch", "image": "busybox"}]))
    (fetch,) = pod_of(made)["initContainers"]
    assert fetch == {"name": "fetch", "image": "busybox", "terminationMessagePolicy": "FallbackToLogsOnError"}
    assert "initContainers" not in pod_of(make())


def test_the_number_of_threads_follows_the_override() -> None:
    def threads(**fields: Any) -> list[Any]:
        entries = container_of(make(command=["train"], **worker(**fields)))["env"]
        return [entry for entry in entries if entry["name"] == "OMP_NUM_THREADS"]

    assert len(threads(tty=True)) == 1
    assert threads(resources={"limits": {"nvidia.com/gpu": 2}}) == [], "torchrun gives each process one"
    mine = {"name": "OMP_NUM_THREADS", "value": "3"}
    assert threads(env=[mine]) == [mine], "with a source beside it the API server would refuse the pod"


def test_the_number_of_processes_follows_the_devices_of_the_override() -> None:
    assert (
        "--nproc-per-node=8" in container_of(make(**worker(resources={"limits": {"nvidia.com/gpu": "8"}})))["command"]
    )
    assert env_of(make(**worker(resources={"limits": {"amd.com/gpu": 2}})))["MODELWRIGHT_GPUS"] == "2"
    claimed = make(
        **override(
            resourceClaims=[{"name": "g"}], containers=[{"name": "worker", "resources": {"claims": [{"name": "g"}]}}]
        )
    )
    assert "--nproc-per-node=gpu" in container_of(claimed)["command"]


def test_a_pod_on_the_hosts_network_still_finds_its_peers() -> None:
    assert pod_of(make(**override(hostNetwork=True)))["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert pod_of(make(**override(hostNetwork=True, dnsPolicy="None")))["dnsPolicy"] == "None"
    assert "dnsPolicy" not in pod_of(make())


@pytest.mark.parametrize(
    ("asked", "escalation"),
    [
        ({}, False),
        ({"capabilities": {"add": ["IPC_LOCK"]}}, False),
        ({"privileged": False}, False),
        ({"privileged": True}, None),
        ({"capabilities": {"add": ["IPC_LOCK", "SYS_ADMIN"]}}, None),
        ({"capabilities": {"add": ["CAP_SYS_ADMIN"]}}, None),
        ({"privileged": True, "allowPrivilegeEscalation": False}, False),
        ({"privileged": True, "allowPrivilegeEscalation": True}, True),
        ({"capabilities": "all"}, False),
    ],
)
def test_kubernetes_takes_a_privileged_worker_only_where_nothing_speaks_against_it(
    asked: Any, escalation: bool | None
) -> None:
    context = container_of(make(**worker(securityContext=asked)))["securityContext"]
    assert context.get("allowPrivilegeEscalation") is escalation
    assert context.get("privileged") is asked.get("privileged")
    if "capabilities" not in asked:
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_a_longer_grace_period_is_torchruns_too() -> None:
    longer = make(command=["python", "main.py"], **override(terminationGracePeriodSeconds=600))
    assert pod_of(longer)["terminationGracePeriodSeconds"] == 600
    assert env_of(longer)["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "590"
    assert env_of(make(**override(terminationGracePeriodSeconds=5)))["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "1"
    assert "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" not in env_of(make(command=["python", "main.py"]))


def test_the_override_of_a_pod_is_not_told_to_the_pod() -> None:
    run = json.loads(env_of(make(**override(nodeSelector={"pool": "gpu"})))["MODELWRIGHT_RUN"])
    assert "podTemplate" not in run["training"]["workers"]
    assert run["training"]["workers"]["replicas"] == 2


def test_shared_memory_has_a_limit_where_one_is_given() -> None:
    assert gangpods.shared_memory(GangPods()) == {"medium": "Memory"}
    assert gangpods.shared_memory(GangPods(shared_memory="8Gi")) == {"medium": "Memory", "sizeLimit": "8Gi"}


def test_packed_pods_seek_the_node_of_their_peers_and_then_its_zone() -> None:
    terms = pod_of(make(topology="Pack"))["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [(term["weight"], term["podAffinityTerm"]["topologyKey"]) for term in terms] == [
        (100, "kubernetes.io/hostname"),
        (50, "topology.kubernetes.io/zone"),
    ]
    labels = job_of(make())["spec"]["template"]["metadata"]["labels"]
    assert {str(term["podAffinityTerm"]["labelSelector"]["matchLabels"]) for term in terms} == {str(labels)}
    (rack,) = gangpods.placement(GangPods(topology=Topology.PACK, topology_key="rack"), {})["affinity"]["podAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert rack["podAffinityTerm"]["topologyKey"] == "rack"


def test_spread_pods_shun_the_nodes_of_their_peers_and_wait_for_none() -> None:
    (constraint,) = pod_of(make(topology="Spread"))["topologySpreadConstraints"]
    assert (constraint["topologyKey"], constraint["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert constraint["labelSelector"]["matchLabels"]["modelwright.dev/attempt"] == "1"
    harder = override(topologySpreadConstraints=[{"topologyKey": "kubernetes.io/hostname", "maxSkew": 2}])
    (constraint,) = pod_of(make(topology="Spread", **harder))["topologySpreadConstraints"]
    assert (constraint["maxSkew"], constraint["whenUnsatisfiable"]) == (2, "ScheduleAnyway")


@pytest.mark.parametrize("given_terms", [[], [{"matchExpressions": ["a"]}, {"matchFields": ["b"]}]])
def test_no_term_of_the_users_leads_back_to_an_avoided_node(given_terms: list[Any]) -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": given_terms}}}
    made = {"spec": {"affinity": {**affinity, "podAffinity": {"x": 1}}}}
    kept = gangpods.sealed(made, {}, ("bad-1", "bad-2"))["spec"]["affinity"]
    terms = kept["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    for before, term in zip(given_terms or [{}], terms, strict=True):
        *first, one, two = term["matchFields"]
        assert first == before.get("matchFields", [])
        assert (one["values"], two["values"]) == (["bad-1"], ["bad-2"])
        assert term.get("matchExpressions") == before.get("matchExpressions")
    assert kept["podAffinity"] == {"x": 1}


names = st.sampled_from(["A", "AWS_REGION", "MODELWRIGHT_RUN", "MODELWRIGHT_NODE"])
mounts = st.sampled_from(["/var/run/secrets/modelwright", "/dev/shm", "/data"])
volumes = st.sampled_from(["identity", "shared-memory", "data"])


@st.composite
def hostile(draw: Any) -> dict[str, Any]:
    """Return an override that no API server has looked at."""
    entry = {
        "name": "worker",
        "command": ["sleep"],
        "env": [{"name": draw(names), "value": "x"}, {"name": draw(names), "$patch": "delete"}],
        "volumeMounts": [
            {"mountPath": draw(mounts), "name": draw(volumes), **draw(st.sampled_from([{}, {"$patch": "delete"}]))}
        ],
    }
    labels = draw(
        st.dictionaries(st.sampled_from(["modelwright.dev/owner-uid", "modelwright.dev/attempt"]), st.just("x"))
    )
    return override(
        {"labels": labels},
        restartPolicy=draw(st.sampled_from(["Always", None])),
        subdomain="elsewhere",
        containers=[entry],
        volumes=[{"name": draw(volumes), "emptyDir": {}}],
    )


@given(hostile())
def test_what_the_operator_counts_on_holds_whatever_an_override_says(workers: dict[str, Any]) -> None:
    plain, made = make(), make(**workers)
    assert job_of(made)["metadata"] == job_of(plain)["metadata"]
    kept = job_of(plain)["spec"]["template"]["metadata"]["labels"].items()
    assert kept <= job_of(made)["spec"]["template"]["metadata"]["labels"].items()
    for field in ("restartPolicy", "subdomain"):
        assert pod_of(made)[field] == pod_of(plain)[field]
    assert container_of(made)["command"] == container_of(plain)["command"]
    ours = {name: value for name, value in env_of(plain).items() if name.startswith("MODELWRIGHT_")}
    assert {name: env_of(made)[name] for name in ours} == ours
    (mount,) = (entry for entry in container_of(made)["volumeMounts"] if entry["mountPath"].endswith("/modelwright"))
    assert (mount["name"], mount["readOnly"]) == ("identity", True)
    (identity,) = (entry for entry in pod_of(made)["volumes"] if entry["name"] == "identity")
    assert set(identity) == {"name", "projected"}
