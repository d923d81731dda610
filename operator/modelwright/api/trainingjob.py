"""TrainingJob: train on one pod or many, survive failures, evaluate, register a version."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from modelwright.api.checkpoint import Checkpoint, Resume, StartedFrom
from modelwright.api.common import EnvVar, Status, Storage
from modelwright.api.elastic import Elastic
from modelwright.api.failurepolicy import FailureClass, FailurePolicy
from modelwright.api.goodput import Goodput
from modelwright.api.hang import Hang
from modelwright.api.podtemplate import GangPods
from modelwright.api.preflight import Preflight
from modelwright.api.processes import ProcessesPerNode
from modelwright.api.ray import Ray
from modelwright.api.recipe import Recipe
from modelwright.api.schema import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    AliasName,
    ApiModel,
    Count,
    Measured,
    Metric,
    ModelName,
    S3Uri,
    Timestamp,
    rule,
    rules,
)

MANAGER = "modelwright.dev/operator"
"""This operator, as `spec.managedBy` names it."""


class Framework(StrEnum):
    """What ties the workers of a gang together."""

    PYTORCH = "PyTorch"
    RAY = "Ray"


class Workers(GangPods):
    """The pods of the gang. They start together, and when one is lost they start again together."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many pods train together."""
    elastic: Elastic | None = None
    """Go on with fewer pods than replicas where there is no room for all, and grow back. Unset: all of them or none."""
    command: Annotated[tuple[Annotated[str, Field(max_length=32768)], ...], Field(max_length=256)] = ()
    """Your own program instead of a recipe. PyTorch runs it under torchrun in every pod; Ray runs it in the head
    pod."""
    args: Annotated[tuple[Annotated[str, Field(max_length=32768)], ...], Field(max_length=256)] = ()
    """Arguments to the command."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=256)] = ()
    """Environment variables of the container."""
    processes_per_node: ProcessesPerNode | None = None
    """How many processes torchrun starts in every pod: a number, or `gpu` for one for each GPU that the pod sees, where
    no resource says how many those are (a DRA claim). Unset: one for each GPU among the limits of the container, those
    of podTemplate included, or 1; `gpu` where it has claims and no limit."""


class DataFormat(StrEnum):
    """How rows are written."""

    CSV = "CSV"
    PARQUET = "Parquet"


class Dataset(ApiModel):
    """Rows on S3. A URI that ends in `/` names every file of the format below it."""

    uri: S3Uri
    """`s3://bucket/path/file.csv`, or `s3://bucket/path/` for every file below."""
    format: DataFormat | None = None
    """CSV or Parquet; told from the file's ending when unset."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share of rows held out for evaluation. A row is held out by a hash of its content and splitSeed, so it stays
    on its side when rows are added, and two models that use the same seed can be compared on rows neither has seen."""
    split_seed: Annotated[int, Field(ge=0, le=2147483647)] = 0
    """The seed of the split; another one holds out other rows."""


class Threshold(ApiModel):
    """A bound on a metric of the held-out rows."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.min) || has(self.max)", "a threshold needs min or max"),
            rule(
                "!has(self.min) || !has(self.max) || self.min <= self.max",
                "a threshold that nothing can meet: min is above max",
            ),
        )
    )
    metric: Metric
    """The metric. Of two classes, precision, recall and f1 are those of the label that sorts last: yes, not no."""
    min: float | None = None
    """The least value that passes."""
    max: float | None = None
    """The greatest value that passes."""


class Evaluation(ApiModel):
    """How good the model must be to be registered."""

    thresholds: Annotated[tuple[Threshold, ...], Field(max_length=16)] = ()
    """Every one must hold, or no version is registered and the job fails."""


class PromotionRule(StrEnum):
    """When the alias moves to the new version."""

    IF_BETTER = "IfBetter"
    ALWAYS = "Always"


