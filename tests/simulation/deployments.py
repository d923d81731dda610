"""Deployments and their servers: what the Deployment controller, a kubelet and a server that loads a model do."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelwright.plan.actions import Object
from modelwright.plan.podstatus import alive
from modelwright.plan.serving_objects import TEMPLATE_LABEL, version_of
from modelwright.plan.times import stamp
from tests.simulation.cluster import Key, key_of, ref_of
from tests.simulation.nodes import finish, pods_of
from tests.simulation.world import World

LOADING = 3
"""Rounds from the start of a server to its first answer."""
MOST_RESTARTS = 5
"""After so many, the kubelet's pauses are longer than anybody here waits."""
SURGE = 1
BROKEN_IMAGE = "server:broken"
CORRUPT = json.dumps({"reason": "ModelLoadFailed", "message": "model.onnx cannot be loaded", "retryable": False})
_NO_STORE = json.dumps({"reason": "StorageUnavailable", "message": "S3 does not answer", "retryable": True})


@dataclass
class Servers:
    """All Deployments with their pods. There are no ReplicaSets: a pod belongs to the Deployment itself."""

    world: World
    bad: dict[int, str | None] = field(default_factory=dict)
    """Versions that do not load, and what a server says when it falls over; None: it hangs without a word."""
    silent: set[str] = field(default_factory=set)
    """UIDs of pods that do not answer for the moment."""
    _loading: dict[str, int] = field(default_factory=dict)
    """By UID of the pod: for how many rounds it has been loading."""
    _progress: dict[str, tuple[tuple[str, int, int], datetime, bool]] = field(default_factory=dict)
    """By UID of the Deployment: how far it was, since when, and whether that was all the way."""

    def __post_init__(self) -> None:
        """Take a place in the world."""
        self.world.controllers.append(self)
        self.world.alarms.append(self.alarms)

    def step(self) -> None:
        """Let every server do one round of work, then look at every Deployment once."""
        for pod in self.pods():
            self._work(pod)
        for deployment in self.world.cluster.of_kind("Deployment"):
            if "deletionTimestamp" not in deployment["metadata"]:
                self._sync(self.world.cluster.get(key_of(deployment)) or deployment)

    def alarms(self) -> Iterable[datetime]:
        """Return when something will happen here by itself."""
        for pod in self.pods():
            if not is_ready(pod) and self._loading.get(pod["metadata"]["uid"], 0) < LOADING:
                yield self.world.now
        for deployment in self.world.cluster.of_kind("Deployment"):
            _, since, complete = self._progress.get(deployment["metadata"]["uid"], (None, self.world.now, True))
            if not complete:
                yield since + _deadline(deployment)

    def pods(self) -> list[Object]:
        """Return copies of the pods of servers that are to go on."""
        found = [self.world.cluster.get(key_of(pod)) for pod in self.world.cluster.of_kind("Pod")]
        return [pod for pod in found if pod is not None and _is_server(pod) and _active(pod)]

    def ready(self, version: int | None) -> int:
        """Return how many servers of a version answer."""
        return sum(1 for pod in self.pods() if version_of(pod["metadata"]["labels"]) == version and is_ready(pod))

    def kill(self, index: int) -> None:
        """Let the process of a server die; the kubelet starts it again."""
        if (pod := self._running(index)) is not None:
            self._fall_over(pod, {"exitCode": 137, "reason": "Error", "message": ""})

    def evict(self, index: int) -> None:
        """Let a pod end for good, as an eviction does."""
        if (pod := self._running(index)) is not None:
            finish(self.world.cluster, pod, code=137, reason="Evicted")

    def lose_node(self, index: int) -> None:
        """Let the node of a server stop answering: its pod is deleted, and never confirms it."""
        if (pod := self._running(index)) is not None:
            self.world.kubelets.lost.add(pod["metadata"]["uid"])
            self.world.cluster.delete(ref_of(pod))

    def _running(self, index: int) -> Object | None:
        pods = [pod for pod in self.pods() if pod["status"]["phase"] == "Running"]
        return pods[index % len(pods)] if pods else None

    def _work(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if pod["status"]["phase"] != "Running":
            return
        if is_ready(pod):
            if uid in self.silent:
                self._say(pod, ready=False)
            return
        if uid in self.silent:
            return
        self._loading[uid] = self._loading.get(uid, 0) + 1
        if self._loading[uid] < LOADING:
            return
        version = version_of(pod["metadata"]["labels"])
        message = self.bad.get(version or 0, "")
        if pod["spec"]["containers"][0]["image"] == BROKEN_IMAGE or (version in self.bad and message is not None):
            self._fall_over(pod, {"exitCode": 1, "reason": "Error", "message": message})
        elif self.world.bucket.down:
            self._fall_over(pod, {"exitCode": 1, "reason": "Error", "message": _NO_STORE})
        elif version not in self.bad:
            self._say(pod, ready=True)

    def _fall_over(self, pod: Object, ended: Object) -> None:
        (before,) = pod["status"].get("containerStatuses") or [{"restartCount": 0}]
        if before["restartCount"] < MOST_RESTARTS:
            self._loading.pop(pod["metadata"]["uid"], None)
            container = {
                "name": "server",
                "restartCount": before["restartCount"] + 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": ended},
            }
            pod["status"]["containerStatuses"] = [container]
            self._say(pod, ready=False)

    def _say(self, pod: Object, *, ready: bool) -> None:
        pod["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]
        self.world.cluster.update(pod)

    def _sync(self, deployment: Object) -> None:
        wanted = deployment["spec"]["replicas"]
        pods = [pod for pod in pods_of(self.world.cluster, deployment) if _active(pod)]
        new = sorted((pod for pod in pods if _is_current(pod, deployment)), key=is_ready, reverse=True)
        old = [pod for pod in pods if not _is_current(pod, deployment)]
        for _ in range(min(wanted - len(new), wanted + SURGE - len(pods))):
            self._start(deployment)
        # maxUnavailable is 0: what answers goes only when as many as are wanted answer without it.
        spare = max(0, sum(map(is_ready, pods)) - wanted)
        answering = [pod for pod in (*old, *new[wanted:]) if is_ready(pod)][:spare]
        for pod in (*answering, *(pod for pod in (*old, *new[wanted:]) if not is_ready(pod))):
            self.world.cluster.delete(ref_of(pod))
        self._tell(deployment)

    def _start(self, deployment: Object) -> None:
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        stem = f"{meta['name']}-{template['metadata']['labels'][TEMPLATE_LABEL]}-"
        life = sum(1 for key in self.world.cluster.history if key.kind == "Pod" and key.name.startswith(stem))
        controller = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
        named = {
            "name": f"{stem}{life}",
            "namespace": meta["namespace"],
            "labels": template["metadata"]["labels"],
            "ownerReferences": [{**controller, "controller": True}],
        }
        spec, status = {"containers": template["spec"]["containers"]}, {"phase": "Pending"}
        self.world.cluster.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": spec, "status": status}
        )

    def _tell(self, deployment: Object) -> None:
        pods = [pod for pod in pods_of(self.world.cluster, deployment) if _active(pod)]
        new = [pod for pod in pods if _is_current(pod, deployment)]
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": sum(map(is_ready, pods)),
            "updatedReplicas": len(new),
            "conditions": [self._progressing(deployment, len(pods) - len(new), sum(map(is_ready, new)))],
        }
        self.world.cluster.update(deployment)

    def _progressing(self, deployment: Object, old: int, ready: int) -> Object:
        """Return the condition; what was complete once is not late again before its template changes."""
        uid, now = deployment["metadata"]["uid"], self.world.now
        template = deployment["spec"]["template"]["metadata"]["labels"][TEMPLATE_LABEL]
        reached = (template, old, ready)
        before, since, complete = self._progress.get(uid, (reached, now, False))
        complete = complete and before[0] == template
        complete = complete or (old == 0 and ready == deployment["spec"]["replicas"])
        since = since if before == reached else now
        self._progress[uid] = (reached, since, complete)
        if complete:
            return {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
        if now >= since + _deadline(deployment):
            return {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        return {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": stamp(since)}


def is_ready(pod: Object) -> bool:
    """Tell whether a pod answers."""
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in pod["status"].get("conditions", ()))


def selected(world: World, name: str, namespace: str = "team") -> int | None:
    """Return the version that a Service sends requests to; None: there is no such Service."""
    found = world.cluster.objects.get(Key("Service", namespace, name))
    return None if found is None else version_of(found["spec"]["selector"])


def _deadline(deployment: Object) -> timedelta:
    return timedelta(seconds=deployment["spec"]["progressDeadlineSeconds"])


def _is_current(pod: Object, deployment: Object) -> bool:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    return bool(pod["metadata"]["labels"][TEMPLATE_LABEL] == labels[TEMPLATE_LABEL])


def _is_server(pod: Object) -> bool:
    return TEMPLATE_LABEL in pod["metadata"]["labels"]


def _active(pod: Object) -> bool:
    return alive(pod) and "deletionTimestamp" not in pod["metadata"]
