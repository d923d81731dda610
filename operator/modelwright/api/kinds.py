"""The four kinds: what they are called, what one may say of them, and what `kubectl get` shows."""

from dataclasses import dataclass

from modelwright.api.common import Status
from modelwright.api.driftpolicy import DriftPolicySpec, DriftPolicyStatus
from modelwright.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modelwright.api.schema import ApiModel
from modelwright.api.trainingjob import TrainingJobSpec, TrainingJobStatus
from modelwright.api.tuningsweep import TuningSweepSpec, TuningSweepStatus


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True)
class Kind:
    """One custom resource."""

    kind: str
    plural: str
    short: str
    spec: type[ApiModel]
    status: type[Status]
    unchangeable: tuple[str, ...]
    """Fields of the spec, by their paths, that stay as they were created."""
    columns: tuple[Column, ...]


_STATUS = Column("Status", '.status.conditions[?(@.type=="Ready")].reason')
_MESSAGE = Column("Message", '.status.conditions[?(@.type=="Ready")].message', wide=True)
_AGE = Column("Age", ".metadata.creationTimestamp", "date")

TRAINING_JOB = Kind(
    "TrainingJob",
    "trainingjobs",
    "tj",
    TrainingJobSpec,
    TrainingJobStatus,
    (
        "framework",
        "workers",
        "ray",
        "recipe",
        "dataset",
        "checkpoint",
        "resume",
        "evaluation",
        "model",
        "storage",
        "managedBy",
    ),
    (
        _STATUS,
        Column("Step", ".status.progress.step", "integer"),
        Column("Of", ".status.progress.totalSteps", "integer"),
        Column("Loss", ".status.progress.loss", "number", wide=True),
        Column("Goodput", ".status.goodput.share", "number", wide=True),
        Column("Workers", ".status.workers", "integer", wide=True),
        Column("Restarts", ".status.restarts", "integer"),
        Column("Model", ".status.model.name"),
        Column("Version", ".status.model.version", "integer"),
        _AGE,
        _MESSAGE,
    ),
)
TUNING_SWEEP = Kind(
    "TuningSweep",
    "tuningsweeps",
    "tsw",
    TuningSweepSpec,
    TuningSweepStatus,
    ("template", "searchSpace", "objective", "algorithm", "seed", "earlyStopping", "workers", "winner"),
    (
        _STATUS,
        Column("Done", ".status.trials.succeeded", "integer"),
        Column("Stopped", ".status.trials.stopped", "integer"),
        Column("Failed", ".status.trials.failed", "integer"),
        Column("Of", ".spec.maxTrials", "integer"),
        Column("Best", ".status.bestTrial.value", "number"),
        Column("Winner", ".status.winnerTrainingJob", wide=True),
        _AGE,
        _MESSAGE,
    ),
)
MODEL_DEPLOYMENT = Kind(
    "ModelDeployment",
    "modeldeployments",
    "mdep",
    ModelDeploymentSpec,
    ModelDeploymentStatus,
    # Servers are told apart by the number of their version: it must not come to mean another model.
    ("model.name", "storage.uri", "storage.endpoint"),
    (
        _STATUS,
        Column("Model", ".spec.model.name"),
        Column("Version", ".status.serving.version", "integer"),
        Column("Ready", ".status.readyReplicas", "integer"),
        Column("Of", ".spec.replicas", "integer"),
        Column("URL", ".status.url"),
        _AGE,
        _MESSAGE,
    ),
)
DRIFT_POLICY = Kind(
    "DriftPolicy",
    "driftpolicies",
    "dpol",
    DriftPolicySpec,
    DriftPolicyStatus,
    (),
    (
        _STATUS,
        Column("Deployment", ".spec.deployment.name"),
        Column("Drifted", ".status.drift.drifted", "boolean"),
        Column("Samples", ".status.drift.samples", "integer", wide=True),
        Column("Last-Retraining", ".status.lastRetrainingTime", "date"),
        Column("Outcome", ".status.incidents[0].outcome"),
        _AGE,
        _MESSAGE,
    ),
)
KINDS = (TRAINING_JOB, TUNING_SWEEP, MODEL_DEPLOYMENT, DRIFT_POLICY)