class Promotion(ApiModel):
    """A gate in front of an alias: the new version takes it only if it deserves to."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.rule != 'IfBetter' || has(self.metric)", "promotion rule IfBetter needs a metric to compare by")
        )
    )
    alias: AliasName = "champion"
    """The alias that the new version may take."""
    rule: PromotionRule = PromotionRule.IF_BETTER
    """IfBetter: both models are evaluated on the same held-out rows, and the new one must win by minImprovement with
    the stated confidence. The first version of a model takes the alias without a contest."""
    metric: Metric | None = None
    """What IfBetter compares. Of two classes, precision, recall and f1 are those of the label that sorts last: yes, not
    no."""
    min_improvement: Annotated[float, Field(ge=0)] = 0.0
    """By how much the new version must be better, in the metric's own unit."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """One-sided, of a paired bootstrap over the held-out rows: a lucky draw is not an improvement."""


class ModelOutput(ApiModel):
    """Where the trained model goes."""

    name: ModelName
    """The model in the registry of which this job writes the next version."""
    promotion: Promotion | None = None
    """The gate in front of an alias; no alias moves when unset."""


_NOT_TABULAR = "!has(self.recipe) || !has(self.recipe.tabular)"
_METRICS_BY_TASK = (
    f"Classification has {', '.join(CLASSIFICATION_METRICS)}; Regression has {', '.join(REGRESSION_METRICS)}"
)


class TrainingJobSpec(ApiModel):
    """What to train, on which data, how wide, where it is kept, and how good it must be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            # An object that a program wrote may carry `command: []`: that is no command.
            rule(
                "has(self.recipe) != (has(self.workers.command) && size(self.workers.command) > 0)",
                "give either recipe or workers.command",
            ),
            rule(
                "!has(self.recipe) || !has(self.workers.args) || size(self.workers.args) == 0",
                "workers.args belong to workers.command: a recipe takes none",
            ),
            rule("!has(self.recipe) || has(self.dataset)", "a recipe needs a dataset"),
            rule(
                "!has(self.recipe) || has(self.model)",
                "a recipe needs model.name: the model that it writes a version of",
            ),
            rule(
                "has(self.recipe) || !has(self.model)", "model is for recipes: a command registers through its own code"
            ),
            rule(
                f"{_NOT_TABULAR} || self.recipe.tabular.algorithm != 'LightGBM' || self.workers.replicas == 1",
                "LightGBM trains in one pod: set workers.replicas to 1",
            ),
            rule(
                f"{_NOT_TABULAR} || self.recipe.tabular.algorithm != 'LightGBM' || !has(self.workers.processesPerNode)"
                " || self.workers.processesPerNode == 1",
                "LightGBM trains in one process: leave workers.processesPerNode out",
            ),
            rule(
                "self.framework == 'PyTorch' || !has(self.workers.processesPerNode)",
                "workers.processesPerNode is for torchrun: under Ray the program asks for its workers itself",
            ),
            rule(
                "self.framework == 'PyTorch' || has(self.recipe) || !has(self.failurePolicy.processRestarts)"
                " || self.failurePolicy.processRestarts == 0",
                "failurePolicy.processRestarts of a command is for torchrun: "
                "Ray starts its actors again by options of its own",
            ),
            rule(
                "!has(self.workers.elastic) || self.workers.elastic.min < self.workers.replicas",
                "workers.elastic.min must be below workers.replicas, the number that is wished for",
            ),
            rule(
                "self.framework == 'PyTorch' || !has(self.workers.elastic)",
                "workers.elastic is for PyTorch: Ray has its own ways to go on without a node",
            ),
            rule(
                "self.framework == 'Ray' || !has(self.ray)",
                "ray is for framework Ray",
            ),
            rule(
                f"{_NOT_TABULAR} || self.recipe.tabular.algorithm != 'LightGBM' || !has(self.ray)"
                " || !has(self.ray.numWorkers) || self.ray.numWorkers == 1",
                "LightGBM trains in one process: leave ray.numWorkers out",
            ),
            rule(
                f"{_NOT_TABULAR} || !has(self.evaluation.thresholds) || self.evaluation.thresholds.all(threshold,"
                f" (threshold.metric in {list(REGRESSION_METRICS)}) == (self.recipe.tabular.task == 'Regression'))",
                f"evaluation.thresholds has a metric of another task: {_METRICS_BY_TASK}",
            ),
            rule(
                f"{_NOT_TABULAR} || !has(self.model) || !has(self.model.promotion) || !has(self.model.promotion.metric)"
                f" || (self.model.promotion.metric in {list(REGRESSION_METRICS)})"
                " == (self.recipe.tabular.task == 'Regression')",
                f"model.promotion.metric is a metric of another task: {_METRICS_BY_TASK}",
            ),
            rule(
                "!has(self.recipe) || !has(self.checkpoint.keep.best) || self.checkpoint.keep.best.metric == 'loss'",
                "checkpoint.keep.best of a recipe goes by the training loss: its metric is loss",
            ),
            rule(
                f"{_NOT_TABULAR} || !has(self.resume) || self.recipe.tabular.algorithm != 'LightGBM'",
                "resume is for networks and for commands: LightGBM grows its trees from the first",
            ),
        )
    )
    framework: Framework = Framework.PYTORCH
    """What ties the workers together."""
    workers: Workers = Workers()
    """The pods that train."""
    ray: Ray | None = None
    """How many training workers there are and what each takes, under Ray, and whether KubeRay runs them."""
    recipe: Recipe | None = None
    """A built-in recipe, instead of your own command."""
    dataset: Dataset | None = None
    """The rows to learn from."""
    checkpoint: Checkpoint = Checkpoint()
    """When the state of training is saved."""
    resume: Resume | None = None
    """A warm start. A job resumes from its own checkpoints by itself."""
    evaluation: Evaluation = Evaluation()
    """How good the model must be."""
    model: ModelOutput | None = None
    """Which model in the registry gets the new version."""
    storage: Storage = Storage()
    """Where checkpoints and models are kept; the operator's default when unset."""
    failure_policy: FailurePolicy = FailurePolicy()
    """What is done about failures. It may be changed until the job has ended, and ends no attempt that runs; a shorter
    startupTimeoutSeconds counts for pods that start now."""
    hang: Hang = Hang()
    """When training that stands still is given up. A change counts from the next attempt."""
    preflight: Preflight = Preflight()
    """What a recipe looks at before it trains. A change counts from the next attempt."""
    managed_by: (
        Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9/_.~%-]+$")] | None
    ) = None
    """The controller that takes care of the job, as in a batch/v1 Job. Unset, or `modelwright.dev/operator`: this
    operator. With any other value, such as `kueue.x-k8s.io/multikueue`, this operator leaves the job alone and writes
    no status; whoever is named does."""
    suspend: bool = False
    """Stop the pods and keep everything; training goes on from the last checkpoint when this is false again."""
    priority: Annotated[int, Field(ge=-1000000, le=1000000)] = 0
    """Who goes first among those that wait for room in a quota of the operator: the higher, then the older."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """The job fails when it has been running for so long, all attempts together. Time suspended does not count."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None
    """Delete the job so long after it finished. Its model version stays."""


