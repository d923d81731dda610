"""The PodGroup of an attempt: where the scheduler knows gangs, it finds nodes for all pods of one, or for none.

The fields are those of `k8s.io/api/scheduling`: v1alpha2 in v0.36.3, v1alpha3 and v1beta1 in v0.37.1. What the
scheduler says is that of Kubernetes 1.36.
"""

from collections.abc import Mapping
from typing import Any

from modelwright.api.trainingjob import Workers
from modelwright.api.tuningsweep import SweepWorkers
from modelwright.plan import podstatus
from modelwright.plan.actions import Object
from modelwright.plan.observed import ATTEMPT_LABEL, MANAGED_BY_LABEL, OWNER_UID_LABEL

KIND = "PodGroup"
VERSIONS: Mapping[str, Any] = {
    "scheduling.k8s.io/v1beta1": {"all": {}},
    "scheduling.k8s.io/v1alpha3": {"all": {}},
    "scheduling.k8s.io/v1alpha2": "PodGroup",
}
"""The versions whose fields are known, the newest first, each with what says there that pods are preempted together."""
READ_FIELDS = ("schedulingGroup", "priorityClassName")
"""Of the pod template of a Job: what is read here when the group is made."""
_DEFAULT_SCHEDULER = "default-scheduler"
_FOR_ITS_PEERS = "pod group is unschedulable"
"""So begins what the scheduler says of a pod that would have a node, if only its peers had one."""


def least(workers: Workers | SweepWorkers) -> int:
    """Return how many pods of an attempt with these workers must find nodes at the same time.

    An elastic gang goes on with those that have found one, so it asks for its minimum: were it to ask for all, none
    would have a node, and nothing would say how many there is room for.
    """
    elastic = workers.elastic if isinstance(workers, Workers) else None
    return workers.replicas if elastic is None else min(elastic.min, workers.replicas)


def membership(pod: Object, name: str, count: int) -> Object:
    """Return the field by which a pod belongs to a group; empty where it has none, or one of its user's own.

    One pod needs no other, and another scheduler may have other groups.
    """
    scheduler = pod.get("schedulerName") or _DEFAULT_SCHEDULER
    if count < 2 or scheduler != _DEFAULT_SCHEDULER or pod.get("schedulingGroup"):
        return {}
    return {"schedulingGroup": {"podGroupName": name}}


def has_group(job: Object) -> bool:
    """Tell whether the pods of a Job belong to the group that is made for it, which has its name."""
    pod = job["spec"]["template"].get("spec") or {}
    return bool((pod.get("schedulingGroup") or {}).get("podGroupName") == job["metadata"]["name"])


def pod_group(job: Object, count: int, api_version: str) -> Object:
    """Return the group of a Job's pods, of which so many start together. It goes with the Job."""
    meta, pod = job["metadata"], job["spec"]["template"]["spec"]
    # The group stays until its last pod has ended. A Job that waited for it would do so for ever in a cluster whose
    # controllers know nothing of groups.
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    spec: Object = {"schedulingPolicy": {"gang": {"minCount": count}}, "disruptionMode": VERSIONS[api_version]}
    if priority := pod.get("priorityClassName"):
        spec["priorityClassName"] = priority
    return {
        "apiVersion": api_version,
        "kind": KIND,
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": {name: meta["labels"][name] for name in (MANAGED_BY_LABEL, OWNER_UID_LABEL, ATTEMPT_LABEL)},
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": False}],
        },
        "spec": spec,
    }


def awaits_peers(pod: Object) -> bool:
    """Tell whether the scheduler has found a node for a pod, and gives it none because its peers have none."""
    found = podstatus.condition(pod, "PodScheduled")
    return found.get("status") == "False" and str(found.get("message") or "").startswith(_FOR_ITS_PEERS)
