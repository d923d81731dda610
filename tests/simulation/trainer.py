"""What the pods of a TrainingJob do: report, save checkpoints, register a version, leave a result, or fail."""

import json
from dataclasses import dataclass, field
from typing import Any

from modelwright.api.goodput import Spent
from modelwright.api.layout import alias_key, completed_key, result_key
from modelwright.api.run import RUN_VARIABLE, Comparison, Run, TrainingReport, TrainingResult
from modelwright.api.trainingjob import CheckpointStatus, MetricValue, Progress, RegisteredVersion
from modelwright.plan.actions import Object
from modelwright.plan.attempts import attempt_of, finished
from modelwright.plan.launch import LOGGED
from modelwright.plan.times import stamp
from modelwright.registry.versions import Writer
from tests.simulation.cluster import ref_of
from tests.simulation.nodes import complete_gangs, finish
from tests.simulation.world import World

STEPS = 4
FAILURES: dict[str, dict[str, Any]] = {
    "exit": {"code": 1, "message": "Traceback\nValueError: no"},
    "killed": {"code": 137},
    "memory": {"code": 137, "terminated": {"reason": "OOMKilled"}},
    "evicted": {"code": 137, "reason": "Evicted"},
    "preempted": {"code": 143, "reason": "Preempting"},
    "said": {"code": 1, "message": json.dumps({"reason": "PeerLost", "message": "worker 1 is gone"})},
    "hang": {
        "code": 1,
        "message": json.dumps({"reason": "Hang", "message": "no step for 312 s", "failureClass": "Hang", "step": 2}),
    },
    "storage": {
        "code": 1,
        "message": json.dumps(
            {"reason": "StorageUnavailable", "message": "S3 is away", "failureClass": "Infrastructure", "step": 0}
        ),
    },
    "final": {
        "code": 1,
        "message": json.dumps({"reason": "DataInvalid", "message": "no column y", "retryable": False}),
    },
}


@dataclass
class Life:
    """One set of processes of a gang."""

    since: str
    steps: int = 0

    def spent(self) -> Spent:
        """Return what rank 0 says of its time: a second for each step, the first of which belongs to the start."""
        return Spent(since=self.since, starting=1, training=max(0, self.steps - 1))


