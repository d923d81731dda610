"""A node: the kubelet; and kube-proxy, which does for both nodes because they have one kernel."""

from e2e.cluster import binaries, cgroups, files, health
from e2e.cluster.members import Member
from e2e.cluster.paths import Layout
from e2e.cluster.ports import Address
from e2e.cluster.processes import Component
from e2e.cluster.settings import CLUSTER_DOMAIN, NODE_ADDRESS, NODE_NAME, POD_RANGE

_KUBELET_HEALTH = Address("127.0.0.1", 10248)
_PROXY_HEALTH = Address("127.0.0.1", 10256)
_PROXY_METRICS = Address("127.0.0.1", 10249)


def kubelet(member: Member) -> Component:
    """The kubelet, listening on the bridge only."""
    config = files.write_json(member.config / "kubelet.json", kubelet_configuration(member))
    kubeconfig = member.pki / f"{member.kubelet_name}.kubeconfig"
    member.kubelet.mkdir(parents=True, exist_ok=True)
    argv = (
        str(binaries.path("kubelet")),
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={member.kubelet}",
        f"--hostname-override={member.name}",
        f"--node-ip={member.address}",
        *((f"--node-labels={member.taint}=true",) if member.taint else ()),
    )
    return Component(
        member.kubelet_name,
        cgroups.joining(member.daemons, argv) if member.cgroup else argv,
        reads=(config, kubeconfig),
        listens=(Address(member.address, 10250), _health(member)),
        ready=lambda: health.answers(f"http://{_health(member)}/healthz"),
    )


def _health(member: Member) -> Address:
    return Address(member.address if member.cgroup else _KUBELET_HEALTH.host, _KUBELET_HEALTH.port)


def kubelet_configuration(member: Member) -> dict[str, object]:
    """What the kubelet of a node is told."""
    resolver = files.write(member.config / "resolv.conf", f"nameserver {NODE_ADDRESS}\n")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": member.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(member.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(member.pki / f"{member.kubelet_name}.crt"),
        "tlsPrivateKeyFile": str(member.pki / f"{member.kubelet_name}.key"),
        "containerRuntimeEndpoint": f"unix://{member.socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        # The machine's own resolver is outside the cluster: no pod is told of it, whatever its dnsPolicy.
        "resolvConf": str(resolver),
        "podLogsDir": str(member.pod_logs),
        "maxPods": 110,
        # A developer's disk is nearly full more often than not: never delete an image, evict at the last moment.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "evictionPressureTransitionPeriod": "10s",
        **(_apart(member) if member.cgroup else {}),
    }


def _apart(member: Member) -> dict[str, object]:
    """What keeps it apart from another node on the same machine: it would end the pods that it finds in its cgroups."""
    return {
        "cgroupRoot": f"/{member.cgroup}",
        "healthzBindAddress": member.address,
        "registerWithTaints": [{"key": member.taint, "effect": "NoSchedule"}],
    }


def proxy(layout: Layout) -> Component:
    """kube-proxy in iptables mode; node ports open on the bridge only."""
    kubeconfig = layout.pki / "kube-proxy.kubeconfig"
    options = {
        "kubeconfig": kubeconfig,
        "hostname-override": NODE_NAME,
        "proxy-mode": "iptables",
        "cluster-cidr": POD_RANGE,
        "nodeport-addresses": f"{NODE_ADDRESS}/32",
        "healthz-bind-address": _PROXY_HEALTH,
        "metrics-bind-address": _PROXY_METRICS,
        # The limits of connection tracking are the machine's: a virtual machine may not be allowed to change them.
        "conntrack-max-per-core": 0,
        "conntrack-tcp-timeout-established": "0s",
        "conntrack-tcp-timeout-close-wait": "0s",
    }
    return Component(
        "kube-proxy",
        (str(binaries.path("kube-proxy")), *(f"--{name}={value}" for name, value in options.items())),
        reads=(kubeconfig,),
        listens=(_PROXY_HEALTH, _PROXY_METRICS),
        ready=lambda: health.answers(f"http://{_PROXY_HEALTH}/healthz"),
    )
