"""Checkpoints as a user asks for them: when they are written, which of them stay, and what a job starts from."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from modelwright.api.schema import ApiModel, Count, ModelName, ObjectName, S3Uri, rule, rules

DEFAULT_SECONDS = 30
RECIPE_GRACE_SECONDS = 120
"""A recipe saves when it is asked to leave, and is given the time for it."""
KILL_SECONDS = 10
"""Of the grace period, for torchrun, which kills what has not left by then, to end before the kubelet kills it."""


class Mode(StrEnum):
    """Which end of a metric is the good one."""

    MIN = "Min"
    MAX = "Max"


class KeepBest(ApiModel):
    """The best checkpoints by a metric."""

    metric: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The training loss (`loss`), or a metric that your program gives to `session.report`."""
    mode: Mode
    """Min where less is better, as of a loss; Max where more is."""
    count: Annotated[int, Field(ge=1, le=100)] = 1
    """How many of the best stay."""


class Keep(ApiModel):
    """Which checkpoints stay. Every other one is deleted when a newer one is complete."""

    last: Annotated[int, Field(ge=1, le=100)] = 2
    """How many of the newest stay."""
    best: KeepBest | None = None
    """The best by a metric stay too. One that was saved without this metric is not among them."""
    every_steps: Annotated[int, Field(ge=1, le=2147483647)] | None = None
    """One checkpoint stays for each so many steps: the first that was saved in them."""


class Checkpoint(ApiModel):
    """When the state of training is saved to S3, and what stays there. A new attempt resumes from the last complete
    checkpoint."""

    every_seconds: Annotated[int, Field(ge=1, le=86400)] | None = None
    """The time between two checkpoints; 30 when everySteps is unset too. Where both are given, whatever comes first."""
    every_steps: Annotated[int, Field(ge=1, le=2147483647)] | None = None
    """Save whenever the number of steps is a multiple of this."""
    keep: Keep = Keep()
    """Which checkpoints stay."""
    grace_seconds: Annotated[int, Field(ge=20, le=3600)] | None = None
    """The time that a pod has to save when it is asked to leave: by a drain, a preemption, or spec.suspend. 120 for a
    recipe and 30 for a command when unset. A cloud that takes a node back may give less."""

    @property
    def seconds(self) -> int | None:
        """The time between two checkpoints, with the default filled in; None where steps alone count."""
        return DEFAULT_SECONDS if self.every_seconds is None and self.every_steps is None else self.every_seconds


class ModelVersion(ApiModel):
    """A version of a model in the registry below this job's storage."""

    name: ModelName
    """The model."""
    version: Annotated[Count, Field(ge=1)]
    """Its version."""


class ResumeSource(ApiModel):
    """Whose weights a job starts with."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.model), has(self.checkpoint), has(self.trainingJob)].filter(x, x).size() == 1",
                "resume.from takes exactly one of model, checkpoint and trainingJob",
            )
        )
    )
    model: ModelVersion | None = None
    """A registered version."""
    checkpoint: S3Uri | None = None
    """A checkpoint of another job, as its status.checkpoint.uri names it. It is read with this job's endpoint and
    Secret."""
    training_job: ObjectName | None = None
    """Another TrainingJob of this namespace: its newest complete checkpoint when it has ended, which this job waits
    for. What that came to is kept in status.startedFrom, whatever becomes of the other job."""


class Resume(ApiModel):
    """What a job starts from that has no checkpoint of its own yet. Its own checkpoints come before this."""

    from_: Annotated[ResumeSource, Field(alias="from")]
    """A warm start: the weights alone are taken over, and training begins at step 0."""


class StartedFrom(ApiModel):
    """What resume.from.trainingJob came to mean, for all attempts."""

    training_job: ObjectName
    """The name that was asked for."""
    uid: str
    """The TrainingJob that had this name then; another one of that name is another job."""
    step: Count
    """The step of its newest complete checkpoint."""
    uri: str
    """Where that lies."""
