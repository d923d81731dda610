"""TuningSweep: search hyperparameters and algorithms, and hand over the winner."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from modelwright.api.common import PodSettings, Status
from modelwright.api.schema import ApiModel, Metric, Timestamp, rule, rules
from modelwright.api.trainingjob import TrainingJobSpec


class FloatRange(ApiModel):
    """Real numbers from min to max."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.min < self.max", "an empty range: min must be below max"),
            rule("!has(self.log) || !self.log || self.min > 0.0", "a log scale needs min above 0"),
        )
    )
    min: float
    max: float
    log: bool | None = None
    """Search on a logarithmic scale."""


class IntRange(ApiModel):
    """Whole numbers from min to max, both included."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.min < self.max", "an empty range: min must be below max"),
            rule("!has(self.log) || !self.log || self.min > 0", "a log scale needs min above 0"),
            rule("!(has(self.log) && self.log && has(self.step))", "give log or step, not both"),
        )
    )
    min: int
    max: int
    step: Annotated[int, Field(ge=1)] | None = None
    log: bool | None = None


class Choice(ApiModel):
    """One of a list of words."""

    values: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=253)], ...], Field(min_length=1, max_length=64)
    ]


class SearchParameter(ApiModel):
    """One dimension of the search space."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.float), has(self.int), has(self.choice)].filter(x, x).size() == 1",
                "a search parameter takes exactly one of float, int and choice",
            )
        )
    )
    name: Annotated[str, Field(pattern=r"^[a-z][a-zA-Z]*(\.[a-z][a-zA-Z]*)?$", max_length=128)]
    """A field of the recipe: `algorithm`, `neuralNetwork.learningRate`, `lightGBM.numLeaves`."""
    float_: FloatRange | None = Field(default=None, alias="float")
    int_: IntRange | None = Field(default=None, alias="int")
    choice: Choice | None = None


class Goal(StrEnum):
    """Which way is better."""

    MAXIMIZE = "Maximize"
    MINIMIZE = "Minimize"


class Objective(ApiModel):
    """What the sweep looks for, on held-out rows."""

    metric: Metric
    goal: Goal | None = None
    """Told from the metric when unset."""


class SearchAlgorithm(StrEnum):
    """How the next trial is chosen."""

    TPE = "TPE"
    RANDOM = "Random"


class Asha(ApiModel):
    """Asynchronous successive halving (Li et al. 2020): trials behind the best at a rung stop early."""

    grace_period: Annotated[int, Field(ge=1, le=100000)] = 1
    """Epochs that every trial gets."""
    reduction_factor: Annotated[int, Field(ge=2, le=16)] = 3


class EarlyStopping(ApiModel):
    """When a trial that will not win is stopped."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("has(self.asha)", "earlyStopping takes exactly one method: asha"))
    )
    asha: Asha | None = None


class Winner(ApiModel):
    """What happens with the best parameters."""

    train: bool = False
    """Create a TrainingJob from the template with the best parameters."""


class SweepWorkers(PodSettings):
    """The pods of the sweep: the first is the Ray head and runs the driver."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 1


class TuningSweepSpec(ApiModel):
    """A TrainingJob template, a search space, an objective and a budget."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.template.recipe)", "a sweep searches the fields of a recipe: template.recipe is required"),
        )
    )
    template: TrainingJobSpec
    """The spec of the TrainingJob to tune; also of the winner's."""
    search_space: Annotated[
        tuple[SearchParameter, ...],
        Field(
            min_length=1,
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    objective: Objective
    algorithm: SearchAlgorithm = SearchAlgorithm.TPE
    seed: Annotated[int, Field(ge=0, le=2147483647)] = 0
    early_stopping: EarlyStopping | None = None
    max_trials: Annotated[int, Field(ge=1, le=10000)] = 20
    parallelism: Annotated[int, Field(ge=1, le=1000)] = 2
    """Trials at the same time."""
    workers: SweepWorkers = SweepWorkers()
    winner: Winner = Winner()
    max_restarts: Annotated[int, Field(ge=0, le=100)] = 3
    """New attempts after the driver or a pod is lost; finished trials are kept."""
    suspend: bool = False
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None


class TrialCounts(ApiModel):
    """How many trials are where."""

    running: int = 0
    succeeded: int = 0
    stopped: int = 0
    """Ended by early stopping; their results count."""
    failed: int = 0


class TrialState(StrEnum):
    """How a trial stands."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    STOPPED = "Stopped"
    FAILED = "Failed"


class ParameterValue(ApiModel):
    """A value that a trial was given."""

    name: str
    value: str


class Trial(ApiModel):
    """One point of the search space and what came of it."""

    number: int
    state: TrialState
    value: float | None = None
    """The objective."""
    parameters: Annotated[tuple[ParameterValue, ...], Field(max_length=64)] = ()
    message: str | None = None


class TuningSweepStatus(Status):
    """What the search has found."""

    start_time: Timestamp | None = None
    completion_time: Timestamp | None = None
    active_seconds: int | None = None
    active_since: Timestamp | None = None
    attempt: int | None = None
    restarts: int | None = None
    trials: TrialCounts | None = None
    best_trial: Trial | None = None
    history: Annotated[tuple[Trial, ...], Field(max_length=10)] = ()
    """The newest ten trials that ended; all of them are in `resultsUri`."""
    results_uri: str | None = None
    winner_training_job: str | None = None
