"""What a plan may ask for.

`modelwright.kube` carries the actions out, in order; then it writes the status, then it posts the events.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from modelwright.plan.questions import Question, Store

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object in its JSON form."""


@dataclass(frozen=True)
class Ref:
    """One life of one object: the UID keeps a delete from hitting a successor of the same name."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Apply:
    """Server-side apply of an object that the operator wants."""

    object: Object
    user_named: bool = False
    """The name is one that a user chose, and so may be taken: what others made under it is left alone."""


@dataclass(frozen=True)
class Patch:
    """A JSON merge patch, for the one field that changes in an object whose other fields cannot."""

    ref: Ref
    body: Object


@dataclass(frozen=True)
class Delete:
    """Delete with a UID precondition; what it owns goes with it. An object that is gone already is no error."""

    ref: Ref
    propagation: Literal["Background", "Foreground"] = "Background"
    grace_seconds: int | None = None
    """0 removes a pod whose node no longer answers; None leaves it to the object."""


@dataclass(frozen=True)
class CreateSecret:
    """Create a Secret of random tokens; one of that name that exists already is left as it is, and is no error.

    A plan knows no chance, so the hands make the values: `secrets.token_hex(32)` for each key.
    """

    object: Object
    """The Secret with its metadata, without data."""
    keys: tuple[str, ...]


@dataclass(frozen=True)
class MoveAlias:
    """Point an alias at a version, if it still points where the plan saw it (None: nobody holds it)."""

    store: Store
    model: str
    alias: str
    version: int
    expected: int | None
    moved_by: str
    reason: str


Action: TypeAlias = Apply | Patch | Delete | CreateSecret | MoveAlias


@dataclass(frozen=True)
class Event:
    """Something that happened, for `kubectl describe`. Posted once, when it happens."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class ObjectWatch:
    """Another object of ours that this one depends on."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class AliasWatch:
    """An alias that this object follows."""

    uri: str
    model: str
    alias: str


Watch: TypeAlias = ObjectWatch | AliasWatch


@dataclass(frozen=True)
class Ask:
    """The plan must know more before it can decide; it is asked again with the answers."""

    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that one look at an object leads to."""

    status: Object
    """The whole status, in its JSON form; it is written only where it differs from what is there."""
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    wake_after: float | None = None
    """Look again after so many seconds even if nothing changes; None: a change will tell."""
    watches: tuple[Watch, ...] = ()
    """What else, when it changes, makes this object worth another look."""
    postponed: bool = False
    """The alerts that were observed are not dealt with: they wait for the next plan, and so does their sender."""


@dataclass(frozen=True)
class Rejection:
    """The API server or the store refused an action of the last plan, and nothing of it is done."""

    action: str
    """`create Job a-1`."""
    message: str
    unanswered: float | None = None
    """Seconds for which a webhook that has to be asked has not answered, and may at any time; None: waiting alone will
    not help."""
