"""What the time of a TrainingJob was spent on: as its program measures it, and as its status tells it."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelwright.api.schema import ApiModel, Count, Timestamp

Seconds = Annotated[float, Field(ge=0, le=1e9)]
"""A span of time, up to thirty years of it."""


class Bucket(StrEnum):
    """What a second of a job can be spent on. All but the last are fields of `BucketSeconds`."""

    QUEUED = "queued"
    STARTING = "starting"
    TRAINING = "training"
    SAVING = "saving"
    EVALUATING = "evaluating"
    RESTARTING = "restarting"
    LOST = "lost"
    OTHER = "other"
    SUSPENDED = "suspended"


HELD = (Bucket.STARTING, Bucket.TRAINING, Bucket.SAVING, Bucket.EVALUATING, Bucket.LOST, Bucket.OTHER)
"""Those during which the whole gang has its nodes."""


class Spent(ApiModel):
    """What one process has spent its time on so far, in seconds, by its own monotonic clock."""

    since: Timestamp
    """When the process started: it names the account, and another process begins one of its own."""
    starting: Seconds = 0
    """Until the first step was done: imports, rendezvous, data, the checkpoint that it resumed from."""
    training: Seconds = 0
    """Making steps."""
    saving: Seconds = 0
    """Training stood still for a checkpoint."""
    evaluating: Seconds = 0
    """After the last step."""


class BucketSeconds(ApiModel):
    """Seconds by what they were spent on. They add up to the time from the job's creation to `asOf`, without
    suspensions."""

    queued: Count = 0
    """The pods were asked for and did not all have a node: a queue, the scheduler, or something that had to be there
    first."""
    starting: Count = 0
    """The pods had their nodes, until the first step: image pull, rendezvous, data, restoring the checkpoint."""
    training: Count = 0
    """Steps that count."""
    saving: Count = 0
    """Training stood still for a checkpoint."""
    evaluating: Count = 0
    """After the last step: evaluation, export, registration."""
    restarting: Count = 0
    """From the end of an attempt until the next one was asked for: teardown and back-off."""
    lost: Count = 0
    """Steps made again, because no checkpoint held them when an attempt ended."""
    other: Count = 0
    """The pods ran, and nobody told what they did."""

    @property
    def total(self) -> int:
        """All of them together."""
        return self.held + self.queued + self.restarting

    @property
    def held(self) -> int:
        """Those during which the whole gang had its nodes."""
        return sum(getattr(self, bucket) for bucket in HELD)


class AcceleratorHours(ApiModel):
    """Accelerators times hours."""

    total: float
    """While the whole gang had its nodes."""
    productive: float
    """Of them, those of the bucket `training`."""


class Counted(ApiModel):
    """How much of the program's own account is in the seconds: nothing is counted twice."""

    attempt: Count
    """Of which attempt."""
    since: Timestamp
    """Of which of its processes: the one that started then."""
    step: Count
    """The last step that it told."""
    training: Count
    """Seconds."""
    saving: Count
    """Seconds."""
    evaluating: Count
    """Seconds."""


class Goodput(ApiModel):
    """What the job's time was spent on."""

    share: float | None = None
    """Of all counted seconds those of the bucket `training`, from 0 to 1; unset until the program has reported a
    step."""
    seconds: BucketSeconds
    """By bucket."""
    suspended_seconds: Count = 0
    """The time that the job was suspended. It is in no bucket."""
    worker_seconds: BucketSeconds | None = None
    """Of an elastic gang: the seconds while all of it had its nodes, times the workers that it had then."""
    accelerator_hours: AcceleratorHours | None = None
    """GPUs and the like times hours; unset where the pods have none."""
    as_of: Timestamp
    """Up to when it is counted. It moves with other changes of the status, never with the clock alone."""
    current: Bucket | None = None
    """The bucket that the time since `asOf` goes to if nothing else is learnt of it; unset when the job has ended."""
    furthest_step: Count = 0
    """The furthest step that an earlier process was known to reach: up to there steps are made again."""
    counted: Counted | None = None
    """How much of the program's own account is in the seconds."""
