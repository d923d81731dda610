"""A cluster and a registry in memory, real enough for ModelDeployments: Deployments make pods, pods load or do not."""

import copy
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from modelwright.api.common import Storage
from modelwright.api.run import ResolvedStorage
from modelwright.plan.actions import Action, Apply, Ask, Delete, Patch, Plan, Rejection
from modelwright.plan.deployment import plan
from modelwright.plan.observed import Observed
from modelwright.plan.questions import Question, ReadDocument, SecretExists, Store, Unavailable
from modelwright.plan.settings import Settings
from modelwright.plan.times import stamp
from tests.simulation.kstatus import violations

Object = dict[str, Any]
SETTINGS = Settings("runtime:1", "server:1", storage=Storage(uri="s3://models/team", secret_name="s3-keys"))
STORE = Store(ResolvedStorage(uri="s3://models/team"), "shop", "s3-keys")
START = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
DEADLINE = 60
DRAIN = 10


class Crash(Exception):  # noqa: N818
    """The operator dies here."""


def failure(reason: str, message: str, *, retryable: bool) -> str:
    return json.dumps({"reason": reason, "message": message, "retryable": retryable})


class World:
    """One ModelDeployment and what there is around it."""

    def __init__(self, versions: int = 9, replicas: int = 2, **model: Any) -> None:
        self.now = START
        self.uids = itertools.count(1)
        self.documents: dict[str, Object | Unavailable] = {}
        self.secrets = {"s3-keys"}
        self.broken: dict[int, str] = {}
        """Versions whose servers never answer, and their termination message."""
        self.deployments: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.service: Object | None = None
        self.progress: dict[str, tuple[Any, datetime]] = {}
        """By Deployment: what it had reached, and when it got there."""
        self.stale: dict[str, Object] = {}
        self.rejection: Rejection | None = None
        self.actions: list[Action] = []
        self.events: list[str] = []
        self.questions: list[Question] = []
        self.mdep: Object = {
            "apiVersion": "modelwright.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "churn", "namespace": "shop", "uid": "u-1", "generation": 1},
            "spec": {
                "model": {"name": "churn-model", **(model or {"alias": "champion"})},
                "replicas": replicas,
                "rollout": {"progressDeadlineSeconds": DEADLINE, "drainSeconds": DRAIN},
            },
        }
        for version in range(1, versions + 1):
            self.documents[f"models/churn-model/versions/{version}/manifest.json"] = {"version": version}
        self.move_alias(1)

    # what people do

    def move_alias(self, version: int) -> None:
        self.documents["models/churn-model/aliases/champion.json"] = {
            "version": version, "movedBy": "somebody", "reason": "", "at": stamp(self.now),
        }  # fmt: skip

    def change(self, **spec: Any) -> None:
        self.mdep["spec"] = {**self.mdep["spec"], **spec}
        self.mdep["metadata"]["generation"] += 1

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # what the operator does

    def observe(self, *, stale: bool = False) -> Observed:
        deployments = [
            self.stale.get(found["metadata"]["uid"], found) if stale else found for found in self.deployments.values()
        ]
        services = (self.service,) if self.service else ()
        children = {"Deployment": tuple(deployments), "Pod": tuple(self.pods.values()), "Service": services}
        return Observed(copy.deepcopy(self.mdep), copy.deepcopy(children), rejection=self.rejection)

    def decide(self, *, stale: bool = False) -> Plan:
        observed = self.observe(stale=stale)
        self.questions = []
        answers: dict[Question, Any] = {}
        for _ in range(5):
            decision = plan(
                Observed(observed.object, observed.children, rejection=observed.rejection, answers=answers),
                SETTINGS,
                self.now,
            )
            if isinstance(decision, Plan):
                return decision
            assert isinstance(decision, Ask)
            self.questions += decision.questions
            answers |= {question: self._answer(question) for question in decision.questions}
        raise AssertionError("it goes on asking")

    def reconcile(self, *, crash_after: int | None = None, stale: bool = False) -> Plan:
        """Look once and do what the plan says, dying after so many actions if told to."""
        decision = self.decide(stale=stale)
        self.actions = list(decision.actions)
        for number, action in enumerate(decision.actions):
            if number == crash_after:
                raise Crash
            self._carry_out(action)
        if crash_after is not None and crash_after >= len(decision.actions):
            raise Crash
        self.mdep["status"] = decision.status
        assert violations(self.mdep) == []
        self.events += [event.reason for event in decision.events]
        return decision

    def settle(self, rounds: int = 30, *, seconds: float = 1.0) -> Plan:
        """Let the operator and the cluster take turns for a while."""
        for _ in range(rounds):
            decision = self.reconcile()
            self.tick()
            self.wait(seconds)
        return decision

    def _answer(self, question: Question) -> Any:
        if isinstance(question, SecretExists):
            return question.name in self.secrets
        assert isinstance(question, ReadDocument)
        assert question.store == STORE
        return self.documents.get(question.key)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Apply(document) if document["kind"] == "Service":
                self.service = copy.deepcopy(document)
            case Apply(document):
                self._apply(document)
            case Patch(ref, body):
                found = self.deployments[ref.name]
                assert found["metadata"]["uid"] == ref.uid
                found["spec"] |= body["spec"]
                found["metadata"]["generation"] += 1
            case Delete(ref):
                found = self.deployments.get(ref.name)
                if found is not None and found["metadata"]["uid"] == ref.uid:
                    self.delete(ref.name)

    def _apply(self, document: Object) -> None:
        name = document["metadata"]["name"]
        known = self.deployments.get(name)
        new = copy.deepcopy(document)
        if known is None:
            new["metadata"] |= {"uid": f"d-{next(self.uids)}", "creationTimestamp": stamp(self.now), "generation": 1}
            new["status"] = {}
        else:
            changed = known["spec"] != new["spec"]
            kept = {key: known["metadata"][key] for key in ("uid", "creationTimestamp")}
            new["metadata"] |= kept | {"generation": known["metadata"]["generation"] + changed}
            new["status"] = known["status"]
        self.deployments[name] = new

    # what Kubernetes does

    def delete(self, name: str) -> None:
        """Delete a Deployment with its pods."""
        uid = self.deployments.pop(name)["metadata"]["uid"]
        self.pods = {name: pod for name, pod in self.pods.items() if pod["metadata"]["deployment"] != uid}

    def tick(self) -> None:
        """One turn of the Deployment controller and the kubelet: at most one pod of a Deployment gets ready."""
        self.stale = {found["metadata"]["uid"]: copy.deepcopy(found) for found in self.deployments.values()}
        for deployment in self.deployments.values():
            self._roll(deployment)

    def _roll(self, deployment: Object) -> None:
        uid, wanted = deployment["metadata"]["uid"], deployment["spec"]["replicas"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        mine = [pod for pod in self.pods.values() if pod["metadata"]["deployment"] == uid]
        new = [pod for pod in mine if pod["metadata"]["labels"] == labels]
        old = [pod for pod in mine if pod["metadata"]["labels"] != labels]
        if len(new) < wanted:
            new.append(self._start(deployment, labels))
        self._run(int(labels["modelwright.dev/version"]), new)
        # Nothing is taken away before as many are ready as there should be.
        spare = sum(map(is_ready, new + old)) - wanted
        surplus = [pod for pod in old if not is_ready(pod)]
        surplus += [pod for pod in (*old, *new[wanted:]) if is_ready(pod)][: max(0, spare)]
        for pod in surplus:
            del self.pods[pod["metadata"]["name"]]
        left = [pod for pod in new + old if pod["metadata"]["name"] in self.pods]
        ready = sum(map(is_ready, left))
        mark = (labels["modelwright.dev/template"], wanted, sum(map(is_ready, new)))
        if self.progress.get(uid, (None, self.now))[0] != mark:
            self.progress[uid] = (mark, self.now)
        late = mark[2] < wanted and self.now >= self.progress[uid][1] + timedelta(seconds=DEADLINE)
        reason = "ProgressDeadlineExceeded" if late else "ReplicaSetUpdated"
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(left),
            "readyReplicas": ready,
            "updatedReplicas": sum(pod["metadata"]["labels"] == labels for pod in left),
            "conditions": [{"type": "Progressing", "status": "False" if late else "True", "reason": reason}],
        }

    def _start(self, deployment: Object, labels: Object) -> Object:
        name = f"{deployment['metadata']['name']}-{next(self.uids)}"
        meta = {"name": name, "labels": dict(labels), "creationTimestamp": stamp(self.now)}
        self.pods[name] = {"metadata": {**meta, "deployment": deployment["metadata"]["uid"]}, "status": {}}
        return self.pods[name]

    def _run(self, version: int, pods: list[Object]) -> None:
        waiting = [pod for pod in pods if not is_ready(pod)]
        if version not in self.broken:
            for pod in waiting[:1]:
                pod["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
            return
        for pod in waiting:
            before = (pod["status"].get("containerStatuses") or [{"restartCount": -1}])[0]
            ended = {"exitCode": 1, "reason": "Error", "message": self.broken[version]}
            pod["status"]["containerStatuses"] = [
                {"restartCount": before["restartCount"] + 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": ended}}
            ]  # fmt: skip

    # what one may ask of it

    @property
    def status(self) -> Object:
        return self.mdep.get("status", {})

    @property
    def selected(self) -> int | None:
        return None if self.service is None else int(self.service["spec"]["selector"]["modelwright.dev/version"])

    def ready(self, version: int | None) -> int:
        label = str(version)
        return sum(
            is_ready(pod) and pod["metadata"]["labels"]["modelwright.dev/version"] == label
            for pod in self.pods.values()
        )

    def condition(self, kind: str) -> Object | None:
        return next((found for found in self.status["conditions"] if found["type"] == kind), None)

    @property
    def reason(self) -> str:
        found = self.condition("Ready")
        assert found is not None
        return str(found["reason"])


def is_ready(pod: Object) -> bool:
    return any(found["type"] == "Ready" for found in pod["status"].get("conditions", ()))
