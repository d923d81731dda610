"""KubeRay as it is to an operator that makes RayJobs: it starts pods again one at a time, and tells of the driver."""

import json
from dataclasses import dataclass, field

from modelwright.kube import errors
from modelwright.plan.actions import Object
from modelwright.plan.podstatus import RAY_CLUSTER_LABEL, RAY_REPLICA_LABEL, RAY_TYPE_LABEL
from modelwright.plan.raystatus import as_job
from modelwright.plan.times import seconds_between, stamp
from tests.simulation.cluster import key_of, ref_of
from tests.simulation.trainer import Life, Trainer, run_of
from tests.simulation.world import World

_OVER = ("Complete", "Failed")


@dataclass
class KubeRay:
    """KubeRay 1.6 and the drivers of its Ray clusters. Add it to the controllers of a world, after the trainer."""

    world: World
    trainer: Trainer
    installed: bool = True
    driver_error: str | None = None
    """What the next driver leaves as its last line when it fails; JSON, or words of its own."""
    clusters: int = 0
    tries: int = 0
    """How many pods were refused."""
    rounds: dict[str, int] = field(default_factory=dict)
    """Of the drivers, by the name of the Ray cluster."""

    def step(self) -> None:
        """Look at every RayJob once."""
        for found in self.world.cluster.of_kind("RayJob"):
            if not self.installed or "deletionTimestamp" in found["metadata"]:
                continue
            job = self.world.cluster.get(key_of(found)) or found
            before = json.dumps(job.get("status"))
            self._sync(job, job.setdefault("status", {}))
            if json.dumps(job["status"]) != before:
                self.world.cluster.update(job)
        for pod in self.world.cluster.of_kind("Pod"):
            # The API server does not wait for a pod that has ended.
            if RAY_CLUSTER_LABEL in pod["metadata"]["labels"] and pod["status"]["phase"] in ("Failed", "Succeeded"):
                self.world.cluster.remove(key_of(pod))

    def restart_container(self, index: int, code: int = 137, reason: str = "OOMKilled", message: str = "") -> None:
        """Let the container of a pod end and begin again; 0 is the head."""
        pod = self.world.cluster.get(key_of(self.pod(index)))
        assert pod is not None
        now = stamp(self.world.now)
        last = {"exitCode": code, "reason": reason, "message": message, "finishedAt": now}
        (entry,) = pod["status"]["containerStatuses"]
        pod["status"]["containerStatuses"] = [{**entry, "restartCount": 1, "lastState": {"terminated": last}}]
        self.world.cluster.update(pod)

    def pod(self, index: int) -> Object:
        """Return a pod that is not leaving; 0 is the head."""
        label = (RAY_TYPE_LABEL, "head") if index == 0 else (RAY_REPLICA_LABEL, str(index - 1))
        pods = [pod for pod in self.world.cluster.of_kind("Pod") if pod["metadata"]["labels"].get(label[0]) == label[1]]
        return next(pod for pod in pods if "deletionTimestamp" not in pod["metadata"])

    def _sync(self, job: Object, status: Object) -> None:
        match status.get("jobDeploymentStatus", ""):
            case "":
                self.clusters += 1
                name = f"{job['metadata']['name']}-{self.clusters:05d}"
                now = stamp(self.world.now)
                status |= {"jobDeploymentStatus": "Initializing", "rayClusterName": name, "startTime": now}
            case "Initializing" | "Running":
                self._run(job, status)
            case "Suspending":
                self._stop(job)
                job["status"] = {"jobDeploymentStatus": "Suspended", "startTime": status["startTime"]}
            case "Suspended" if not job["spec"]["suspend"]:
                job["status"] = {}
            case "Complete" | "Failed":
                self._stop(job)

    def _run(self, job: Object, status: Object) -> None:
        deadline = job["spec"].get("activeDeadlineSeconds")
        if job["spec"]["suspend"]:
            status["jobDeploymentStatus"] = "Suspending"
            return
        if deadline is not None and seconds_between(status["startTime"], self.world.now) >= deadline:
            self._end(status, "Failed", "DeadlineExceeded", "The RayJob has passed the activeDeadlineSeconds.")
            return
        pods = self._pods(job, status["rayClusterName"])
        running = [
            pod for pod in pods if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]
        if len(running) < as_job(job)["spec"]["completions"]:
            return
        if status["jobDeploymentStatus"] == "Initializing":
            driven = {"startTime": stamp(self.world.now)}
            status |= {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayJobInfo": driven}
        elif not any(entry.get("restartCount") for pod in running for entry in pod["status"]["containerStatuses"]):
            self._drive(job, status, running)

    def _pods(self, job: Object, cluster: str) -> list[Object]:
        """Return the pods of a Ray cluster, made where they are missing; but for a head that was there before."""
        wanted = {"head": {RAY_TYPE_LABEL: "head"}}
        for number in range(as_job(job)["spec"]["completions"] - 1):
            wanted[str(number)] = {RAY_TYPE_LABEL: "worker", RAY_REPLICA_LABEL: str(number)}
        mine = [
            pod
            for pod in self.world.cluster.of_kind("Pod")
            if pod["metadata"]["labels"].get(RAY_CLUSTER_LABEL) == cluster
        ]
        there = {pod["metadata"]["labels"].get(RAY_REPLICA_LABEL, "head") for pod in mine}
        job["status"]["rayClusterStatus"] = {}
        for name, labels in wanted.items():
            if name not in there and not (name == "head" and job["status"]["jobDeploymentStatus"] == "Running"):
                try:
                    mine.append(self._make(job, cluster, {**labels, RAY_CLUSTER_LABEL: cluster}))
                except errors.Rejected as error:
                    job["status"]["rayClusterStatus"] = {"conditions": [self._refused(cluster, error.message)]}
        return mine

    def _refused(self, cluster: str, why: str) -> Object:
        # Each try is for another name.
        self.tries += 1
        name = f"{cluster}-workers-worker-{self.tries:05x}"
        message = f'FailedCreateWorkerPod\npods "{name}" is forbidden: {why}'
        return {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateWorkerPod", "message": message}

    def _make(self, job: Object, cluster: str, labels: dict[str, str]) -> Object:
        meta, spec = job["metadata"], job["spec"]["rayClusterSpec"]
        group = spec["headGroupSpec"] if labels[RAY_TYPE_LABEL] == "head" else spec["workerGroupSpecs"][0]
        owner = {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
        }
        named = {
            "name": f"{cluster}-{labels.get(RAY_REPLICA_LABEL, 'head')}-{len(self.world.cluster.history)}",
            "namespace": meta["namespace"],
            "labels": {**group["template"]["metadata"]["labels"], **labels},
            "ownerReferences": [owner],
        }
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": {}, "status": {"phase": "Pending"}}
        return self.world.cluster.create(made)

    def _drive(self, job: Object, status: Object, pods: list[Object]) -> None:
        """Let the driver do one round of work."""
        if self.driver_error is not None:
            words, self.driver_error = self.driver_error, None
            told = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n"
            self._end(status, "Failed", "AppFailed", f"{told}Traceback\n{words}\n", "FAILED")
            return
        name, shown = status["rayClusterName"], as_job(job)
        done = self.rounds[name] = self.rounds.get(name, 0) + 1
        life = self.trainer.lives.setdefault(pods[0]["metadata"]["uid"], Life(stamp(self.world.now)))
        if done < self.trainer.total:
            life.steps += 1
            self.trainer.report(run_of(shown), done, None, life)
        else:
            if run_of(shown).training.recipe is not None:
                self.trainer.begin_version(shown)
                self.trainer.leave_result(shown)
            self._end(status, "Complete", None, "Job finished successfully.", "SUCCEEDED")

    def _end(self, status: Object, state: str, reason: str | None, message: str, job: str | None = None) -> None:
        status |= {"jobDeploymentStatus": state, "message": message, "endTime": stamp(self.world.now)}
        status |= {"reason": reason} if reason else {}
        status |= {"jobStatus": job} if job else {}

    def _stop(self, job: Object) -> None:
        for pod in self.world.cluster.of_kind("Pod"):
            owners = [entry["uid"] for entry in pod["metadata"].get("ownerReferences", ())]
            if job["metadata"]["uid"] in owners and "deletionTimestamp" not in pod["metadata"]:
                self.world.cluster.delete(ref_of(pod))
