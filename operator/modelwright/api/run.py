"""The contract between the operator and the pods of a gang: what a pod is told, and what it says back.

A pod gets a `Run` in the environment variable MODELWRIGHT_RUN. It reports a `TrainingReport` or a `SweepReport` over
HTTP as often as it likes (a lost one costs nothing), writes its `TrainingResult` or `SweepResult` to S3 before it exits
with 0, and leaves a `Failure` in its termination message when it cannot go on.
"""

from typing import Annotated

from pydantic import Field

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.goodput import Spent
from modelwright.api.schema import AliasName, ApiModel, Count, Metric, S3Uri
from modelwright.api.trainingjob import CheckpointStatus, MetricValue, Progress, RegisteredVersion, TrainingJobSpec
from modelwright.api.tuningsweep import Trial, TrialCounts, TrialState, TuningSweepSpec

RUN_VARIABLE = "MODELWRIGHT_RUN"
"""JSON of a `Run`."""
REPORT_URL_VARIABLE = "MODELWRIGHT_REPORT_URL"
"""Where this job's reports are posted; unset when nobody listens."""
TOKEN_FILE = "/var/run/secrets/modelwright/token"  # noqa: S105 (a path)
"""A projected token for the audience below; it is rotated, so it is read again for each report."""
TOKEN_AUDIENCE = "modelwright"  # noqa: S105 (an audience)
TERMINATION_MESSAGE_FILE = "/dev/termination-log"
PREFLIGHT_FAILED = "PreflightFailed"
"""The reason in the `Failure` of a worker that cannot begin: a name, the storage, a GPU or the network is not there."""
STORAGE_UNAVAILABLE = "StorageUnavailable"
"""The reason in the `Failure` of a process to which the store did not answer."""
TERMINATED = "Terminated"
"""The reason in the `Failure` of a process that saved and left because it, or a peer, was asked to."""
HANG = "Hang"
"""The reason in the `Failure` of a process that made no step any more."""
PEER_LOST = "PeerLost"
"""The reason in the `Failure` of a process that died only because another one did: never the root of a loss."""


def report_path(kind: str, namespace: str, name: str) -> str:
    """Return the path of the operator's endpoint that takes the reports of a TrainingJob or a TuningSweep."""
    return f"/v1/namespaces/{namespace}/{kind.lower()}s/{name}/report"


class ResolvedStorage(ApiModel):
    """A storage place with the operator's defaults filled in."""

    uri: S3Uri
    endpoint: str | None = None
    region: str | None = None


class Run(ApiModel):
    """What a pod must know to do its part."""

    namespace: str
    name: str
    """Of the TrainingJob or the TuningSweep."""
    uid: str
    attempt: int
    unconfirmed: Count = 0
    """The newest attempt that may still be alive: its node could not confirm its end. Where a suspended attempt goes on
    under its number, that may be this number. 0: all that came before have ended."""
    storage: ResolvedStorage
    training: TrainingJobSpec
    """The job, or the template of the sweep."""
    sweep: TuningSweepSpec | None = None
    image: str = ""
    """What this pod was started from, for the lineage."""
    trigger: str = ""
    """Why the job exists when nobody applied it: `TuningSweep/a trial 7`, `DriftPolicy/b alert Drift`."""


class TrainingReport(ApiModel):
    """The state of an attempt, from rank 0."""

    attempt: Count
    progress: Progress | None = None
    checkpoint: CheckpointStatus | None = None
    resumed_from_step: Count | None = None
    stage: str = "Training"
    """Starting, Training or Evaluating."""
    spent: Spent | None = None
    """What the process of rank 0 has spent its time on so far; absent where it does not measure that."""
    longest_step: float = 0.0
    """Seconds of the longest of the last steps that were told of; 0: not known."""
    quiet: bool = False
    """No step is due: something else is done, or the last one was made."""
    restarts: Count = 0
    """How often the processes of this attempt have started again in their pods."""


class SweepReport(ApiModel):
    """The state of a search, from its driver."""

    attempt: Count
    trials: TrialCounts
    best_trial: Trial | None = None
    history: Annotated[tuple[Trial, ...], Field(max_length=10)] = ()


class Comparison(ApiModel):
    """The new version and the holder of an alias on the same held-out rows."""

    alias: AliasName
    metric: Metric
    rows: Count
    candidate: float
    incumbent_version: Count
    incumbent: float
    improvement: float
    """Positive when the candidate is better, whichever way the metric points."""
    lower_bound: float
    """One-sided lower confidence bound of the improvement, from a paired bootstrap."""
    confidence: float


class TrainingResult(ApiModel):
    """What a job that succeeded leaves at `runs/<namespace>/<uid>/result.json`."""

    attempt: Count
    model: RegisteredVersion | None = None
    metrics: tuple[MetricValue, ...] = ()
    comparison: Comparison | None = None
    """Absent when no promotion was asked for, or when nobody held the alias."""


class SweepResult(ApiModel):
    """What a sweep leaves at `runs/<namespace>/<uid>/sweep.json`; also its memory between attempts."""

    attempt: Count
    finished: bool
    trials: tuple[Trial, ...] = ()
    best_trial: Trial | None = None

    def counts(self) -> TrialCounts:
        """Return how many trials are where."""
        states = [trial.state for trial in self.trials]
        return TrialCounts(
            running=states.count(TrialState.RUNNING),
            succeeded=states.count(TrialState.SUCCEEDED),
            stopped=states.count(TrialState.STOPPED),
            failed=states.count(TrialState.FAILED),
        )


class Failure(ApiModel):
    """Why a pod gave up, as JSON in its termination message."""

    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]+$", max_length=63)]
    message: Annotated[str, Field(max_length=2048)]
    retryable: bool = True
    """False where another attempt would meet the same end: a wrong column, a threshold not met."""
    failure_class: FailureClass | None = None
    """Whose budget a restart uses; unset: ApplicationError, or DataError where no restart helps."""
    step: Count | None = None
    """The step at which the program broke."""
    node: str | None = None
    """The node that is to blame, where it is not that of this pod; empty where none is."""
