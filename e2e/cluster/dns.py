"""CoreDNS on the bridge: it answers for the cluster, and for nothing outside."""

from e2e.cluster import binaries, files, health
from e2e.cluster.paths import Layout
from e2e.cluster.ports import Address
from e2e.cluster.processes import Component
from e2e.cluster.settings import CLUSTER_DOMAIN, DNS_PORT, DNS_READY_PORT, NODE_ADDRESS

_READ_ONLY = ["list", "watch"]


def component(layout: Layout) -> Component:
    """CoreDNS, configured for this cluster."""
    corefile = files.write(layout.config / "Corefile", _corefile(layout))
    kubeconfig = layout.pki / "coredns.kubeconfig"
    return Component(
        "coredns",
        (str(binaries.path("coredns")), "-conf", str(corefile)),
        reads=(corefile, kubeconfig),
        listens=(Address(NODE_ADDRESS, DNS_PORT), Address("127.0.0.1", DNS_READY_PORT)),
        ready=lambda: health.answers(f"http://127.0.0.1:{DNS_READY_PORT}/ready"),
    )


def manifests() -> list[dict[str, object]]:
    """What the DNS server may read."""
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "modelwright:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": _READ_ONLY},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ_ONLY},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "modelwright:coredns"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "modelwright:coredns",
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
        },
    ]


def _corefile(layout: Layout) -> str:
    # No cache: the data is in memory already, and a cached "no such name" would hide a peer that has just started.
    return f"""\
{CLUSTER_DOMAIN}:{DNS_PORT} 10.in-addr.arpa:{DNS_PORT} {{
    bind {NODE_ADDRESS}
    errors
    ready 127.0.0.1:{DNS_READY_PORT}
    loadbalance
    kubernetes {CLUSTER_DOMAIN} 10.in-addr.arpa {{
        kubeconfig {layout.pki / "coredns.kubeconfig"}
    }}
}}
.:{DNS_PORT} {{
    bind {NODE_ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
