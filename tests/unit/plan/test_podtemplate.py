"""A strategic merge patch over a pod template does what Kubernetes' own does."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelwright.api.podtemplate import GangPods
from modelwright.plan.podtemplate import merge, problem

BASE: dict[str, Any] = {
    "metadata": {"labels": {"ours": "1"}},
    "spec": {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "containers": [
            {
                "name": "worker",
                "image": "runtime:1",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
            }
        ],
        "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}],
    },
}


def merged(**spec: Any) -> dict[str, Any]:
    result: dict[str, Any] = merge(BASE, {"spec": spec})["spec"]
    return result


def worker(**fields: Any) -> dict[str, Any]:
    (found,) = merged(containers=[{"name": "worker", **fields}])["containers"]
    return dict(found)


def test_maps_are_merged_field_by_field() -> None:
    assert merged(nodeSelector={"zone": "b"})["nodeSelector"] == {"pool": "gpu", "zone": "b"}
    capabilities = worker(securityContext={"capabilities": {"add": ["IPC_LOCK"]}})["securityContext"]["capabilities"]
    assert capabilities == {"drop": ["ALL"], "add": ["IPC_LOCK"]}


def test_entries_are_found_by_their_key_and_new_ones_come_last() -> None:
    env = worker(env=[{"name": "C", "value": "3"}, {"name": "A", "value": "9"}])["env"]
    assert env == [{"name": "A", "value": "9"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]
    mounts = worker(volumeMounts=[{"mountPath": "/data", "name": "data"}, {"mountPath": "/dev/shm", "name": "mine"}])
    assert [mount["name"] for mount in mounts["volumeMounts"]] == ["mine", "data"]


def test_a_list_without_a_key_is_replaced_whole() -> None:
    assert merged(tolerations=[{"key": "b"}])["tolerations"] == [{"key": "b"}]
    assert worker(securityContext={"capabilities": {"drop": ["NET_RAW"]}})["securityContext"]["capabilities"] == {
        "drop": ["NET_RAW"]
    }


@pytest.mark.parametrize(
    ("field", "entry", "whole"),
    [
        ("volumes", {"name": "shared-memory", "emptyDir": {"sizeLimit": "8Gi"}}, False),
        ("volumes", {"name": "shared-memory", "hostPath": {"path": "/dev/shm"}}, True),
    ],
)
def test_a_volume_of_another_kind_leaves_nothing_of_the_first(field: str, entry: Any, whole: bool) -> None:
    (found,) = merged(**{field: [entry]})[field]
    assert found == (
        entry if whole else {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
    )


def test_a_variable_has_a_value_or_a_source_never_both() -> None:
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    assert worker(env=[{"name": "A", "valueFrom": source}])["env"][0] == {"name": "A", "valueFrom": source}


def test_what_is_deleted_is_gone() -> None:
    assert worker(env=[{"name": "A", "$patch": "delete"}])["env"] == [{"name": "B", "value": "2"}]
    assert "nodeSelector" not in merged(nodeSelector={"$patch": "delete"})
    assert "nodeSelector" not in merged(nodeSelector=None)
    assert merged(nodeSelector={"pool": None})["nodeSelector"] == {}
    assert merged(initContainers=[{"name": "gone", "$patch": "delete"}])["initContainers"] == []


def test_what_is_replaced_keeps_nothing() -> None:
    assert merged(nodeSelector={"$patch": "replace", "zone": "b"})["nodeSelector"] == {"zone": "b"}
    assert worker(securityContext={"$patch": "replace", "privileged": True})["securityContext"] == {"privileged": True}
    assert worker(env=[{"$patch": "replace"}, {"name": "C", "value": "3"}])["env"] == [{"name": "C", "value": "3"}]
    assert merged(tolerations=[{"$patch": "replace"}, {"key": "b"}])["tolerations"] == [{"key": "b"}]


@pytest.mark.parametrize(
    ("spec", "missing"),
    [
        ({"volumes": [{"$patch": "replace"}]}, "spec.volumes.0.name"),
        ({"initContainers": [{"$patch": "replace"}]}, "spec.initContainers.0.name"),
        ({"containers": [{"name": "worker", "env": [{"$patch": "replace"}]}]}, "spec.containers.0.env.0.name"),
        (
            {"containers": [{"name": "worker", "volumeMounts": [{"$patch": "replace"}]}]},
            "spec.containers.0.volumeMounts.0.mountPath",
        ),
    ],
)
def test_an_entry_that_the_definition_spells_out_has_its_key_whatever_its_directive(spec: Any, missing: str) -> None:
    with pytest.raises(ValidationError) as refused:
        GangPods.model_validate({"podTemplate": {"spec": spec}})
    (error,) = refused.value.errors()
    assert (".".join(map(str, error["loc"])), error["type"]) == (f"podTemplate.{missing}", "missing")


def test_a_port_number_may_be_there_for_both_protocols() -> None:
    ports = [{"containerPort": 53, "name": "dns-tcp"}, {"containerPort": 53, "protocol": "UDP", "name": "dns"}]
    assert worker(ports=ports)["ports"] == ports


class Name(str):
    """Counts how often one is compared with another."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)


@pytest.mark.parametrize(("field", "key"), [("hostAliases", "ip"), ("topologySpreadConstraints", "topologyKey")])
def test_no_entry_of_a_long_list_is_looked_for_among_all_others(field: str, key: str) -> None:
    entries = [{key: Name(number)} for number in range(300)]
    template = {"spec": {field: [{key: Name(number), "x": 1} for number in range(300)]}}
    Name.compared = 0
    assert len(merge(template, {"spec": {field: entries}})["spec"][field]) == 300
    assert len(merge({}, {"spec": {field: entries}})["spec"][field]) == 300
    assert Name.compared < 10 * len(entries)


