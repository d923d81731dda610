"""The servers of one version, as they are: how many answer, and what is wrong with those that do not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from modelwright.api.modeldeployment import FailedVersion
from modelwright.api.run import Failure
from modelwright.plan.actions import Object, Ref
from modelwright.plan.conditions import Reason
from modelwright.plan.observed import Observed
from modelwright.plan.podstatus import condition
from modelwright.plan.serving_objects import version_of
from modelwright.plan.startup import Trouble, trouble

_CRASHES = 3
"""A server that has fallen over so often without a word will do so again."""


@dataclass(frozen=True)
class Fleet:
    """One version's Deployment and the pods of its present template."""

    version: int
    deployment: Object
    pods: tuple[Object, ...]

    @property
    def ref(self) -> Ref:
        """The Deployment, in its present life."""
        meta = self.deployment["metadata"]
        return Ref("apps/v1", "Deployment", meta["namespace"], meta["name"], meta["uid"])

    @property
    def leaving(self) -> bool:
        """Deleted, but not gone."""
        return bool(self.deployment["metadata"].get("deletionTimestamp"))

    @property
    def asked(self) -> int:
        """How many servers the Deployment is to have."""
        return int(self.deployment["spec"].get("replicas", 1))

    @property
    def total(self) -> int:
        """How many servers exist."""
        return self._count("replicas")

    @property
    def ready(self) -> int:
        """How many servers answer."""
        return self._count("readyReplicas")

    @property
    def overdue(self) -> bool:
        """Kubernetes has waited longer than the rollout's deadline."""
        return self._current and condition(self.deployment, "Progressing").get("reason") == "ProgressDeadlineExceeded"

    def settled(self, replicas: int) -> bool:
        """Tell whether so many servers answer, all of them as last asked for, and no others are left."""
        updated = self._count("updatedReplicas")
        return self._current and self.asked == self.total == self.ready == updated == replicas

    @property
    def hopeless(self) -> FailedVersion | None:
        """Why these servers will never answer, as they have said themselves or shown by falling over."""
        for pod in self._unready():
            said = _said(pod)
            if said is not None and not said.retryable:
                return FailedVersion(version=self.version, reason=said.reason, message=said.message)
            if said is None and (crash := _crash(pod)) is not None:
                return FailedVersion(version=self.version, reason=crash[0], message=crash[1])
        return None

    @property
    def complaint(self) -> tuple[str, str] | None:
        """Reason and message of what keeps servers from answering, where waiting or help from outside may cure it."""
        for pod in self._unready():
            said = _said(pod)
            if said is not None:
                return said.reason, said.message
        if (refused := condition(self.deployment, "ReplicaFailure")).get("status") == "True":
            return Reason.PODS_REJECTED, f"the cluster refuses its pods: {refused.get('message') or 'without a word'}"
        found: Trouble | None = trouble(self._unready())
        return None if found is None else (found.reason, found.message)

    @property
    def _current(self) -> bool:
        """The status speaks of the Deployment as it is asked for now."""
        generation = self.deployment["metadata"].get("generation") or 0
        return int(self._status.get("observedGeneration") or 0) >= int(generation)

    @property
    def _status(self) -> Object:
        return self.deployment.get("status") or {}

    def _count(self, field: str) -> int:
        return int(self._status.get(field) or 0)

    def _unready(self) -> tuple[Object, ...]:
        return tuple(pod for pod in self.pods if not _ready(pod))


def fleets(observed: Observed) -> dict[int, Fleet]:
    """Return the fleets that exist, by version."""
    found = {}
    for deployment in observed.child("Deployment"):
        version = version_of(deployment["metadata"].get("labels") or {})
        if version is not None:
            found[version] = Fleet(version, deployment, tuple(_pods(observed, deployment)))
    return found


def _pods(observed: Observed, deployment: Object) -> Iterator[Object]:
    born = str(deployment["metadata"].get("creationTimestamp") or "")
    marks = deployment["spec"]["template"]["metadata"]["labels"]
    for pod in observed.child("Pod"):
        meta = pod["metadata"]
        # What is tried again must not be judged by the pods of its first try, which may be on their way out.
        current = not meta.get("deletionTimestamp") and str(meta.get("creationTimestamp") or "~") >= born
        if current and marks.items() <= (meta.get("labels") or {}).items():
            yield pod


def _ready(pod: Object) -> bool:
    return bool(condition(pod, "Ready").get("status") == "True")


def _said(pod: Object) -> Failure | None:
    for ended in _ends(pod):
        try:
            return Failure.model_validate_json(ended.get("message") or "")
        except ValidationError:
            continue
    return None


def _crash(pod: Object) -> tuple[str, str] | None:
    restarts = max((int(c.get("restartCount") or 0) for c in _containers(pod)), default=0)
    if restarts < _CRASHES:
        return None
    last: Mapping[str, object] = next(_ends(pod), {})
    if last.get("reason") == "OOMKilled":
        return "OutOfMemory", "the server ran out of memory: raise spec.server.resources.limits.memory"
    name = pod["metadata"]["name"]
    return (
        "Crashed",
        f"the server fell over {restarts} times (exit code {last.get('exitCode')}): see the log of pod {name}",
    )


def _ends(pod: Object) -> Iterator[Object]:
    for container in _containers(pod):
        for state in ("state", "lastState"):
            ended = (container.get(state) or {}).get("terminated")
            if ended:
                yield ended


def _containers(pod: Object) -> list[Object]:
    return (pod.get("status") or {}).get("containerStatuses") or []
