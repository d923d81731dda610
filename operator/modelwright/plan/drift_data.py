"""What a drift test must know before it can be made: which version serves, its training data, what servers counted."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from modelwright.api.artifacts import Reference
from modelwright.api.driftpolicy import DriftPolicySpec, DriftResult, DriftTest
from modelwright.api.layout import monitoring_prefix, version_prefix
from modelwright.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus, ServedVersion
from modelwright.plan import monitoring
from modelwright.plan.actions import Ask, Object
from modelwright.plan.conditions import Reason, State, Verdict
from modelwright.plan.observed import Observed
from modelwright.plan.questions import ReadDocument, ReadDocuments, ReadObject, Store, Unavailable
from modelwright.plan.settings import Settings
from modelwright.plan.target import unavailable
from modelwright.plan.times import seconds_between

MOST_WINDOWS = 4500
"""Of all servers together in one test: a day of the default windows from three servers. The store reads 5,000."""


@dataclass(frozen=True)
class Look:
    """What is known of the live data now."""

    result: DriftResult | None = None
    """The last result for the version that serves."""
    fresh: bool = False
    """The result was made just now."""
    trouble: Verdict | None = None
    """Why the policy cannot do its work."""
    next_in: float | None = None
    """Seconds to the next test; None: a change of the deployment will tell."""


def deployment_question(policy: Object, spec: DriftPolicySpec) -> ReadObject:
    """Return the question for the deployment that a policy watches."""
    return ReadObject("ModelDeployment", policy["metadata"]["namespace"], spec.deployment.name)


def look(
    policy: Object,
    spec: DriftPolicySpec,
    last: DriftResult | None,
    observed: Observed,
    settings: Settings,
    now: datetime,
) -> Look | Ask:
    """Make the drift test if one is due; otherwise say what the last one said, at the cost of no read from S3.

    `observed` only gives the answers; `policy` is the object that counts, with `last` from its status.
    """
    question = deployment_question(policy, spec)
    if question not in observed.answers:
        return Ask((question,))
    deployment = observed.answers[question]
    if not isinstance(deployment, dict):
        return Look(last, trouble=_not_found(spec))
    if spec.test is None:
        return Look()
    try:
        wanted = ModelDeploymentSpec.model_validate(deployment["spec"])
        serving = ModelDeploymentStatus.model_validate(deployment.get("status", {})).serving
    except ValidationError:
        return Look(trouble=_no_data(f"ModelDeployment {spec.deployment.name} cannot be read: see its own status"))
    trouble = _blind(spec.deployment.name, spec.test, wanted, serving)
    if trouble is not None or serving is None:
        return Look(last, trouble=trouble)

    last = last if last and last.version == serving.version else None
    due = _due_in(spec.test, last, now)
    if last is not None and due > 0:
        return Look(last, trouble=_silent(last, spec.deployment.name), next_in=due)
    storage = settings.resolve(wanted.storage)
    if storage is None:
        message = "no storage: set spec.storage.uri of the ModelDeployment, or the operator's default storage"
        return Look(last, trouble=Verdict(State.STALLED, Reason.STORAGE_NOT_CONFIGURED, message))
    store = Store(storage, policy["metadata"]["namespace"], settings.secret_name(wanted.storage))
    return _test(policy, spec, spec.test, serving, store, last, observed, now)


def _test(
    policy: Object,
    spec: DriftPolicySpec,
    test: DriftTest,
    serving: ServedVersion,
    store: Store,
    last: DriftResult | None,
    observed: Observed,
    now: datetime,
) -> Look | Ask:
    windows_below = monitoring_prefix(policy["metadata"]["namespace"], spec.deployment.name, serving.version)
    about_reference = ReadDocument(store, f"{version_prefix(serving.name, serving.version)}reference.json")
    about_windows = _about_windows(store, windows_below, int(now.timestamp()) - test.window_seconds, observed)
    missing = tuple(question for question in (about_reference, about_windows) if question not in observed.answers)
    if missing:
        return Ask(missing)

    answered = (observed.answers[about_reference], observed.answers[about_windows])
    for answer in answered:
        if isinstance(answer, Unavailable):
            trouble = unavailable(observed, store, answer)
            return trouble if isinstance(trouble, Ask) else Look(last, trouble=trouble, next_in=test.interval_seconds)
    try:
        reference = Reference.model_validate(answered[0])
    except ValidationError:
        message = f"version {serving.version} of {serving.name} has no readable reference.json to compare with"
        return Look(last, trouble=Verdict(State.STALLED, Reason.NO_DATA, message), next_in=test.interval_seconds)
    documents = answered[1] if isinstance(answered[1], tuple) else ()
    windows = [document for document in documents if isinstance(document, dict)]
    sample = monitoring.merge(reference, windows, serving.name, serving.version)
    result = monitoring.judge(test, sample, serving.version, last, now)
    return Look(result, fresh=True, trouble=_silent(result, spec.deployment.name), next_in=test.interval_seconds)


def _about_windows(store: Store, below: str, oldest: int, observed: Observed) -> ReadDocuments:
    """Return the question for the newest windows. `oldest` is in Unix seconds, as in their keys."""
    for question in observed.answers:
        # Time goes on while many windows are read; what was asked a few seconds ago is still the question.
        if isinstance(question, ReadDocuments) and (question.store, question.prefix) == (store, below):
            return question
    return ReadDocuments(store, below, after=f"{below}{oldest:012d}/")


def _due_in(test: DriftTest, last: DriftResult | None, now: datetime) -> float:
    if last is None:
        return 0.0
    # A clock that was set back must not put the next test off for long.
    return min(test.interval_seconds - seconds_between(last.time, now), float(test.interval_seconds))


def _blind(
    deployment: str, test: DriftTest, wanted: ModelDeploymentSpec, serving: ServedVersion | None
) -> Verdict | None:
    """Return why there can be no data at all, whatever one waits for."""
    every = wanted.monitoring.window_seconds
    if not wanted.monitoring.enabled:
        message = f"ModelDeployment {deployment} counts nothing: set its spec.monitoring.enabled to true"
        return Verdict(State.STALLED, Reason.NO_DATA, message)
    if every > test.window_seconds:
        message = f"servers write every {every} s, the test looks back only {test.window_seconds} s"
        return Verdict(State.STALLED, Reason.NO_DATA, f"{message}: raise spec.test.windowSeconds")
    reads = test.window_seconds * wanted.replicas // every
    if reads > MOST_WINDOWS:
        message = f"a test would read {reads} windows of the servers, more than {MOST_WINDOWS}"
        hint = f"raise spec.monitoring.windowSeconds of ModelDeployment {deployment}, or lower spec.test.windowSeconds"
        return Verdict(State.STALLED, Reason.NO_DATA, f"{message}: {hint}")
    if serving is None:
        return _no_data(f"ModelDeployment {deployment} serves no version yet")
    return None


def _silent(result: DriftResult, deployment: str) -> Verdict | None:
    if result.samples:
        return None
    return _no_data(
        f"version {result.version} of ModelDeployment {deployment} has answered no request in the test's window"
    )


def _no_data(message: str) -> Verdict:
    return Verdict(State.RECONCILING, Reason.NO_DATA, message)


def _not_found(spec: DriftPolicySpec) -> Verdict:
    message = (
        f"there is no ModelDeployment {spec.deployment.name} in this namespace: create it, or correct spec.deployment"
    )
    return Verdict(State.RECONCILING, Reason.DEPLOYMENT_NOT_FOUND, message)
