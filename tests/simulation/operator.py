"""The operator as the planners know it: it observes, asks, acts, writes status, and can be wronged at every point."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from modelwright.api.run import SweepReport, TrainingReport
from modelwright.kube.inbox import Inbox
from modelwright.plan.actions import (
    Action,
    AliasWatch,
    Apply,
    Ask,
    CreateSecret,
    Delete,
    MoveAlias,
    Object,
    ObjectWatch,
    Patch,
    Plan,
    Rejection,
    Watch,
)
from modelwright.plan.observed import Observed
from modelwright.plan.questions import (
    Answer,
    Question,
    ReadDocument,
    ReadDocuments,
    ReadLive,
    ReadObject,
    SecretExists,
    Unavailable,
)
from modelwright.plan.settings import Settings
from tests.simulation.cluster import Cluster, ConflictError, Key, NotFoundError, RejectedError, children_at
from tests.simulation.store import AliasMovedError, Bucket, StoreError

Planner: TypeAlias = Callable[[Observed, Settings, datetime], Plan | Ask]
_ROUNDS = 10
_RETRY = 1.0
_REFUSED = 30.0


class CrashError(Exception):
    """The process dies here."""


class LostError(Exception):
    """The API server did not answer."""


@dataclass
class Faults:
    """What goes wrong with the operator's writes, and how old its views are."""

    next_writes: deque[str] = field(default_factory=deque)
    """One word for each coming write: ok, conflict, error, timeout (done, but no answer), crash (done, then death)."""
    crash_after: int | None = None
    """The number of the write, from 1 over all lives, after which the process dies."""
    frozen: dict[str, int] = field(default_factory=dict)
    """By kind: the resource version at which its watch has stopped."""
    forgetful: bool = False
    """Views may lack even what this process wrote itself."""


