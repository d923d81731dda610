"""The documents of the registry and of monitoring, as they lie on S3. Nothing here is pickled."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelwright.api.goodput import Spent
from modelwright.api.recipe import Task
from modelwright.api.schema import ApiModel, Count, ModelName, Timestamp
from modelwright.api.trainingjob import MetricValue

_Rows = Annotated[int, Field(ge=0, le=2**40)]
"""Rows of one window: bounded, so that the sum over any number of windows still fits a status."""


SIGNATURE_FILE = "signature.json"
"""What a version, or a checkpoint of a recipe, says of its inputs and answers."""


class ColumnKind(StrEnum):
    """How a column is read and encoded."""

    NUMERIC = "Numeric"
    """float32 in the graph; a missing value is NaN."""
    CATEGORICAL = "Categorical"
    """string in the graph; a missing value is the empty string."""


class InputColumn(ApiModel):
    """A column that the model reads."""

    name: str
    """The user's name, as in the data set."""
    input: str
    """The graph's input; ONNX cannot carry every name."""
    kind: ColumnKind


class Signature(ApiModel):
    """`signature.json`: what goes in and what comes out. Every graph input and output has shape [rows, 1], but
    `probabilities`, which has shape [rows, classes]."""

    task: Task
    target: str
    inputs: tuple[InputColumn, ...]
    classes: tuple[str, ...] = ()
    """Labels in the order of the probabilities; empty for regression."""
    prediction_output: str = "prediction"
    """string labels for classification, float32 for regression."""
    probabilities_output: str | None = None


class ReferenceColumn(ApiModel):
    """The distribution of one column in the training data, in bins."""

    name: str
    kind: ColumnKind
    edges: tuple[float, ...] = ()
    """Numeric: inner edges, ascending; bin i holds edges[i-1] < x <= edges[i]; there is one bin more than edges."""
    categories: tuple[str, ...] = ()
    """Categorical: one bin for each, and one more for any other value."""
    counts: tuple[int, ...]
    """Rows in every bin; one last count of missing values."""


class Reference(ApiModel):
    """`reference.json`: what live data is compared with."""

    rows: int
    columns: tuple[ReferenceColumn, ...]
    prediction: ReferenceColumn


class Window(ApiModel):
    """`monitoring/<namespace>/<deployment>/<version>/<window>/<replica>.json`: what one server counted."""

    model: ModelName
    version: Count
    replica: str
    start: Timestamp
    end: Timestamp
    rows: _Rows
    columns: dict[str, tuple[_Rows, ...]]
    """Counts by column name, laid out as in the reference."""
    prediction: tuple[_Rows, ...]


class Metrics(ApiModel):
    """`metrics.json`: results on the held-out rows."""

    rows: int
    values: tuple[MetricValue, ...]


class DatasetLineage(ApiModel):
    """Exactly which data."""

    uri: str
    digest: str
    """SHA-256 over the names and ETags of the objects read."""
    rows: int
    validation_rows: int
    split_seed: int
    validation_fraction: float


class Lineage(ApiModel):
    """`lineage.json`: why this version exists."""

    job: str
    """namespace/name."""
    job_uid: str
    attempt: int
    trigger: str = ""
    image: str = ""
    modelwright: str
    """The version of this software."""
    dataset: DatasetLineage
    algorithm: str
    parameters: dict[str, str | int | float | bool]
    parent_version: int | None = None
    """The version that held the alias when this one was trained."""
    spent: Spent | None = None
    """What the process that wrote this had spent its time on by then; earlier attempts are not in it."""


class File(ApiModel):
    """One file of a version."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Count


class Manifest(ApiModel):
    """`manifest.json`: written last; a version without one does not exist."""

    model: ModelName
    version: Count
    created: Timestamp
    job_uid: str
    files: dict[str, File]


class Claim(ApiModel):
    """`claim.json`: who may write under this version number. It is created once and never changed."""

    job_uid: str


class Registration(ApiModel):
    """`runs/<namespace>/<uid>/registration.json`: the number that a job's attempts write under.

    It changes only where whoever took the number may still be alive when a later attempt registers.
    """

    model: ModelName
    version: Count
    attempt: Count = 0
    """The attempt that took the number; 0 where that was not written down yet."""
    unconfirmed: Count = 0
    """What that attempt knew of earlier ones (`Run.unconfirmed`)."""


class Alias(ApiModel):
    """`aliases/<alias>.json`: a movable name."""

    version: Count
    moved_by: str
    reason: str
    at: Timestamp


class CheckpointManifest(ApiModel):
    """`checkpoints/<step>/manifest.json`: written last; a checkpoint without one is incomplete and ignored."""

    step: int
    attempt: int
    time: Timestamp
    files: dict[str, File]
    metrics: Annotated[dict[str, float], Field(default_factory=dict)]
    """What was measured by then: the training loss, and what the program of the user reported."""


class TensorPart(ApiModel):
    """A piece of a tensor: of which one, where in it the piece begins, and how large it is."""

    tensor: str
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


class OwnState(ApiModel):
    """What one process has for itself of an object that every process has, such as where its reader stands."""

    tree: str
    """JSON in which tensors are named."""
    digests: Annotated[dict[str, str], Field(default_factory=dict)]
    """SHA-256 of the bytes of those tensors that are no pieces of one that all processes have together, by entry."""


class CheckpointPart(ApiModel):
    """`checkpoints/<step>/rank-<rank>.json`: what one process wrote. When all have, the manifest follows."""

    save: str
    """Whose save it belongs to: what an attempt that was cut off left here belongs to none."""
    files: dict[str, File]
    tensors: Annotated[dict[str, TensorPart], Field(default_factory=dict)]
    """By the entry of this process's `.safetensors` file."""
    own: Annotated[dict[str, OwnState], Field(default_factory=dict)]
    """By the name that the program gave it."""