@dataclass
class Trainer:
    """Runs every gang whose pods all run. Add it to the controllers of a world."""

    world: World
    improvement: float = 0.02
    reports_lost: bool = False
    dies_after_result: bool = False
    """The next worker to finish dies when rank 0 has left its result."""
    total: int = STEPS
    """Rounds that a training takes."""
    pause: int = 1
    """Rounds from one report to the next, the first and the last one aside."""
    tells_eta: bool = False
    """Reports say how many rounds are left, as seconds."""
    preempted: int = 0
    """How often a pod had to make room."""
    steps: dict[str, int] = field(default_factory=dict)
    """Of the last checkpoint, by UID of the job: it is on S3, and outlives the pods."""
    resumed: dict[str, int | None] = field(default_factory=dict)
    """The checkpoint that a gang went on from, by UID of its Job."""
    lives: dict[str, Life] = field(default_factory=dict)
    """By UID of the pod of rank 0."""
    begun: dict[str, int] = field(default_factory=dict)
    """The version that a gang has written without its manifest, by UID of its Job."""

    def step(self) -> None:
        """Let every complete gang do one round of work."""
        for job, pods in complete_gangs(self.world.kubelets, "TrainingJob"):
            self._train(job, pods)

    @property
    def trained(self) -> int:
        """How many seconds any gang has really trained, what was lost included."""
        return sum(max(0, life.steps - 1) for life in self.lives.values())

    def fail(self, how: str, index: int = 0) -> None:
        """Let a running pod fail, if there is one."""
        pods = [pod for pod in self.world.cluster.of_kind("Pod") if pod["status"]["phase"] == "Running"]
        if pods:
            finish(self.world.cluster, pods[index % len(pods)], **FAILURES[how])
            self.preempted += how == "preempted"

    def lose_node(self, index: int = 0) -> None:
        """Let the node of a pod stop answering: the pod is deleted, and never confirms it."""
        pods = [pod for pod in self.world.cluster.of_kind("Pod") if pod["status"]["phase"] == "Running"]
        if pods:
            pod = pods[index % len(pods)]
            self.world.kubelets.lost.add(pod["metadata"]["uid"])
            self.world.cluster.delete(ref_of(pod))

    def silence_node(self, index: int = 0, *, gone: bool) -> None:
        """Let the kubelet of a pod's node fall silent; the pod is gone with it, or runs on as if nothing were."""
        pods = [pod for pod in self.world.cluster.of_kind("Pod") if pod["status"]["phase"] == "Running"]
        if pods:
            uid = pods[index % len(pods)]["metadata"]["uid"]
            self.world.nodes.silent.setdefault(uid, self.world.now)
            if gone:
                self.world.kubelets.lost.add(uid)

    def delete_pod(self, index: int = 0) -> None:
        """Delete a pod as a person would."""
        pods = self.world.cluster.of_kind("Pod")
        if pods:
            self.world.cluster.delete(ref_of(pods[index % len(pods)]))

    def delete_job(self, *, orphan: bool = False) -> None:
        """Delete the Job that is under way."""
        for job in self.world.cluster.of_kind("Job"):
            if not finished(job):
                self.world.cluster.delete(ref_of(job), orphan=orphan)

    def _train(self, job: Object, pods: list[Object]) -> None:
        run = run_of(job)
        resumed = self.resumed.setdefault(job["metadata"]["uid"], self.steps.get(run.uid))
        step = self.steps.get(run.uid, 0) + 1
        life = self.lives.setdefault(pods[0]["metadata"]["uid"], Life(stamp(self.world.now)))
        if step < self.total:
            self.steps[run.uid] = step
            life.steps += 1
            self.report(run, step, resumed, life)
        elif not self.world.bucket.down:
            self._conclude(job, pods)

    def _conclude(self, job: Object, pods: list[Object]) -> None:
        if run_of(job).training.recipe is not None:
            if job["metadata"]["uid"] not in self.begun:
                # Its manifest is for the next round, which some pod may not live to see.
                self.begin_version(job)
                return
            self.leave_result(job)
        else:
            self.leave_word(job)
        for pod in pods:
            if self.dies_after_result and pod is pods[-1]:
                self.dies_after_result = False
                finish(self.world.cluster, pod, **FAILURES["killed"])
            finish(self.world.cluster, pod)

    def report(self, run: Run, step: int, resumed: int | None, life: Life) -> None:
        """Say what rank 0 says after a step."""
        if self.reports_lost or (step % self.pause and life.steps > 1 and step < self.total - 1):
            return
        at = stamp(self.world.now)
        uri = f"{run.storage.uri}/runs/{run.namespace}/{run.uid}/checkpoints/{step}/"
        report = TrainingReport(
            attempt=run.attempt,
            progress=Progress(
                step=step,
                total_steps=self.total,
                loss=1.0 / step,
                seconds_per_step=1.0,
                eta_seconds=self.total - step if self.tells_eta else None,
            ),
            checkpoint=CheckpointStatus(step=step, uri=uri, time=at),
            resumed_from_step=resumed,
            stage="Evaluating" if step == self.total - 1 else "Training",
            spent=life.spent(),
        )
        self.world.operator.report(run.uid, report)

    def begin_version(self, job: Object) -> None:
        """Do what rank 0 does when it has evaluated: take a version number, and write the files."""
        run = run_of(job)
        assert run.training.model is not None
        content = {"job": run.uid, "attempt": attempt_of(job)}
        writer = Writer(run.attempt, run.unconfirmed)
        version = self.world.bucket.begin_version(run.training.model.name, run.uid, content, writer)
        self.begun[job["metadata"]["uid"]] = version

    def leave_result(self, job: Object) -> None:
        """Do what rank 0 does last: complete the version, and write the result."""
        run, attempt = run_of(job), attempt_of(job)
        bucket, model = self.world.bucket, run.training.model
        assert model is not None
        alias = model.promotion.alias if model.promotion else "champion"
        holder = json.loads(bucket.documents.get(alias_key(model.name, alias), "null"))
        version = self.begun[job["metadata"]["uid"]]
        bucket.complete_version(model.name, version, run.uid)
        result = TrainingResult(
            attempt=attempt,
            model=RegisteredVersion(name=model.name, version=version, uri=f"{run.storage.uri}/models/{version}/"),
            metrics=(MetricValue(name="accuracy", value=0.9),),
            comparison=self._compare(alias, holder["version"]) if holder else None,
        )
        bucket.write(result_key(run.namespace, run.uid), result.document())

    def leave_word(self, job: Object) -> None:
        """Do what the first process of worker 0 does when a command of ours has ended well."""
        run, (container,) = run_of(job), job["spec"]["template"]["spec"]["containers"]
        if tuple(container["command"][: len(LOGGED)]) == LOGGED:
            self.world.bucket.write(completed_key(run.namespace, run.uid, run.attempt), {})

    def _compare(self, alias: str, incumbent: int) -> Comparison:
        return Comparison(
            alias=alias,
            metric="accuracy",
            rows=100,
            candidate=0.8 + self.improvement,
            incumbent_version=incumbent,
            incumbent=0.8,
            improvement=self.improvement,
            lower_bound=self.improvement / 2,
            confidence=0.95,
        )


def run_of(job: Object) -> Run:
    """Return what the pods of a Job are told, as the kubelet would hand it over."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    return Run.model_validate_json(str(values[RUN_VARIABLE]).replace("$$", "$"))