class ReportedMetric(ApiModel):
    """A number that the program of the user reports."""

    name: Annotated[str, Field(max_length=63)]
    """Its name in the program."""
    value: float
    """Its value when it was last reported."""


class Progress(ApiModel):
    """How far training is, as rank 0 last reported it."""

    step: Count
    """Steps made."""
    total_steps: Count | None = None
    """Steps to make."""
    epoch: Count | None = None
    """The current epoch, from 1."""
    epochs: Count | None = None
    """Epochs to make."""
    loss: Measured = None
    """The training loss of the last step."""
    metrics: (
        Annotated[
            tuple[ReportedMetric, ...],
            Field(
                max_length=16,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
        ]
        | None
    ) = None
    """What a program of the user's own reports beside its loss."""
    seconds_per_step: Measured = None
    """What a step took on the average of the attempt, saving included."""
    eta_seconds: Count | None = None
    """The time that is left, at the present pace."""
    last_step_time: Timestamp | None = None
    """When the operator heard of a further step."""


class CheckpointStatus(ApiModel):
    """The last complete checkpoint."""

    step: Count
    """The step that it holds."""
    uri: str
    """Where it lies."""
    time: Timestamp
    """When it was complete."""


class Attempt(ApiModel):
    """One life of the gang."""

    number: int
    """From 1."""
    start_time: Timestamp
    """When its pods were asked for."""
    workers: Count | None = None
    """How many workers it had."""
    end_time: Timestamp | None = None
    """When it ended."""
    reason: str | None = None
    """Why it ended: Completed, WorkerFailed, OutOfMemory, Evicted, ..."""
    failure_class: FailureClass | None = None
    """The class of the failure that ended it, whose budget the next attempt uses."""
    message: str | None = None
    """What happened, in a sentence."""
    final: bool | None = None
    """No restart helps, or a rule says that there shall be none."""
    node: str | None = None
    """The node of the pod that failed."""
    resumed_from_step: Count | None = None
    """The step of the checkpoint that it started from; unset: from the beginning."""
    last_step: Count | None = None
    """The last step that it is known to have made."""
    lost_steps: Count | None = None
    """Steps that the next attempt had to make again."""
    process_restarts: Count | None = None
    """How often its processes started again in their pods; unset: never, as far as they have said."""
    logs: str | None = None
    """Where the end of each worker's log is kept, below `logs/`, and below `stacks/` where each process stood in a
    hang. Unset with a workers.image of your own, whose logs are not kept."""


class RegisteredVersion(ApiModel):
    """The version that this job wrote."""

    name: ModelName
    """The model."""
    version: Count
    """Its version."""
    uri: str
    """Where its files lie."""


class MetricValue(ApiModel):
    """One evaluation result on the held-out rows."""

    name: Metric
    """The metric."""
    value: float
    """Its value."""


class PromotionOutcome(StrEnum):
    """What became of the gate."""

    PROMOTED = "Promoted"
    NOT_BETTER = "NotBetter"
    SUPERSEDED = "Superseded"
    """The alias moved while this job compared itself with its former holder."""


class PromotionStatus(ApiModel):
    """What the gate saw and decided."""

    alias: AliasName
    """The alias."""
    outcome: PromotionOutcome
    """What became of it."""
    message: str
    """Why, in a sentence."""
    candidate: float | None = None
    """The metric of the new version."""
    incumbent: float | None = None
    """The metric of the version that held the alias, on the same rows."""
    incumbent_version: int | None = None
    """The version that held the alias."""
    improvement_lower_bound: float | None = None
    """The lower confidence bound of the improvement."""


class FailureCount(ApiModel):
    """How often a class of failure ended an attempt."""

    failure_class: FailureClass
    """The class."""
    count: Count
    """How often."""


class TrainingJobStatus(Status):
    """What has become of the job."""

    start_time: Timestamp | None = None
    """When the first attempt started."""
    completion_time: Timestamp | None = None
    """When the job succeeded or failed."""
    active_seconds: int | None = None
    """Time that attempts of earlier resumptions ran; it counts against activeDeadlineSeconds."""
    active_since: Timestamp | None = None
    """When the current attempt, or the current resumption, started."""
    attempt: int | None = None
    """The number of the current or last attempt, from 1."""
    restarts: int | None = None
    """New attempts after the first."""
    workers: Count | None = None
    """How many workers the gang has, or gets with the next attempt where it has just Shrunk or Grown. The number that
    is wished for is spec.workers.replicas."""
    attempts: Annotated[tuple[Attempt, ...], Field(max_length=10)] = ()
    """The newest ten."""
    failures: Annotated[
        tuple[FailureCount, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["failureClass"]},
        ),
    ] = ()
    """How often each class of failure ended an attempt; suspensions and restarts of the operator do not forget it."""
    unconfirmed_attempt: Count | None = None
    """The newest attempt of which a pod was given up, and its node could not confirm the end. It may live on, so later
    attempts share no version number with it."""
    excluded_nodes: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    """The nodes that failurePolicy.rules keep later attempts away from, the newest last."""
    progress: Progress | None = None
    """How far training is."""
    checkpoint: CheckpointStatus | None = None
    """The last complete checkpoint."""
    started_from: StartedFrom | None = None
    """The checkpoint of another job whose weights this one starts with, where resume.from.trainingJob names one."""
    metrics: Annotated[
        tuple[MetricValue, ...],
        Field(
            max_length=32, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = ()
    """Results on the held-out rows."""
    model: RegisteredVersion | None = None
    """The version that this job wrote."""
    promotion: PromotionStatus | None = None
    """What became of the gate."""
    goodput: Goodput | None = None
    """What the job's time was spent on."""
