"""Conditions: few, uniform, and summed up in one place, as kstatus wants them.

`Ready` is always there. `Reconciling` and `Stalled` are there only while they are True. `Succeeded` is of the kinds
that end; `Suspended` is there only while it is True.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from modelwright.api.common import Condition
from modelwright.plan.actions import Object
from modelwright.plan.times import stamp


class Reason(StrEnum):
    """Every reason of `Ready`, and so every word in a STATUS column."""

    # on the way
    QUEUED = "Queued"
    STARTING = "Starting"
    TRAINING = "Training"
    EVALUATING = "Evaluating"
    RESTARTING = "Restarting"
    SHRUNK = "Shrunk"
    GROWN = "Grown"
    SEARCHING = "Searching"
    DEPLOYING = "Deploying"
    ROLLING_OUT = "RollingOut"
    # waiting for somebody
    SUSPENDED = "Suspended"
    QUOTA_TOO_SMALL = "QuotaTooSmall"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid"
    SIDECAR_RUNNING = "SidecarRunning"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    KUBERAY_NOT_INSTALLED = "KubeRayNotInstalled"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    API_UNAVAILABLE = "ApiUnavailable"
    WEBHOOK_UNAVAILABLE = "WebhookUnavailable"
    STORAGE_NOT_CONFIGURED = "StorageNotConfigured"
    CHILD_REJECTED = "ChildRejected"
    PODS_REJECTED = "PodsRejected"
    MODEL_NOT_FOUND = "ModelNotFound"
    DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"
    RESUME_SOURCE_NOT_FOUND = "ResumeSourceNotFound"
    RESUME_SOURCE_NOT_ENDED = "ResumeSourceNotEnded"
    NO_DATA = "NoData"
    # the end, or as good as it gets
    SUCCEEDED = "Succeeded"
    SERVING = "Serving"
    WATCHING = "Watching"
    DRIFTED = "Drifted"
    RETRAINING = "Retraining"
    # failed
    INVALID_SPEC = "InvalidSpec"
    FAILED = "Failed"
    RESTARTS_EXHAUSTED = "RestartsExhausted"
    FAILURE_REPEATED = "FailureRepeated"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    THRESHOLD_NOT_MET = "ThresholdNotMet"
    DATA_INVALID = "DataInvalid"
    DATASET_NOT_FOUND = "DatasetNotFound"
    WARM_START_IMPOSSIBLE = "WarmStartImpossible"
    ROLLOUT_FAILED = "RolloutFailed"
    NO_TRIAL_SUCCEEDED = "NoTrialSucceeded"


class State(StrEnum):
    """Where an object stands, in the words of kstatus."""

    READY = "Ready"
    """As wanted, and it will stay so by itself."""
    RECONCILING = "Reconciling"
    """On the way."""
    STALLED = "Stalled"
    """It will not get there without help."""
    SUSPENDED = "Suspended"
    """Told to wait."""


@dataclass(frozen=True)
class Verdict:
    """One sentence about an object: its state, and why."""

    state: State
    reason: Reason | str
    message: str


def conditions(
    verdict: Verdict,
    *,
    generation: int | None,
    before: Iterable[Condition],
    now: datetime,
    succeeded: bool = False,
    ended: bool = True,
    extra: Iterable[tuple[str, bool, str, str]] = (),
) -> tuple[Condition, ...]:
    """Return the conditions that say the verdict.

    `succeeded` adds the Succeeded condition of kinds that end; with `ended` False it stays Unknown even where the
    object is stalled, because it goes on when somebody helps. `extra` is (type, status, reason, message) of the kind's
    own conditions. A transition time moves only when the status of its condition does.
    """
    reason = str(verdict.reason)
    wanted: list[tuple[str, str, str, str]] = [
        ("Ready", "True" if verdict.state is State.READY else "False", reason, verdict.message)
    ]
    if verdict.state is State.RECONCILING:
        wanted.append(("Reconciling", "True", reason, verdict.message))
    if verdict.state is State.STALLED:
        wanted.append(("Stalled", "True", reason, verdict.message))
    if verdict.state is State.SUSPENDED:
        wanted.append(("Suspended", "True", reason, verdict.message))
    if succeeded:
        outcome = {State.READY: "True", State.STALLED: "False"}.get(verdict.state, "Unknown") if ended else "Unknown"
        wanted.append(("Succeeded", outcome, reason, verdict.message))
    wanted.extend((kind, "True" if status else "False", why, message) for kind, status, why, message in extra)

    known = {condition.type: condition for condition in before}
    return tuple(
        Condition(
            type=kind,
            status=status,
            reason=why,
            message=message,
            observed_generation=generation,
            last_transition_time=_transition(known.get(kind), status, now),
        )
        for kind, status, why, message in wanted
    )


def find(target: Object, kind: str) -> Object | None:
    """Return a condition of an object in its JSON form; None where it has none of that type."""
    listed = (target.get("status") or {}).get("conditions") or ()
    return next((entry for entry in listed if entry.get("type") == kind), None)


def is_suspended(known: Iterable[Condition]) -> bool:
    """Tell whether conditions say that an object is suspended, for whichever reason."""
    return any(entry.type == State.SUSPENDED for entry in known)


def has_ended(target: Object) -> bool:
    """Tell whether a TrainingJob or a TuningSweep has succeeded or failed, and will not change any more."""
    found = find(target, "Succeeded")
    return found is not None and found.get("status") in ("True", "False")


def _transition(before: Condition | None, status: str, now: datetime) -> str:
    if before is not None and before.status == status:
        return before.last_transition_time
    return stamp(now)
