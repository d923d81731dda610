"""etcd, the API server, the controller manager and the scheduler: what they are started with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import files, health
from e2e.cluster.ports import Address
from e2e.cluster.processes import Component
from e2e.cluster.settings import SERVICE_RANGE

_LOOPBACK = "127.0.0.1"
# The Job controller makes none of its own: that is another feature (WorkloadWithJob).
_POD_GROUPS = "GenericWorkload=true"
_GANGS = f"{_POD_GROUPS},GangScheduling=true"
_POD_GROUP_API = "scheduling.k8s.io/v1alpha2=true"
# Pods hold to the baseline: above all, none of them shares the host's network and slips past the packet filter.
_ADMISSION = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            "name": "PodSecurity",
            "configuration": {
                "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "kind": "PodSecurityConfiguration",
                "defaults": {"enforce": "baseline", "enforce-version": "latest"},
            },
        }
    ],
}


@dataclass(frozen=True)
class ControlPlane:
    """Where a control plane listens and keeps its things."""

    program: Callable[[str], Path]
    pki: Path
    config: Path
    data: Path
    api: Address
    etcd_client_port: int
    etcd_peer_port: int
    # Without a controller manager nobody makes service accounts, and pods may not wait for them.
    service_accounts: bool = True
    has_node: bool = True
    # Alpha in Kubernetes 1.36: most clusters do not have them.
    pod_groups: bool = False

    @property
    def url(self) -> str:
        """The API server's address, for clients."""
        return f"https://{self.api}"

    def etcd(self) -> Component:
        """The store: on loopback, without TLS; only local processes reach it."""
        client, peer = Address(_LOOPBACK, self.etcd_client_port), Address(_LOOPBACK, self.etcd_peer_port)
        options = {
            "name": "local",
            "data-dir": self.data,
            "listen-client-urls": f"http://{client}",
            "advertise-client-urls": f"http://{client}",
            "listen-peer-urls": f"http://{peer}",
            "initial-advertise-peer-urls": f"http://{peer}",
            "initial-cluster": f"local=http://{peer}",
            "logger": "zap",
            "log-level": "warn",
            "log-outputs": "stderr",
        }
        return Component(
            "etcd",
            _argv(self.program("etcd"), options),
            listens=(client, peer),
            ready=lambda: health.answers(f"http://{client}/health"),
        )

    def api_server(self) -> Component:
        """The API server, with Node and RBAC authorization and projected service account tokens."""
        options = {
            "bind-address": self.api.host,
            "advertise-address": self.api.host,
            "secure-port": self.api.port,
            "etcd-servers": f"http://{_LOOPBACK}:{self.etcd_client_port}",
            "client-ca-file": self.pki / "ca.crt",
            "tls-cert-file": self.pki / "apiserver.crt",
            "tls-private-key-file": self.pki / "apiserver.key",
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": self.pki / "service-account.pub",
            "service-account-signing-key-file": self.pki / "service-account.key",
            "service-cluster-ip-range": SERVICE_RANGE,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "profiling": "false",
        }
        options |= self._node_options() if self.has_node else {"endpoint-reconciler-type": "none"}
        if self.pod_groups:
            options |= {"feature-gates": _POD_GROUPS, "runtime-config": _POD_GROUP_API}
        if not self.service_accounts:
            options["disable-admission-plugins"] = "ServiceAccount"
        return Component(
            "kube-apiserver",
            _argv(self.program("kube-apiserver"), options),
            reads=(self.pki / "apiserver.crt",),
            listens=(self.api,),
            ready=lambda: health.answers(f"{self.url}/readyz", self.pki),
        )

    def _node_options(self) -> dict[str, object]:
        admission = files.write_json(self.config / "admission.json", _ADMISSION)
        return {
            "admission-control-config-file": admission,
            "kubelet-certificate-authority": self.pki / "ca.crt",
            "kubelet-client-certificate": self.pki / "apiserver-kubelet-client.crt",
            "kubelet-client-key": self.pki / "apiserver-kubelet-client.key",
            # Without this `kubectl logs` asks for the node by its name, which no DNS knows.
            "kubelet-preferred-address-types": "InternalIP",
        }

    def controller_manager(self, port: int = 10257) -> Component:
        """Jobs, endpoints, garbage collection, service accounts: all the built-in controllers."""
        options = self._client_options("controller-manager", port) | {
            "root-ca-file": self.pki / "ca.crt",
            "service-account-private-key-file": self.pki / "service-account.key",
            "use-service-account-credentials": "true",
            # By default 20 calls a second: the thousands of objects of a benchmark would take minutes to go.
            "kube-api-qps": 500,
            "kube-api-burst": 1000,
            # It lets a PodGroup go when the last of its pods has ended.
            **({"feature-gates": _POD_GROUPS} if self.pod_groups else {}),
        }
        return self._client("kube-controller-manager", options, port)

    def scheduler(self, port: int = 10259) -> Component:
        """The scheduler, as it comes, or one that knows gangs."""
        options = self._client_options("scheduler", port)
        return self._client("kube-scheduler", options | ({"feature-gates": _GANGS} if self.pod_groups else {}), port)

    def _client_options(self, identity: str, port: int) -> dict[str, object]:
        return {
            "kubeconfig": self.pki / f"{identity}.kubeconfig",
            "bind-address": _LOOPBACK,
            "secure-port": port,
            # Nobody competes: an election would only cost seconds at each start.
            "leader-elect": "false",
            "profiling": "false",
        }

    def _client(self, name: str, options: dict[str, object], port: int) -> Component:
        return Component(
            name,
            _argv(self.program(name), options),
            reads=(Path(str(options["kubeconfig"])),),
            listens=(Address(_LOOPBACK, port),),
            ready=lambda: health.answers_unverified(f"https://{_LOOPBACK}:{port}/healthz"),
        )


def _argv(program: Path, options: dict[str, object]) -> tuple[str, ...]:
    return (str(program), *(f"--{name}={value}" for name, value in options.items()))