def test_an_entry_that_says_no_key_stays_for_the_api_server_to_refuse() -> None:
    assert merged(hostAliases=[{"hostnames": ["a"]}, None, "x", {"hostnames": ["a"]}])["hostAliases"] == [
        {"hostnames": ["a"]},
        "x",
    ]
    assert worker(ports=[{"containerPort": {"a": 1}}])["ports"] == [{"containerPort": {"a": 1}}]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"hostAliases": [{"ip": str(number)} for number in range(257)]}, "hostAliases"),
        (
            {"initContainers": [{"name": "fetch", "ports": [{"containerPort": number} for number in range(257)]}]},
            "initContainers[fetch].ports",
        ),
    ],
)
def test_a_list_that_is_merged_entry_by_entry_has_a_bound(spec: Any, where: str) -> None:
    said = problem(GangPods.model_validate({"podTemplate": {"spec": spec}}))
    assert said == f"spec.workers.podTemplate.spec.{where}: 257 entries are too many; give 256 at most"


def test_a_list_that_is_taken_whole_has_none() -> None:
    nodes = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [f"gpu-{number}" for number in range(500)]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [nodes]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    spec = {"affinity": affinity, "hostAliases": [{"ip": str(number)} for number in range(256)]}
    assert problem(GangPods.model_validate({"podTemplate": {"spec": spec}})) is None


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"$patch": "replace"}, "spec.workers.podTemplate.spec: $patch cannot take all of it away"),
        (
            {"containers": [{"name": "worker", "$patch": "delete"}]},
            "spec.workers.podTemplate.spec.containers[worker]: $patch cannot take all of it away",
        ),
        ({"affinity": {"$patch": "remove"}}, "spec.workers.podTemplate.spec.affinity: $patch is delete or replace"),
        (
            {"volumes": [{"name": "a", "$retainKeys": ["name"]}]},
            "spec.workers.podTemplate.spec.volumes[a]: the directive $retainKeys is not understood",
        ),
        ({"hostAliases": [{"ip": "1", "$x": 1}]}, "spec.workers.podTemplate.spec.hostAliases[0]: the directive $x"),
    ],
)
def test_a_directive_that_makes_no_sense_is_named(spec: Any, sentence: str) -> None:
    said = problem(GangPods.model_validate({"podTemplate": {"spec": spec}}))
    assert said is not None
    assert said.startswith(sentence)


def test_directives_that_make_sense_are_no_problem() -> None:
    spec = {"containers": [{"name": "worker", "env": [{"name": "A", "$patch": "delete"}]}], "affinity": None}
    assert problem(GangPods.model_validate({"podTemplate": {"spec": spec}})) is None
    assert problem(GangPods()) is None


scalars = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b"])
maps = st.recursive(
    scalars,
    lambda inner: (
        st.dictionaries(st.sampled_from(["name", "value", "key", "x", "spec"]), inner, max_size=3)
        | st.lists(inner, max_size=2)
    ),
    max_leaves=4,
)
directives = st.sampled_from([{}, {}, {}, {"$patch": "delete"}, {"$patch": "replace"}])


def keyed(key: str, values: Any) -> Any:
    entries = st.builds(
        lambda name, fields, directive: {**fields, **directive, key: name},
        st.sampled_from(["a", "b", "worker"]),
        st.dictionaries(st.sampled_from(["value", "emptyDir", "image", "x"]), values, max_size=2),
        directives,
    )
    return st.lists(entries, max_size=3, unique_by=lambda entry: entry[key])


@st.composite
def patches(draw: Any) -> dict[str, Any]:
    fields = {
        "volumes": keyed("name", maps),
        "containers": keyed("name", maps | keyed("name", scalars)),
        "hostAliases": keyed("ip", scalars),
        "tolerations": st.lists(maps, max_size=2),
        "nodeSelector": maps,
        "affinity": maps,
    }
    spec = {name: draw(values) for name, values in fields.items() if draw(st.booleans())}
    for container in spec.get("containers", ()):
        if draw(st.booleans()):
            container["env"] = draw(keyed("name", scalars))
    return {"spec": spec}


def templates() -> Any:
    """What a patch makes of nothing is a template: no directive and no null is left in it."""
    return patches().map(lambda patch: merge({}, patch))


@given(templates())
def test_an_empty_patch_changes_nothing(template: dict[str, Any]) -> None:
    assert merge(template, {}) == template


@given(templates(), patches())
def test_a_patch_that_is_in_place_changes_nothing_more(template: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge(template, patch)
    assert merge(once, patch) == once


@given(templates(), patches())
def test_neither_argument_is_changed(template: dict[str, Any], patch: dict[str, Any]) -> None:
    before = copy.deepcopy((template, patch))
    merge(template, patch)
    assert (template, patch) == before


@given(templates(), patches())
def test_what_the_patch_does_not_name_stays(template: dict[str, Any], patch: dict[str, Any]) -> None:
    after, named = merge(template, patch).get("spec", {}), patch["spec"]
    for field, value in template.get("spec", {}).items():
        if field not in named:
            assert after[field] == value
    for entry in template.get("spec", {}).get("volumes", ()):
        if not any(other["name"] == entry["name"] for other in named.get("volumes", ())):
            assert entry in after["volumes"]
