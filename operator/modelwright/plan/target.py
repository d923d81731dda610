"""Which version a ModelDeployment wants: named outright, or by an alias that anybody may move."""

from dataclasses import dataclass

from pydantic import ValidationError

from modelwright.api.artifacts import Alias
from modelwright.api.layout import alias_key, manifest_key
from modelwright.api.modeldeployment import ModelDeploymentSpec
from modelwright.plan.actions import Ask
from modelwright.plan.conditions import Reason, State, Verdict
from modelwright.plan.observed import Observed
from modelwright.plan.questions import ReadDocument, SecretExists, Store, Unavailable
from modelwright.plan.settings import Settings

LOOK_AGAIN = 60.0
"""Seconds; aliases are also moved from outside, and nothing tells us."""


@dataclass(frozen=True)
class Target:
    """The version that is wanted, as far as it is known."""

    version: int | None = None
    """None: not known (any more)."""
    store: Store | None = None
    """The registry; None: nobody has said where it is."""
    trouble: Verdict | None = None
    """Why the version is not known, or is known but cannot be deployed."""
    deployable: bool = False
    """Whether the version exists and its servers may be started."""


@dataclass(frozen=True)
class Missing:
    """The registry has no such model, version or alias."""

    version: int | None
    """What was looked for, if it is known."""
    message: str


def resolve(
    observed: Observed, spec: ModelDeploymentSpec, settings: Settings, last: int | None, running: set[int]
) -> Target | Ask:
    """Return the wanted version.

    `last` is the version that was wanted at the last visit: it stands while the store cannot be read. `running` are the
    versions that have servers: that they exist is not asked again.
    """
    storage, secret = settings.resolve(spec.storage), settings.secret_name(spec.storage)
    if storage is None:
        message = "no storage: set spec.storage.uri, or the operator's default storage"
        return Target(last, None, Verdict(State.STALLED, Reason.STORAGE_NOT_CONFIGURED, message), last in running)
    store = Store(storage, observed.object["metadata"]["namespace"], secret)
    found = _version(observed, spec, store)
    if isinstance(found, int) and found not in running:
        found = _complete(observed, spec, store, found)
    if isinstance(found, Ask):
        return found
    if isinstance(found, int):
        return Target(found, store, deployable=True)
    if isinstance(found, Missing):
        return Target(found.version, store, Verdict(State.STALLED, Reason.MODEL_NOT_FOUND, found.message))
    trouble = unavailable(observed, store, found)
    if isinstance(trouble, Ask):
        return trouble
    # What was wanted at the last visit still is, as far as anybody knows.
    return Target(last, store, trouble, deployable=last in running)


def unavailable(observed: Observed, store: Store, answer: Unavailable) -> Verdict | Ask:
    """Return why the store cannot be read; only now is it worth a question whether its Secret is there."""
    if store.secret_name is not None:
        question = SecretExists(store.namespace, store.secret_name)
        if question not in observed.answers:
            return Ask((question,))
        if observed.answers[question] is False:
            message = f"Secret {store.secret_name} does not exist in this namespace: create it, or correct its name"
            return Verdict(State.STALLED, Reason.SECRET_NOT_FOUND, message)
    return Verdict(State.RECONCILING, Reason.STORAGE_UNAVAILABLE, answer.message)


def _version(observed: Observed, spec: ModelDeploymentSpec, store: Store) -> int | Missing | Unavailable | Ask:
    model = spec.model
    if model.version is not None:
        return model.version
    alias = model.alias or ""
    question = ReadDocument(store, alias_key(model.name, alias))
    if question not in observed.answers:
        return Ask((question,))
    answer = observed.answers[question]
    if isinstance(answer, Unavailable):
        return answer
    if answer is None:
        return Missing(None, f"no version of model {model.name} holds the alias {alias}: train one, or move the alias")
    try:
        return Alias.model_validate(answer).version
    except ValidationError:
        return Missing(None, f"the alias {alias} of model {model.name} cannot be read: move it again")


def _complete(
    observed: Observed, spec: ModelDeploymentSpec, store: Store, version: int
) -> int | Missing | Unavailable | Ask:
    question = ReadDocument(store, manifest_key(spec.model.name, version))
    if question not in observed.answers:
        return Ask((question,))
    answer = observed.answers[question]
    if isinstance(answer, Unavailable):
        return answer
    if answer is None:
        return Missing(version, f"there is no version {version} of model {spec.model.name} in {store.storage.uri}")
    return version
