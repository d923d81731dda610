"""TuningSweep: search hyperparameters and algorithms, and hand over the winner."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from modelwright.api.common import Status
from modelwright.api.podtemplate import GangPods
from modelwright.api.schema import (
    LOWER_IS_BETTER,
    REGRESSION_METRICS,
    ApiModel,
    Count,
    Measured,
    Metric,
    Timestamp,
    rule,
    rules,
)
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
    """The lower bound, included."""
    max: float
    """The upper bound, included."""
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
    """The lower bound, included."""
    max: int
    """The upper bound, included."""
    step: Annotated[int, Field(ge=1)] | None = None
    """The distance between two values."""
    log: bool | None = None
    """Search on a logarithmic scale."""


class Choice(ApiModel):
    """One of a list of words."""

    values: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=253)], ...],
        Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ]
    """The words to choose from."""


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
    """A range of real numbers."""
    int_: IntRange | None = Field(default=None, alias="int")
    """A range of whole numbers."""
    choice: Choice | None = None
    """A list of words."""


class Goal(StrEnum):
    """Which way is better."""

    MAXIMIZE = "Maximize"
    MINIMIZE = "Minimize"


class Objective(ApiModel):
    """What the sweep looks for, on rows that the trials do not learn from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"!has(self.goal) || (self.goal == 'Minimize') == (self.metric in {sorted(LOWER_IS_BETTER)})",
                f"goal contradicts metric: {', '.join(sorted(LOWER_IS_BETTER))} are minimized, all others maximized;"
                " leave goal out",
            )
        )
    )
    metric: Metric
    """The metric. Of two classes, precision, recall and f1 are those of the label that sorts last: yes, not no."""
    goal: Goal | None = None
    """Told from the metric when unset; it may only say the same."""


class SearchAlgorithm(StrEnum):
    """How the next trial is chosen."""

    TPE = "TPE"
    RANDOM = "Random"


class Asha(ApiModel):
    """Asynchronous successive halving (Li et al. 2020): trials behind the best at a rung stop early."""

    grace_period: Annotated[int, Field(ge=1, le=100000)] = 1
    """Epochs that every trial gets."""
    reduction_factor: Annotated[int, Field(ge=2, le=16)] = 3
    """At each rung one trial in so many goes on."""


class EarlyStopping(ApiModel):
    """When a trial that will not win is stopped."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("has(self.asha)", "earlyStopping takes exactly one method: asha"))
    )
    asha: Asha | None = None
    """Asynchronous successive halving."""


class Winner(ApiModel):
    """What happens with the best parameters."""

    train: bool = False
    """Create a TrainingJob from the template with the best parameters."""


class SweepWorkers(GangPods):
    """The pods of the sweep: the first is the Ray head and runs the driver."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many pods; trials are spread over them."""


class TuningSweepSpec(ApiModel):
    """A TrainingJob template, a search space, an objective and a budget."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.template.recipe)", "a sweep searches the fields of a recipe: template.recipe is required"),
            rule("!has(self.template.resume)", "the trials of a sweep start from nothing: leave template.resume out"),
            rule(
                "!has(self.template.recipe) || !has(self.template.recipe.tabular) || (self.objective.metric in"
                f" {list(REGRESSION_METRICS)}) == (self.template.recipe.tabular.task == 'Regression')",
                "objective.metric is a metric of another task than template.recipe.tabular.task",
            ),
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
    """The dimensions of the search; every name once."""
    objective: Objective
    """What to look for."""
    algorithm: SearchAlgorithm = SearchAlgorithm.TPE
    """How the next trial is chosen."""
    seed: Annotated[int, Field(ge=0, le=2147483647)] = 0
    """Of the search."""
    early_stopping: EarlyStopping | None = None
    """When a trial that will not win is stopped; never when unset."""
    max_trials: Annotated[int, Field(ge=1, le=10000)] = 20
    """The budget: so many trials are started, all attempts together."""
    parallelism: Annotated[int, Field(ge=1, le=1000)] = 2
    """Trials at the same time."""
    workers: SweepWorkers = SweepWorkers()
    """The pods of the sweep."""
    winner: Winner = Winner()
    """What happens with the best parameters."""
    max_restarts: Annotated[int, Field(ge=0, le=100)] = 3
    """New attempts after the driver or a pod is lost; finished trials are kept."""
    suspend: bool = False
    """Stop the pods and keep everything; finished trials count when this is false again."""
    priority: Annotated[int, Field(ge=-1000000, le=1000000)] = 0
    """Who goes first among those that wait for room in a quota of the operator: the higher, then the older."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """The sweep ends when it has been running for so long. Time suspended does not count."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None
    """Delete the sweep so long after it finished."""


class TrialCounts(ApiModel):
    """How many trials are where."""

    running: Count = 0
    """Trials that run now."""
    succeeded: Count = 0
    """Trials that ran to their end."""
    stopped: Count = 0
    """Ended by early stopping; their results count."""
    failed: Count = 0
    """Trials that broke or had no number to show."""


class TrialState(StrEnum):
    """How a trial stands."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    STOPPED = "Stopped"
    FAILED = "Failed"


class ParameterValue(ApiModel):
    """A value that a trial was given."""

    name: str
    """The dimension."""
    value: str
    """The value, as text."""


class Trial(ApiModel):
    """One point of the search space and what came of it."""

    number: Count
    """From 1."""
    state: TrialState
    """How it stands."""
    value: Measured = None
    """The objective; none where it is no number."""
    parameters: Annotated[tuple[ParameterValue, ...], Field(max_length=64)] = ()
    """The point that was tried."""
    message: str | None = None
    """Why it failed."""


class TuningSweepStatus(Status):
    """What the search has found."""

    start_time: Timestamp | None = None
    """When the first attempt started."""
    completion_time: Timestamp | None = None
    """When the sweep succeeded or failed."""
    active_seconds: int | None = None
    """Time that attempts of earlier resumptions ran; it counts against activeDeadlineSeconds."""
    active_since: Timestamp | None = None
    """When the current attempt, or the current resumption, started."""
    attempt: int | None = None
    """The number of the current or last attempt, from 1."""
    restarts: int | None = None
    """New attempts after the first."""
    trials: TrialCounts | None = None
    """How many trials are where."""
    best_trial: Trial | None = None
    """The best trial so far."""
    history: Annotated[tuple[Trial, ...], Field(max_length=10)] = ()
    """The newest ten trials that ended; all of them are in `resultsUri`."""
    results_uri: str | None = None
    """All trials, as JSON."""
    winner_training_job: str | None = None
    """The TrainingJob that trains the best parameters."""
