"""The operator's pods: find the one that leads, take it away, wait for the next."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e.cluster.target import Target
from e2e.support.install import OPERATOR_NAMESPACE
from e2e.support.resources import Resources, WaitedInVainError

_SELECTOR = "app.kubernetes.io/component=operator"
_LEASE = "modelwright"
_NOBODY = "nobody"
_POLL_SECONDS = 0.5


class OperatorPods:
    """The replicas of the operator."""

    def __init__(self, target: Target) -> None:
        self._local = target.local
        self._resources = Resources(target.kubectl, OPERATOR_NAMESPACE)

    def leader(self) -> str:
        """Return the name of the pod that holds the Lease, or the empty string."""
        return self._leader()[0]

    def kill_leader(self) -> str:
        """Take the leading pod away as a power cut would: nothing is finished or handed over. Return its name.

        On a cluster of others it gets the second that a forced deletion leaves it.
        """
        name, uid = self._require_leader()
        for pid in _processes(uid) if self._local else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._resources.delete("pod", name, "--grace-period=0", "--force", "--wait=false")
        return name

    @contextmanager
    def away(self) -> Iterator[str]:
        """Take the leading pod away as `kill_leader` does, and let no other one lead within the block.

        Its name is yielded. The Lease looks abandoned all along: who waits for it takes it over when the block ends.
        """
        name = self.kill_leader()
        # Not in the dead pod's name: one that had a second to leave would give the Lease up.
        self._resources.patch("lease", _LEASE, {"spec": {"holderIdentity": _NOBODY, "leaseDurationSeconds": 3600}})
        try:
            yield name
        finally:
            self._resources.patch("lease", _LEASE, {"spec": {"leaseDurationSeconds": 1}})

    def tell_leader_to_go(self) -> str:
        """Have the leading pod end as in an upgrade or a drain, and return its name."""
        name, _ = self._require_leader()
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

    def _leader(self) -> tuple[str, str]:
        lease = self._resources.find("lease", _LEASE) or {}
        holder = str(lease.get("spec", {}).get("holderIdentity") or "")
        pods = [pod["metadata"] for pod in self._resources.list("pods", _SELECTOR)]
        return next(((meta["name"], meta["uid"]) for meta in pods if holder.startswith(meta["name"])), ("", ""))

    def _require_leader(self) -> tuple[str, str]:
        name, uid = self._leader()
        assert name, "no pod of the operator leads"
        return name, uid


def _processes(pod_uid: str) -> Iterator[int]:
    """Yield the processes of a pod on this machine, told by their cgroups."""
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if f"pod{pod_uid}" in path.read_text():
                yield int(path.parent.name)