@dataclass
class Operator:
    """One life of the process."""

    cluster: Cluster
    bucket: Bucket
    planners: Mapping[str, Planner]
    settings: Settings
    faults: Faults
    writes: list[str]
    """Every write of all lives, in words."""
    on_status: Callable[[Object], None]
    reports: dict[str, TrainingReport | SweepReport] = field(default_factory=dict)
    events: list[tuple[Key, str, str]] = field(default_factory=list)
    due: dict[Key, datetime] = field(default_factory=dict)
    reconciles: int = 0
    _own: dict[Key, int] = field(default_factory=dict)
    _cursors: dict[str, int] = field(default_factory=dict)
    _watches: dict[Key, tuple[Watch, ...]] = field(default_factory=dict)
    _refused: dict[Key, tuple[Action, Rejection, datetime]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Open the box for alerts, which is the operator's own."""
        self.inbox = Inbox(self.wake, lambda: self.cluster.clock().timestamp())

    def resync(self) -> None:
        """Look at everything once, as after a start."""
        for key in self.cluster.objects:
            if key.kind in self.planners:
                self.wake(key)

    def wake(self, key: Key, delay: float = 0.0) -> None:
        """Have a key looked at after so many seconds, or earlier."""
        at = self.cluster.clock() + timedelta(seconds=delay)
        self.due[key] = min(at, self.due.get(key, at))

    def run_due(self) -> None:
        """Take in what the watches say, and look at all keys whose time has come."""
        self._listen()
        for key in sorted(key for key, at in self.due.items() if at <= self.cluster.clock()):
            self.due.pop(key, None)
            self.reconcile(key)

    def reconcile(self, key: Key) -> None:
        """Look at one object once."""
        self.reconciles += 1
        try:
            self._reconcile(key)
        except (ConflictError, LostError, AliasMovedError):
            self.wake(key, _RETRY)

    def _listen(self) -> None:
        kinds = {key.kind for key in self.cluster.history}
        oldest = min((self._cursors.get(kind, 0) for kind in kinds), default=0)
        for change in self.cluster.log[oldest:]:
            kind = change.key.kind
            if self._cursors.get(kind, 0) < change.version <= self.faults.frozen.get(kind, change.version):
                self._notice(change.key, change.owner)
        for kind in kinds:
            self._cursors[kind] = self.faults.frozen.get(kind, self.cluster.version)

    def _notice(self, key: Key, owner: str | None) -> None:
        if key.kind in self.planners:
            self.wake(key)
        for ours in list(self.cluster.objects):
            if ours.kind in self.planners and owner == self.cluster.objects[ours]["metadata"]["uid"]:
                self.wake(ours)
        self._tell(ObjectWatch(key.kind, key.namespace, key.name))

    def _tell(self, about: Watch) -> None:
        for holder, watches in self._watches.items():
            if about in watches:
                self.wake(holder)

    def view(self, key: Key) -> Object | None:
        """Return an object as this process sees it now."""
        return self.cluster.at(key, self._version(key))

    def _version(self, key: Key) -> int:
        seen = self.faults.frozen.get(key.kind, self.cluster.version)
        return seen if self.faults.forgetful else max(seen, self._own.get(key, 0))

    def _reconcile(self, key: Key) -> None:
        document = self.view(key)
        if document is None or "deletionTimestamp" in document["metadata"]:
            self._watches.pop(key, None)
            self.inbox.handled(key, self.inbox.alerts(key))
            return
        refused = self._refused.get(key)
        if refused is not None and refused[2] <= self.cluster.clock():
            refused = None
        uid = document["metadata"]["uid"]
        observed = Observed(
            object=document,
            children=children_at(self.cluster, self.cluster.owned(uid), self._version),
            report=self.reports.get(uid),
            alerts=self.inbox.alerts(key),
            rejection=refused[1] if refused else None,
        )
        plan, observed = self._decide(key, observed)
        refusal = self._act(key, plan, refused[0] if refused else None)
        if refusal is not None and observed.rejection is None:
            plan, observed = self._decide(key, replace(observed, rejection=refusal))
        self._write_status(key, document, plan)
        self.events += [(key, event.reason, event.message) for event in plan.events]
        self._watches[key] = plan.watches
        self.inbox.handled(key, observed.alerts)
        if plan.wake_after is not None:
            self.wake(key, plan.wake_after)
        if key in self._refused:
            self.wake(key, _REFUSED)

    def _decide(self, key: Key, observed: Observed) -> tuple[Plan, Observed]:
        for _ in range(_ROUNDS):
            decision = self.planners[key.kind](observed, self.settings, self.cluster.clock())
            if isinstance(decision, Plan):
                return decision, observed
            answers = {question: self._answer(question) for question in decision.questions}
            assert not set(answers) <= set(observed.answers), f"asked twice: {decision.questions}"
            observed = replace(observed, answers={**observed.answers, **answers})
        raise AssertionError("the planner goes on asking")

    def _answer(self, question: Question) -> Answer:
        match question:
            case SecretExists(namespace, name):
                return self.cluster.get(Key("Secret", namespace, name)) is not None
            case ReadObject(kind, namespace, name):
                return self.view(Key(kind, namespace, name))
            case ReadLive(kind, namespace, name):
                return self.cluster.get(Key(kind, namespace, name))
        try:
            if isinstance(question, ReadDocuments):
                return self.bucket.read_all(question.prefix, question.after)
            assert isinstance(question, ReadDocument)
            return self.bucket.read(question.key)
        except StoreError as error:
            return Unavailable(str(error))

    def _act(self, key: Key, plan: Plan, refused: Action | None) -> Rejection | None:
        for action in plan.actions:
            if action == refused:
                return self._refused[key][1]
            try:
                self._write(_words(action), lambda action=action: self._carry_out(action))
            except RejectedError as error:
                rejection = Rejection(_words(action), str(error))
                until = self.cluster.clock() + timedelta(seconds=_REFUSED)
                self._refused[key] = (action, rejection, until)
                return rejection
        if refused is None:
            self._refused.pop(key, None)
        return None

    def _carry_out(self, action: Action) -> None:
        match action:
            case Apply(document):
                self._keep(self.cluster.apply(document))
            case Patch(ref, body):
                try:
                    self._keep(self.cluster.patch(ref, body))
                except NotFoundError:
                    self._own[Key(ref.kind, ref.namespace, ref.name)] = self.cluster.version
            case Delete(ref, propagation, grace):
                self.cluster.delete(ref, foreground=propagation == "Foreground", grace=grace)
                self._own[Key(ref.kind, ref.namespace, ref.name)] = self.cluster.version
            case CreateSecret(document, keys):
                key = Key("Secret", document["metadata"]["namespace"], document["metadata"]["name"])
                if key not in self.cluster.objects:
                    self.cluster.create({**document, "data": dict.fromkeys(keys, "random")})
            case MoveAlias():
                try:
                    self.bucket.move_alias(action)
                except StoreError as error:
                    raise LostError(str(error)) from error
                self._tell(AliasWatch(action.store.storage.uri, action.model, action.alias))

    def _keep(self, document: Object) -> None:
        key = Key(document["kind"], document["metadata"]["namespace"], document["metadata"]["name"])
        self._own[key] = self.cluster.version

    def _write_status(self, key: Key, document: Object, plan: Plan) -> None:
        if plan.status == document.get("status", {}):
            return

        def write() -> None:
            written = self.cluster.apply_status(key, document["metadata"]["uid"], plan.status)
            if written is not None:
                self._keep(written)
                # What it says is about the generation that was observed, which may be an older one by now.
                observed = {**written["metadata"], "generation": document["metadata"]["generation"]}
                self.on_status({**written, "metadata": observed})

        self._write(f"status {key.kind} {key.name}", write)

    def _write(self, words: str, do: Callable[[], None]) -> None:
        """Do a write, or what fate makes of it."""
        fate = self.faults.next_writes.popleft() if self.faults.next_writes else "ok"
        if fate == "conflict":
            raise ConflictError(words)
        if fate == "error":
            raise LostError(words)
        do()
        self.writes.append(words)
        if fate == "crash" or len(self.writes) == self.faults.crash_after:
            raise CrashError(words)
        if fate == "timeout":
            raise LostError(words)


def _words(action: Action) -> str:
    match action:
        case Apply(document):
            return f"apply {document['kind']} {document['metadata']['name']}"
        case CreateSecret(document):
            return f"create Secret {document['metadata']['name']}"
        case MoveAlias():
            return f"move {action.alias} of {action.model} to {action.version}"
    return f"{type(action).__name__.lower()} {action.ref.kind} {action.ref.name}"
