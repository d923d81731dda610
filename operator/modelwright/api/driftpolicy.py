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
    """What may start a retraining: Alert what `alerts` matches, Drift what `test` finds."""
    cooldown_seconds: Annotated[int, Field(ge=0, le=31536000)] = 3600
    """No retraining starts so soon after the last one started."""
    max_per_day: Annotated[int, Field(ge=1, le=1000)] = 4
    """So many retrainings may start within 24 hours."""


class DriftPolicySpec(ApiModel):
    """Which deployment to watch, what counts as a change, and what to do about it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.test) || has(self.alerts)", "a policy needs test, alerts or both"),
            rule(
                "!has(self.retraining) || (has(self.test) && 'Drift' in self.retraining.triggers)"
                " || (has(self.alerts) && 'Alert' in self.retraining.triggers)",
                "nothing can start the retraining: the trigger Drift needs test, and Alert needs alerts",
            ),
        )
    )
    deployment: LocalReference
    """The ModelDeployment to watch, in this namespace."""
    test: DriftTest | None = None
    """The built-in drift test; none is made when unset."""
    alerts: AlertMatcher | None = None
    """Which alerts count; none does when unset."""
    retraining: Retraining | None = None
    """Only watch and report when unset."""
    suspend: bool = False
    """Make no test and start no retraining; what was seen stays in status."""


class ColumnDrift(ApiModel):
    """How far one column has moved."""

    column: str
    """The column's name; `prediction` is the model's answer."""
    psi: float
    """The population stability index."""
    critical: float
    """Above this the shift is too large for chance at the stated confidence."""
    drifted: bool
    """Whether psi is above critical and above minPsi."""


class DriftResult(ApiModel):
    """One test."""

    time: Timestamp
    """When the test was made."""
    version: int
    """The model version whose traffic was tested."""
    samples: int
    """Rows in the window."""
    drifted: bool
    """Whether drift is called: enough tests in a row have found a column that moved."""
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
    SUPERSEDED = "Superseded"
    """The alias moved while the new version was compared with its former holder."""
    REGISTERED = "Registered"
    """A version was registered, and the template asks for no promotion."""
    FAILED = "Failed"
    COOLDOWN = "Cooldown"
    LIMIT_REACHED = "LimitReached"
    NOT_TRIGGERED = "NotTriggered"


class Incident(ApiModel):
    """One reason to retrain, and what came of it."""

    id: str
    """A hash of what identifies it; part of the job's name, so that one incident has one job."""
    trigger: Trigger
    """What started it."""
    name: str
    """The alert's name, or the columns that moved."""
    time: Timestamp
    """When it was first seen."""
    training_job: str | None = None
    """The TrainingJob that was created for it."""
    outcome: IncidentOutcome
    """What came of it."""
    message: str = ""
    """Why, in a sentence."""
    version: int | None = None
    """The model version that the retraining wrote."""


class DriftPolicyStatus(Status):
    """What the policy has seen and done."""

    drift: DriftResult | None = None
    """The last drift test."""
    incidents: Annotated[
        tuple[Incident, ...],
        Field(max_length=20, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]}),
    ] = ()
    """The newest twenty, newest first."""
    retrained: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=1000)] = ()
    """Ids of the newest thousand incidents that got a TrainingJob, oldest first. None gets another, also when it has
    gone from `incidents`."""
    last_retraining_time: Timestamp | None = None
    """When the last retraining started."""
    retraining_times: Annotated[tuple[Timestamp, ...], Field(max_length=1000)] = ()
    """Starts within the last day; they count against maxPerDay even when the jobs are gone."""
