"""The node: the kubelet and kube-proxy."""

from e2e.cluster import binaries, files, health, runtime
from e2e.cluster.paths import Layout
from e2e.cluster.ports import Address
from e2e.cluster.processes import Component
from e2e.cluster.settings import CLUSTER_DOMAIN, NODE_ADDRESS, NODE_NAME, POD_RANGE

_KUBELET_HEALTH = Address("127.0.0.1", 10248)
_PROXY_HEALTH = Address("127.0.0.1", 10256)
_PROXY_METRICS = Address("127.0.0.1", 10249)


def kubelet(layout: Layout) -> Component:
    """The kubelet, listening on the bridge only."""
    config = files.write_json(layout.config / "kubelet.json", _kubelet_configuration(layout))
    kubeconfig = layout.pki / "kubelet.kubeconfig"
    layout.kubelet.mkdir(parents=True, exist_ok=True)
    argv = (
        str(binaries.path("kubelet")),
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={layout.kubelet}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_ADDRESS}",
    )
    return Component(
        "kubelet",
        argv,
        reads=(config, kubeconfig),
        listens=(Address(NODE_ADDRESS, 10250), _KUBELET_HEALTH),
        ready=lambda: health.answers(f"http://{_KUBELET_HEALTH}/healthz"),
    )


def _kubelet_configuration(layout: Layout) -> dict[str, object]:
    resolver = files.write(layout.config / "resolv.conf", f"nameserver {NODE_ADDRESS}\n")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{runtime.SOCKET}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        # The machine's own resolver is outside the cluster: no pod is told of it, whatever its dnsPolicy.
        "resolvConf": str(resolver),
        "podLogsDir": str(layout.logs / "pods"),
        "maxPods": 110,
        # A developer's disk is nearly full more often than not: never delete an image, evict at the last moment.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "evictionPressureTransitionPeriod": "10s",
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
