"""What runs beside the operator in a cluster: the Job controller, kubelets and nodes, and Kueue."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from modelwright.kube import errors
from modelwright.plan.actions import Object
from modelwright.plan.attempts import condition_time, finished, is_placeholder
from modelwright.plan.podstatus import INDEX_ANNOTATION, end, ended_at, failed, over
from modelwright.plan.queueing import QUEUE_LABEL
from modelwright.plan.refusals import completed
from modelwright.plan.times import seconds_between, stamp
from tests.simulation.cluster import Cluster, Key, key_of, ref_of

POD_CREATED = "Pending"
MONITOR_GRACE, TOLERATION = 50, 300
"""Seconds until Kubernetes says that a kubelet is silent, and until pods leave for that."""
_ENDS = ("Complete", "Failed")


class Controller(Protocol):
    """Something that acts on the cluster by itself."""

    def step(self) -> None:
        """Do one round of work."""


@dataclass
class JobController:
    """Indexed Jobs with backoffLimit 0 and podReplacementPolicy Failed, as Kubernetes 1.34 and later run them."""

    cluster: Cluster
    suspended: set[str] = field(default_factory=set)
    """UIDs of pods that a suspension ended: no failures."""

    def step(self) -> None:
        """Look at every Job once."""
        for job in self.cluster.of_kind("Job"):
            if not finished(job) and "deletionTimestamp" not in job["metadata"]:
                self._sync(self.cluster.get(key_of(job)) or job)
            elif finished(job) and self._is_outlived(job):
                self.cluster.delete(ref_of(job))
        for pod in self.cluster.of_kind("Pod"):
            if "finalizers" in pod["metadata"] and (not _alive(pod) or self._is_forsaken(pod)):
                released = {name: value for name, value in pod["metadata"].items() if name != "finalizers"}
                self.cluster.update({**pod, "metadata": released})

    def _sync(self, job: Object) -> None:
        pods = pods_of(self.cluster, job)
        if self._succeeded(job, pods):
            self._end(job, pods, "SuccessCriteriaMet", "Complete")
        elif self._failed(job, pods):
            self._end(job, pods, "FailureTarget", "Failed")
        elif job["spec"].get("suspend"):
            alive = [pod for pod in pods if _alive(pod)]
            self.suspended |= {pod["metadata"]["uid"] for pod in alive}
            self._stop(alive)
            job.get("status", {}).pop("startTime", None)
            self._condition(job, "Suspended", "True")
        else:
            self._run(job, pods)
        self.cluster.update(job)

    def _run(self, job: Object, pods: list[Object]) -> None:
        status = job.setdefault("status", {})
        if status.get("startTime") is None:
            status["startTime"] = stamp(self.cluster.clock())
        if condition_time(job, "Suspended"):
            self._condition(job, "Suspended", "False")
        if any("deletionTimestamp" in pod["metadata"] and _alive(pod) for pod in pods):
            return
        # What has failed and not failed the Job was ended by a suspension, and is replaced.
        there = (index_of(pod) for pod in pods if pod["status"]["phase"] != "Failed")
        taken = {*completed(job), *there}
        for index in range(job["spec"]["completions"]):
            if index not in taken:
                self._make(job, self._pod(job, index))

    def _make(self, job: Object, pod: Object) -> None:
        try:
            self.cluster.create(pod)
        except errors.Rejected as error:
            # Each try is for another name, and client-go sums up what is alike.
            tries, stem = len(self.cluster.told), pod["metadata"]["name"].rpartition("-")[0]
            text = f'Error creating: pods "{stem}-{tries:05x}" is forbidden: {error.message}'
            self.cluster.tell(job, "FailedCreate", text if tries < 10 else f"(combined from similar events): {text}")

    def _pod(self, job: Object, index: int) -> Object:
        meta = job["metadata"]
        stem = f"{meta['name']}-{index}-"
        life = sum(1 for key in self.cluster.history if key.kind == "Pod" and key.name.startswith(stem))
        labels = {
            **job["spec"]["template"]["metadata"]["labels"],
            INDEX_ANNOTATION: str(index),
            "job-name": meta["name"],
        }
        controller = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
        }
        named = {
            "name": f"{stem}{life}",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [controller],
            "finalizers": ["batch.kubernetes.io/job-tracking"],
        }
        spec = {"restartPolicy": "Never", "containers": [{"name": "worker"}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": spec, "status": {"phase": POD_CREATED}}

    def _end(self, job: Object, pods: list[Object], target: str, final: str) -> None:
        self._condition(job, target, "True")
        alive = [pod for pod in pods if _alive(pod)]
        self._stop(alive)
        if not alive:
            self._condition(job, final, "True")

    def _stop(self, pods: Iterable[Object]) -> None:
        for pod in pods:
            self.cluster.delete(ref_of(pod))

    def _succeeded(self, job: Object, pods: list[Object]) -> bool:
        done = {*completed(job), *(index_of(pod) for pod in pods if pod["status"]["phase"] == "Succeeded")}
        if done:
            job.setdefault("status", {})["completedIndexes"] = ",".join(map(str, sorted(done)))
        if condition_time(job, "SuccessCriteriaMet"):
            return True
        (rule,) = job["spec"].get("successPolicy", {}).get("rules", [{}])
        if "succeededIndexes" in rule:
            return 0 in done
        return len(done) >= rule.get("succeededCount", job["spec"]["completions"])

    def _failed(self, job: Object, pods: list[Object]) -> bool:
        if condition_time(job, "FailureTarget") or self._is_late(job):
            return True
        return any(pod["status"]["phase"] == "Failed" and pod["metadata"]["uid"] not in self.suspended for pod in pods)

    def _is_late(self, job: Object) -> bool:
        started, limit = job.get("status", {}).get("startTime"), job["spec"].get("activeDeadlineSeconds")
        if limit is None or not started or job["spec"].get("suspend"):
            return False
        return seconds_between(started, self.cluster.clock()) >= limit

    def _is_outlived(self, job: Object) -> bool:
        ttl, ended = job["spec"].get("ttlSecondsAfterFinished"), [condition_time(job, kind) for kind in _ENDS]
        return ttl is not None and any(end and seconds_between(end, self.cluster.clock()) >= ttl for end in ended)

    def _is_forsaken(self, pod: Object) -> bool:
        """Tell whether the pod's Job is gone or going: only then does it let go of a pod that nobody saw end."""
        meta = pod["metadata"]
        job = self.cluster.get(Key("Job", meta["namespace"], meta["labels"]["job-name"]))
        if job is None or job["metadata"]["uid"] not in [entry["uid"] for entry in meta["ownerReferences"]]:
            return True
        return "deletionTimestamp" in job["metadata"] or meta["uid"] in self.suspended

    def _condition(self, job: Object, kind: str, value: str) -> None:
        entries = job.setdefault("status", {}).setdefault("conditions", [])
        if any(entry["type"] == kind and entry["status"] == value for entry in entries):
            return
        entries[:] = [entry for entry in entries if entry["type"] != kind]
        entries.append({"type": kind, "status": value, "lastTransitionTime": stamp(self.cluster.clock())})


