"""A namespace with everything a scenario does in it: apply, wait, look at what was told, and see that nothing stays."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from e2e.scenarios.waiting import eventually
from e2e.support.install import Installation
from e2e.support.journal import PLURALS, Journal
from e2e.support.resources import Object, Resources
from tests.simulation.kstatus import violations

_CHILDREN = ("jobs", "pods", "services", "deployments", "secrets")
_CHILD_LABEL = "modelwright.dev/owner-uid"
_GONE_SECONDS = 60
_POLL_SECONDS = 0.5


class Space(Resources):
    """A namespace and its journal."""

    def __init__(self, installation: Installation, name: str, journal: Journal) -> None:
        super().__init__(installation.target.kubectl, name)
        self.installation = installation
        self.journal = journal

    @classmethod
    @contextmanager
    def opened(cls, installation: Installation, name: str) -> Iterator[Self]:
        """Make the namespace, empty and with a key to the store, and follow what happens in it."""
        installation.fresh_namespace(name)
        installation.open_storage(name)
        with Journal(installation.target.kubectl, name, violations) as journal:
            yield cls(installation, name, journal)

    def job(self, name: str) -> Object:
        """Return a TrainingJob as it is now."""
        found = self.find("trainingjob", name)
        assert found is not None, f"there is no TrainingJob {name}"
        return found

    def children(self, owner: Object) -> list[str]:
        """Return what was made for an object: `Job/a-1x2y3-1`."""
        return self._children(f"{_CHILD_LABEL}={owner['metadata']['uid']}")

    def pods(self, owner: Object, *selectors: str) -> list[Object]:
        """Return the pods that were made for an object."""
        selector = ",".join((f"{_CHILD_LABEL}={owner['metadata']['uid']}", *selectors))
        return self.list("pods", selector)

    def gang(self, owner: Object) -> list[str]:
        """Return the names of the pods of the present attempt of a job or a sweep, by rank."""
        pods = self.pods(owner, f"modelwright.dev/attempt={owner['status']['attempt']}")
        pods.sort(key=lambda pod: int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]))
        return [pod["metadata"]["name"] for pod in pods]

    def log(self, pod: str) -> str:
        """Return what a pod has printed."""
        return self.kubectl.run("logs", pod, f"--namespace={self.namespace}")

    def poke(self, kind: str, name: str) -> None:
        """Have the operator look at an object now; an alias moved by hand is otherwise seen within a minute."""
        self.patch(kind, name, {"metadata": {"annotations": {"e2e/poked": str(time.monotonic())}}})

    def written(self) -> dict[str, str]:
        """Return what changes with every write, of all our objects and of all that was made for them."""
        ours = self.kubectl.get(",".join(PLURALS), f"--namespace={self.namespace}")["items"]
        entries = [*ours, *self._made(_CHILD_LABEL)]
        return {
            f"{entry['kind']}/{entry['metadata']['name']}": entry["metadata"]["resourceVersion"] for entry in entries
        }

    def events(self, name: str) -> list[tuple[str, str, str]]:
        """Return type, reason and message of the events about an object of ours."""
        found = [entry for entry in self.list("events") if entry["involvedObject"]["name"] == name]
        return [(entry["type"], entry["reason"], entry["message"]) for entry in found]

    def await_event(self, name: str, severity: str, reason: str) -> None:
        """Return when there is such an event about an object of ours: it is posted after the status is written."""
        wanted = (severity, reason)
        eventually(
            lambda: wanted in [entry[:2] for entry in self.events(name)], f"no event {reason} about {name}", timeout=30
        )

    def printed(self, kind: str, name: str) -> dict[str, str]:
        """Return what `kubectl get` prints of an object, by column."""
        return columns(self.kubectl.run("get", kind, name, f"--namespace={self.namespace}"))

    def leave(self) -> None:
        """Delete everything, without waiting for what goes with it, and see that every status kept the rules."""
        self.delete(",".join(PLURALS), "--all", "--wait=false")
        assert not self.journal.complaints, self.journal.complaints

    def close(self) -> None:
        """See that nothing of ours stays behind in a namespace that was left, and delete it."""
        deadline = time.monotonic() + _GONE_SECONDS
        while left := self._children(_CHILD_LABEL):
            assert time.monotonic() < deadline, f"left behind in {self.namespace}: {left}"
            time.sleep(_POLL_SECONDS)
        self.kubectl.run("delete", "namespace", self.namespace, "--wait=false")

    def _children(self, selector: str) -> list[str]:
        return sorted(f"{entry['kind']}/{entry['metadata']['name']}" for entry in self._made(selector))

    def _made(self, selector: str) -> list[Object]:
        scope = [f"--namespace={self.namespace}", f"--selector={selector}"]
        return list(self.kubectl.get(",".join(_CHILDREN), *scope)["items"])


def columns(printed: str) -> dict[str, str]:
    """Return the first row of a table that kubectl printed, by column; cells may be empty."""
    head, row, *_ = printed.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", head)]
    return {head[a:b].strip(): row[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)}
