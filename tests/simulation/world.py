"""A cluster, a bucket and an operator in virtual time, and what must hold whatever happens to them.

A test adds objects of ours, the behaviour of their pods, and faults; `settle` runs until nothing moves any more.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from modelwright.api.common import Storage
from modelwright.api.schema import API_VERSION
from modelwright.plan.actions import Object
from modelwright.plan.attempts import attempt_of, condition_time, finished, is_placeholder
from modelwright.plan.observed import OWNER_UID_LABEL
from modelwright.plan.pods import CREDENTIALS
from modelwright.plan.podstatus import over
from modelwright.plan.settings import Settings
from tests.simulation import kstatus
from tests.simulation.cluster import Cluster, Key, key_of, ref_of
from tests.simulation.faults import CrashError, Faults
from tests.simulation.nodes import Controller, JobController, Kubelets, NodeController, pods_of
from tests.simulation.operator import Operator, Planner, Stage
from tests.simulation.store import Bucket

START = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
NAMESPACE = "team"
SETTINGS = Settings(
    runtime_image="runtime:1",
    server_image="server:1",
    report_url="http://operator/reports",
    storage=Storage(uri="s3://models/team", endpoint="http://s3:7070", secret_name="s3"),
)
_LONGEST = 3000


@dataclass
class World:
    """Everything, and the checks that are made after every step."""

    planners: Mapping[str, Planner]
    settings: Settings = SETTINGS
    now: datetime = START
    faults: Faults = field(default_factory=Faults)
    controllers: list[Controller] = field(default_factory=list)
    invariants: list[Callable[["World"], None]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    statuses: dict[Key, list[Object]] = field(default_factory=dict)
    """Every status ever written."""
    events: list[Object] = field(default_factory=list)
    alarms: list[Callable[[], Iterable[datetime]]] = field(default_factory=list)
    """When something beside the operator will happen by itself."""
    movement: Callable[[], object] | None = None
    """What has to stay the same in a steady state; every write counts where nothing else is said."""
    idle_looks: int = 12
    """So many wake-ups in a row without a write count as a steady state: something out there is waited for."""
    crashes: int = 0

    def __post_init__(self) -> None:
        """Set the stage."""
        self.cluster = Cluster(self.clock)
        self.bucket = Bucket(self.clock)
        self.kubelets = Kubelets(self.cluster)
        self.nodes = NodeController(self.kubelets)
        self.controllers = [self.kubelets, JobController(self.cluster), self.nodes, *self.controllers]
        self.alarms.append(self.nodes.alarms)
        self.add_secret("s3")
        self.operator = self.new_operator()

    def clock(self) -> datetime:
        """Return the virtual time."""
        return self.now

    def new_operator(self) -> Operator:
        """Return a fresh process, which remembers nothing."""
        stage = Stage(
            cluster=self.cluster,
            bucket=self.bucket,
            planners=self.planners,
            settings=self.settings,
            faults=self.faults,
            writes=self.writes,
            on_status=self._check_status,
            on_event=self.events.append,
        )
        return Operator(stage)

    def add(self, kind: str, name: str, spec: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Key:
        """Have a user create an object of ours."""
        meta = {"name": name, "namespace": NAMESPACE, "labels": dict(labels or {})}
        made = self.cluster.create({"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": dict(spec)})
        return key_of(made)

    def add_secret(self, name: str) -> None:
        """Have a user create a Secret."""
        meta = {"name": name, "namespace": NAMESPACE}
        data = dict.fromkeys(CREDENTIALS, base64.b64encode(b"key").decode())
        self.cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})

    def edit(self, key: Key, **spec: Any) -> None:
        """Have a user change the spec of an object."""
        found = self.cluster.get(key)
        if found is not None:
            self.cluster.patch(ref_of(found), {"spec": spec}, persistently=True)

    def remove(self, key: Key) -> None:
        """Have a user delete an object."""
        found = self.cluster.get(key)
        if found is not None:
            self.cluster.delete(ref_of(found))

    def status(self, key: Key) -> dict[str, Any]:
        """Return the status of an object."""
        return (self.cluster.get(key) or {}).get("status", {})

    def condition(self, key: Key, kind: str = "Ready") -> tuple[str, str] | None:
        """Return status and reason of a condition."""
        found = [entry for entry in self.status(key).get("conditions", ()) if entry["type"] == kind]
        return (found[0]["status"], found[0]["reason"]) if found else None

    def step(self, seconds: float = 1.0) -> bool:
        """Let everybody act once, and time pass; return whether anything was written or moved."""
        before = self._moved()
        try:
            self.operator.run_due()
        except CrashError:
            self.crash()
        self.act_unseen()
        self.cluster.collect_garbage()
        for check in (one_live_attempt, aliases_are_complete, *self.invariants):
            check(self)
        self.now += timedelta(seconds=seconds)
        return before != self._moved()

    def act_unseen(self, times: int = 1) -> None:
        """Let everybody but the operator act, and no time pass."""
        for _ in range(times):
            for controller in self.controllers:
                controller.step()

    def _moved(self) -> object:
        if self.movement is not None:
            return self.movement()
        return self.cluster.version, len(self.writes), len(self.bucket.moves)

    def crash(self) -> None:
        """Replace the operator by a new one."""
        self.crashes += 1
        if not self.faults.forgetful:
            # A new process begins with a list; only then may its watches lag.
            self.faults.frozen = dict.fromkeys(self.faults.frozen, self.cluster.version)
        self.operator = self.new_operator()

    def run(self, steps: int) -> None:
        """Take some steps."""
        for _ in range(steps):
            self.step()

    def settle(self) -> None:
        """Run until nothing moves; long waits are skipped. Raises AssertionError where that never comes."""
        idle = 0
        for _ in range(_LONGEST):
            if self.step():
                idle = 0
                continue
            idle += 1
            due = self.operator.next_look()
            pending = [*([due] if due else []), *(at for alarm in self.alarms for at in alarm())]
            if idle > self.idle_looks or not pending:
                return
            self.now = max(self.now, min(pending))
        raise AssertionError(f"no steady state; the last writes were {self.writes[-10:]}")

    def assert_steady(self) -> None:
        """Check that neither this operator nor a new one finds anything to write."""
        written = len(self.writes)
        for fresh in (self.operator, self.new_operator()):
            for key in sorted(fresh.keys()):
                fresh.reconcile(key)
        assert self.writes[written:] == []

    def _check_status(self, document: Object) -> None:
        assert kstatus.violations(document) == [], document["status"]
        self.statuses.setdefault(key_of(document), []).append(document["status"])


def one_live_attempt(world: World) -> None:
    """No owner ever has two Jobs that have not ended; of one that is to fail, only pods that may run count."""
    jobs = [job for job in world.cluster.of_kind("Job") if not finished(job)]
    _only_one([job for job in jobs if not condition_time(job, "FailureTarget") or _may_run(world.cluster, job)])


def one_attempt_runs(world: World) -> None:
    """No owner ever has pods of two attempts that run; holds where the operator sees all pods."""
    _only_one([pod for pod in world.cluster.of_kind("Pod") if not over(pod)])


def _may_run(cluster: Cluster, job: Object) -> bool:
    return any(not over(pod) for pod in pods_of(cluster, job))


def _only_one(children: list[Object]) -> None:
    live: dict[str, set[int]] = {}
    for child in children:
        if is_placeholder(child):
            continue
        live.setdefault(child["metadata"]["labels"][OWNER_UID_LABEL], set()).add(attempt_of(child))
    assert all(len(attempts) == 1 for attempts in live.values()), live


def aliases_are_complete(world: World) -> None:
    """An alias only ever moves to a version whose manifest is there."""
    assert world.bucket.premature == []
