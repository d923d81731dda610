"""The operator's pods: find the one that leads, take it away, wait for the next."""

import time

from e2e.cluster.kubectl import Kubectl
from e2e.support.install import OPERATOR_NAMESPACE
from e2e.support.resources import Object, Resources, WaitedInVainError

_SELECTOR = "app.kubernetes.io/component=operator"
_LEASE = "modelwright"
_POLL_SECONDS = 0.5


class OperatorPods:
    """The replicas of the operator."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._resources = Resources(kubectl, OPERATOR_NAMESPACE)

    def leader(self) -> str:
        """Return the name of the pod that holds the Lease, or the empty string."""
        lease = self._resources.find("lease", _LEASE) or {}
        holder = str(lease.get("spec", {}).get("holderIdentity") or "")
        return next((name for name in self._names() if holder.startswith(name)), "")

    def kill(self, name: str) -> None:
        """Take a pod away without a word: nothing is finished, nothing is handed over."""
        self._resources.delete("pod", name, "--grace-period=0", "--force", "--wait=false")

    def kill_leader(self) -> str:
        """Take the leading pod away and return its name."""
        name = self.leader()
        assert name, "no pod of the operator leads"
        self.kill(name)
        return name

    def tell_leader_to_go(self) -> str:
        """Have the leading pod end as in an upgrade or a drain, and return its name."""
        name = self.leader()
        assert name, "no pod of the operator leads"
        self._resources.delete("pod", name, "--wait=false")
        return name

    def await_leader(self, *, other_than: str = "", timeout: float = 90) -> str:
        """Return the pod that leads, once there is one. Raises WaitedInVainError."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            name = self.leader()
            if name and name != other_than:
                return name
            time.sleep(_POLL_SECONDS)
        raise WaitedInVainError(f"nobody leads: {self._resources.autopsy('lease', _LEASE)}")

    def _names(self) -> list[str]:
        return [_name(pod) for pod in self._resources.list("pods", _SELECTOR)]


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])