@dataclass
class Kubelets:
    """All nodes: they start pods, and end those that are to go."""

    cluster: Cluster
    lost: set[str] = field(default_factory=set)
    """UIDs of pods whose node does not answer."""
    obstacle: Callable[[Object], Object | None] | None = None
    """Return the status of a pod that cannot start, or None."""
    leaves_after: float = 0.0
    """Seconds that a pod takes to leave when it is asked to, if its grace period is not shorter."""
    tells_after: float = 0.0
    """Seconds from the end of what ran in a pod of a gang that was asked to leave until its own end is told."""
    deaf: bool = False
    """What is in pods that have not begun does not hear that it is to end, and is killed when their grace is over."""

    def step(self) -> None:
        """Look at every pod once."""
        for pod in [self.cluster.get(key_of(pod)) for pod in self.cluster.of_kind("Pod")]:
            assert pod is not None
            if "deletionTimestamp" in pod["metadata"]:
                self._end(pod)
            elif pod["status"]["phase"] == POD_CREATED:
                held = self.obstacle(pod) if self.obstacle else None
                pod["status"] = {"phase": "Pending", **held} if held is not None else self._running()
                self.cluster.update(pod)

    def _running(self) -> Object:
        now = stamp(self.cluster.clock())
        return {
            "phase": "Running",
            "conditions": [_true("PodScheduled", now)],
            "containerStatuses": [{"name": "worker", "restartCount": 0, "state": {"running": {"startedAt": now}}}],
        }

    def _end(self, pod: Object) -> None:
        if pod["metadata"]["uid"] in self.lost:
            if pod["metadata"].get("deletionGracePeriodSeconds") == 0 and "finalizers" not in pod["metadata"]:
                self.cluster.remove(key_of(pod))
        elif self.deaf and pod["status"]["phase"] == "Pending" and pod["metadata"]["deletionGracePeriodSeconds"] > 1:
            pass
        elif _alive(pod):
            meta = pod["metadata"]
            grace = float(meta["deletionGracePeriodSeconds"])
            waited = seconds_between(meta["deletionTimestamp"], self.cluster.clock()) + grace
            if over(pod):
                if seconds_between(ended_at(pod) or "", self.cluster.clock()) >= self.tells_after:
                    finish(self.cluster, pod)
            elif waited >= min(grace, self.leaves_after):
                self._end_container(pod)
        elif "finalizers" not in pod["metadata"]:
            self.cluster.remove(key_of(pod))

    def _end_container(self, pod: Object) -> None:
        """End what runs in a pod, and of one of a gang tell the end of the pod itself a moment later."""
        if pod["status"]["phase"] != "Running" or pod["spec"].get("restartPolicy") != "Never":
            finish(self.cluster, pod, code=143)
            return
        ended = {"exitCode": 143, "finishedAt": stamp(self.cluster.clock())}
        for entry in pod["status"]["containerStatuses"]:
            entry["state"] = {"terminated": end(entry) or ended}
        self.cluster.update(pod)


