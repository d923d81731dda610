"""DriftPolicy: watch live data, take alerts, retrain, and let the better model take over."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from modelwright.api.common import LocalReference, Status
from modelwright.api.schema import ApiModel, Timestamp, rule, rules
from modelwright.api.trainingjob import TrainingJobSpec


class DriftTest(ApiModel):
    """A population stability index of every feature and of the predictions against the model's reference."""

    window_seconds: Annotated[int, Field(ge=10, le=31536000)] = 3600
    """The newest data that is compared; daily cycles need a day."""
    interval_seconds: Annotated[int, Field(ge=5, le=86400)] = 300
    """How often the test is made."""
    min_samples: Annotated[int, Field(ge=50, le=100000000)] = 500
    """With fewer rows in the window no verdict is given."""
    min_psi: Annotated[float, Field(ge=0)] = 0.1
    """Smaller shifts never count, however certain they are."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    """Of the critical value, over all columns together (Bonferroni)."""
    consecutive: Annotated[int, Field(ge=1, le=100)] = 2
    """So many tests in a row must fail before it is called drift."""


class AlertMatcher(ApiModel):
    """Which alerts of Alertmanager concern this policy."""

    match_labels: Annotated[dict[str, Annotated[str, Field(max_length=1024)]], Field(min_length=1, max_length=32)]
    """Every label must be equal."""


class Trigger(StrEnum):
    """What may start a retraining."""

    ALERT = "Alert"
    DRIFT = "Drift"


class Retraining(ApiModel):
    """The TrainingJob that is created, and how often that may happen."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.template.model)", "retraining needs template.model: the model to improve")
        )
    )
    template: TrainingJobSpec
    """Its model.promotion is the gate that the new version must pass."""
    triggers: Annotated[tuple[Trigger, ...], Field(min_length=1, max_length=2)] = (Trigger.ALERT, Trigger.DRIFT)
    cooldown_seconds: Annotated[int, Field(ge=0, le=31536000)] = 3600
    """No retraining starts so soon after the last one started."""
    max_per_day: Annotated[int, Field(ge=1, le=1000)] = 4


class DriftPolicySpec(ApiModel):
    """Which deployment to watch, what counts as a change, and what to do about it."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("has(self.test) || has(self.alerts)", "a policy needs test, alerts or both"))
    )
    deployment: LocalReference
    """The ModelDeployment to watch, in this namespace."""
    test: DriftTest | None = None
    alerts: AlertMatcher | None = None
    retraining: Retraining | None = None
    """Only watch and report when unset."""
    suspend: bool = False


class ColumnDrift(ApiModel):
    """How far one column has moved."""

    column: str
    psi: float
    critical: float
    """Above this the shift is too large for chance at the stated confidence."""
    drifted: bool


class DriftResult(ApiModel):
    """One test."""

    time: Timestamp
    version: int
    """The model version whose traffic was tested."""
    samples: int
    drifted: bool
    consecutive: int = 0
    """How many tests in a row have failed, this one included."""
    since: Timestamp | None = None
    """When this drift was first called."""
    columns: Annotated[tuple[ColumnDrift, ...], Field(max_length=20)] = ()
    """The twenty that moved most."""


class IncidentOutcome(StrEnum):
    """What a trigger led to."""

    RETRAINING = "Retraining"
    PROMOTED = "Promoted"
    NOT_BETTER = "NotBetter"
    FAILED = "Failed"
    COOLDOWN = "Cooldown"
    LIMIT_REACHED = "LimitReached"
    NOT_TRIGGERED = "NotTriggered"


class Incident(ApiModel):
    """One reason to retrain, and what came of it."""

    id: str
    """A hash of what identifies it; part of the job's name, so that one incident has one job."""
    trigger: Trigger
    name: str
    """The alert's name, or the columns that moved."""
    time: Timestamp
    training_job: str | None = None
    outcome: IncidentOutcome
    message: str = ""
    version: int | None = None


class DriftPolicyStatus(Status):
    """What the policy has seen and done."""

    drift: DriftResult | None = None
    incidents: Annotated[
        tuple[Incident, ...],
        Field(max_length=20, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]}),
    ] = ()
    """The newest twenty, newest first."""
    last_retraining_time: Timestamp | None = None
    retraining_times: Annotated[tuple[Timestamp, ...], Field(max_length=1000)] = ()
    """Starts within the last day; they count against maxPerDay even when the jobs are gone."""
