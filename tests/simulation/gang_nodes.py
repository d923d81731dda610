"""Nodes whose scheduler knows PodGroups, as that of Kubernetes 1.36 does."""

from modelwright.plan.actions import Object
from modelwright.plan.podgroup import KIND
from modelwright.plan.times import stamp
from tests.simulation.cluster import Key
from tests.simulation.nodes import pods_of
from tests.simulation.one_elastic import Nodes

_PEERS = "pod group is unschedulable, waiting for minCount pods from a gang to be scheduled"


class GangNodes(Nodes):
    """Places the pods of a group when so many of them exist and fit that its gang may start; others one by one."""

    def obstacle(self, pod: Object) -> Object | None:
        """Return the status of a pod that may not start; see `Kubelets`."""
        job = self._job(pod)
        name = job["spec"]["template"]["spec"].get("schedulingGroup", {}).get("podGroupName")
        if name is None:
            return super().obstacle(pod)
        group = self.world.cluster.get(Key(KIND, job["metadata"]["namespace"], name))
        pods = [
            other for other in pods_of(self.world.cluster, job) if other["status"]["phase"] in ("Pending", "Running")
        ]
        count = group["spec"]["schedulingPolicy"]["gang"]["minCount"] if group is not None else len(pods) + 1
        if len(pods) < count:
            # They do not even enter its queue, and get no condition.
            return {}
        running = sum(other["status"]["phase"] == "Running" for other in pods)
        if super().obstacle(pod) is None and self.free < count - running:
            return self._waits_for_peers()
        return super().obstacle(pod)

    @property
    def free(self) -> int:
        """For how many pods there is room."""
        lost = self.world.kubelets.lost
        pods = [pod for pod in self.world.cluster.of_kind("Pod") if pod["metadata"]["uid"] not in lost]
        return self.slots - sum(pod["status"]["phase"] == "Running" for pod in pods)

    def _job(self, pod: Object) -> Object:
        meta = pod["metadata"]
        found = self.world.cluster.get(Key("Job", meta["namespace"], meta["labels"]["job-name"]))
        # What is left of a Job that is gone is placed by nobody.
        return found or {"metadata": meta, "spec": {"template": {"spec": {"schedulingGroup": {"podGroupName": ""}}}}}

    def _waits_for_peers(self) -> Object:
        why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": _PEERS}
        return {"conditions": [{**why, "lastTransitionTime": stamp(self.world.now)}]}