def _true(kind: str, since: str) -> Object:
    return {"type": kind, "status": "True", "lastTransitionTime": since}


@dataclass
class NodeController:
    """Tells the pods of nodes whose kubelets are silent, and deletes them when they have tolerated that long enough."""

    kubelets: Kubelets
    silent: dict[str, datetime] = field(default_factory=dict)
    """UIDs of pods, and since when the kubelets of their nodes are silent."""
    told: set[str] = field(default_factory=set)
    """UIDs of pods that are known to be on such a node."""

    def step(self) -> None:
        """Look at every pod once."""
        cluster = self.kubelets.cluster
        for pod in [cluster.get(key_of(pod)) for pod in cluster.of_kind("Pod")]:
            assert pod is not None
            uid, status = pod["metadata"]["uid"], pod["status"]
            if status["phase"] != "Running" or not {uid} & (self.silent.keys() | self.told):
                continue
            waited = (cluster.clock() - self.silent[uid]).total_seconds() if uid in self.silent else 0.0
            if (uid in self.told) != (waited >= MONITOR_GRACE):
                self._tell(pod, ready=waited < MONITOR_GRACE)
            if waited >= MONITOR_GRACE + TOLERATION and "deletionTimestamp" not in pod["metadata"]:
                why = {**_true("DisruptionTarget", stamp(cluster.clock())), "reason": "DeletionByTaintManager"}
                cluster.update({**pod, "status": {**status, "conditions": [*status["conditions"], why]}})
                cluster.delete(ref_of(pod))

    def _tell(self, pod: Object, *, ready: bool) -> None:
        self.told ^= {pod["metadata"]["uid"]}
        now, kinds = stamp(self.kubelets.cluster.clock()), ("ContainersReady", "Ready")
        others = [entry for entry in pod["status"]["conditions"] if entry["type"] not in kinds]
        told = {**_true("Ready", now), "status": "True" if ready else "False"}
        pod["status"]["conditions"] = [*others, _true("ContainersReady", now), told]
        self.kubelets.cluster.update(pod)

    def answer(self) -> None:
        """Let all kubelets speak again that can."""
        self.silent = {uid: since for uid, since in self.silent.items() if uid in self.kubelets.lost}

    def alarms(self) -> Iterator[datetime]:
        """Yield when something will happen to pods that are there."""
        there = {pod["metadata"]["uid"] for pod in self.kubelets.cluster.of_kind("Pod")}
        for uid in there & self.silent.keys():
            for wait in (MONITOR_GRACE, MONITOR_GRACE + TOLERATION):
                at = self.silent[uid] + timedelta(seconds=wait)
                if at >= self.kubelets.cluster.clock():
                    yield at


