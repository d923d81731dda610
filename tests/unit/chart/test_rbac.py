"""What the operator may do: what its code says it does, which `FakeApi` holds it to, and nothing else."""

from collections.abc import Iterable
from typing import Any

import pytest

from modelwright.kube import resources
from tests.unit.chart.conftest import NAMESPACE, Helm

Right = tuple[str, str, str]
"""API group, resource, verb."""

_OURS = tuple(kind.plural for kind in resources.OURS)


def rights(resource: resources.Resource) -> set[Right]:
    return {(resource.api_version.rpartition("/")[0], resource.plural, verb) for verb in resource.verbs}


def joined(parts: Iterable[set[Right]]) -> set[Right]:
    return set().union(*parts)


WORK = joined(
    [
        *(rights(resource) for resource in (*resources.CHILDREN, *resources.OPTIONAL, *resources.OURS)),
        *(rights(resource) for resource in (resources.SECRET, resources.EVENT, *resources.POD_GROUPS)),
        {("modelwright.dev", f"{plural}/status", "patch") for plural in _OURS},
        # For owner references that block deletion.
        {("modelwright.dev", f"{plural}/finalizers", "update") for plural in _OURS},
    ]
)
LEASE = rights(resources.LEASE)
TOKENS = rights(resources.TOKEN_REVIEW)


def granted(role: dict[str, Any]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def bindings(documents: list[dict[str, Any]]) -> dict[tuple[str, str | None], set[Right]]:
    """Return what the operator's service account gets: by kind of binding and namespace."""
    roles = {
        (document["kind"], document["metadata"].get("namespace"), document["metadata"]["name"]): granted(document)
        for document in documents
        if document["kind"] in ("Role", "ClusterRole")
    }
    found: dict[tuple[str, str | None], set[Right]] = {}
    for document in documents:
        if document["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        assert document["subjects"] == [
            {"kind": "ServiceAccount", "name": "modelwright-operator", "namespace": NAMESPACE}
        ]
        where = document["metadata"].get("namespace")
        role = document["roleRef"]
        given = roles[role["kind"], where if role["kind"] == "Role" else None, role["name"]]
        found[document["kind"], where] = found.get((document["kind"], where), set()) | given
    return found


def test_by_default_it_works_everywhere_and_elects_its_leader_at_home(helm: Helm) -> None:
    assert bindings(helm.template()) == {
        ("ClusterRoleBinding", None): WORK | TOKENS,
        ("RoleBinding", NAMESPACE): LEASE,
    }


def test_with_a_list_of_namespaces_it_has_no_rights_elsewhere(helm: Helm) -> None:
    assert bindings(helm.template(watchNamespaces=["team-a", "team-b"])) == {
        ("ClusterRoleBinding", None): TOKENS,
        ("RoleBinding", NAMESPACE): LEASE,
        ("RoleBinding", "team-a"): WORK,
        ("RoleBinding", "team-b"): WORK,
    }


def test_working_at_home_does_not_cost_it_the_lease(helm: Helm) -> None:
    assert bindings(helm.template(watchNamespaces=[NAMESPACE]))["RoleBinding", NAMESPACE] == WORK | LEASE


def test_who_wants_no_gang_scheduling_gives_no_right_to_pod_groups(helm: Helm) -> None:
    groups = joined(rights(resource) for resource in resources.POD_GROUPS)
    assert bindings(helm.template(gangScheduling="Disabled"))["ClusterRoleBinding", None] == (WORK | TOKENS) - groups


def test_no_right_is_a_wildcard_and_other_peoples_secrets_stay_unlisted(helm: Helm) -> None:
    everything = joined(granted(role) for role in helm.template() if role["kind"] in ("Role", "ClusterRole"))
    assert not [right for right in everything if "*" in right]
    assert not {("", "secrets", verb) for verb in ("list", "watch", "update", "patch", "delete")} & everything


def test_only_its_own_lease_may_be_renewed(helm: Helm) -> None:
    (role,) = (role for role in helm.template(leaseName="mine") if role["kind"] == "Role")
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in role["rules"]] == [
        (["create"], None),
        (["get", "update"], ["mine"]),
    ]


@pytest.mark.parametrize(
    ("name", "verbs", "to"),
    [
        ("view", {"get", "list", "watch"}, {"view", "edit", "admin"}),
        ("edit", {"create", "update", "patch", "delete", "deletecollection"}, {"edit", "admin"}),
    ],
)
def test_users_get_our_kinds_with_the_roles_that_they_have(
    helm: Helm, name: str, verbs: set[str], to: set[str]
) -> None:
    role = helm.one("ClusterRole", f"modelwright-operator-{name}")
    own = {right for right in granted(role) if "/" not in right[1]}
    assert own == {("modelwright.dev", kind, verb) for kind in _OURS for verb in verbs}
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {label.removeprefix(prefix) for label in role["metadata"]["labels"] if label.startswith(prefix)} == to


def test_a_cluster_that_keeps_its_own_roles_gets_none(helm: Helm) -> None:
    names = {document["metadata"]["name"] for document in helm.template(rbac={"aggregate": False})}
    assert not names & {"modelwright-operator-view", "modelwright-operator-edit"}