@dataclass
class Kueue:
    """Starts every queued Job while there is quota, whoever suspended it."""

    cluster: Cluster
    quota: bool = True

    def step(self) -> None:
        """Admit what waits."""
        for job in self.cluster.of_kind("Job"):
            if QUEUE_LABEL in job["metadata"]["labels"] and job["spec"].get("suspend") and self.quota:
                self.cluster.patch(ref_of(job), {"spec": {"suspend": False}})


def finish(cluster: Cluster, pod: Object, code: int = 0, message: str = "", **status: Any) -> None:
    """End a pod's container."""
    now = stamp(cluster.clock())
    ended = {"exitCode": code, "finishedAt": now, "message": message, **status.pop("terminated", {})}
    found = cluster.get(key_of(pod))
    if found is None or not _alive(found):
        return
    if over(found):
        # That was the end of its container; only the pod's is still to be told.
        cluster.update({**found, "status": {**found["status"], "phase": "Failed" if failed(found) else "Succeeded"}})
        return
    scheduled = [entry for entry in found["status"].get("conditions", ()) if entry["type"] == "PodScheduled"]
    found["status"] = {
        "phase": "Failed" if code else "Succeeded",
        "conditions": scheduled,
        "containerStatuses": [{"name": "worker", "state": {"terminated": ended}}],
        **status,
    }
    cluster.update(found)


def pods_of(cluster: Cluster, job: Object) -> list[Object]:
    """Return the pods of one life of a Job."""
    uid = job["metadata"]["uid"]
    return [
        pod
        for pod in cluster.of_kind("Pod")
        if any(entry["uid"] == uid for entry in pod["metadata"].get("ownerReferences", ()))
    ]


def complete_gangs(kubelets: Kubelets, owner: str) -> list[tuple[Object, list[Object]]]:
    """Return the Jobs of a kind of owner that have not ended and whose pods all run, each with its pods by index."""
    found = []
    for job in kubelets.cluster.of_kind("Job"):
        owners = [entry["kind"] for entry in job["metadata"].get("ownerReferences", ())]
        if not finished(job) and owner in owners and not is_placeholder(job):
            pods = [pod for pod in pods_of(kubelets.cluster, job) if _runs(pod)]
            pods = [pod for pod in pods if pod["metadata"]["uid"] not in kubelets.lost]
            if len(pods) == job["spec"]["completions"]:
                found.append((job, sorted(pods, key=index_of)))
    return found


def index_of(pod: Object) -> int:
    """Return the completion index of a pod."""
    return int(pod["metadata"]["labels"][INDEX_ANNOTATION])


def _alive(pod: Object) -> bool:
    return pod["status"]["phase"] not in ("Failed", "Succeeded")


def _runs(pod: Object) -> bool:
    return bool(pod["status"]["phase"] == "Running" and not over(pod))
