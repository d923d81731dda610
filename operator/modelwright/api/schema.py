"""The base of every API type, and the scalars that several kinds share."""

import math
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP = "modelwright.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class ApiModel(BaseModel):
    """A frozen value with camelCase names outside and field docs taken from attribute docstrings.

    Unknown fields are ignored when reading: the API server has already refused or pruned them, and an operator that
    is older than the CRD must not fall over a field that it does not know. What JSON cannot carry is refused here: the
    API server would refuse a whole status for one NaN.
    """

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        extra="ignore",
        allow_inf_nan=False,
    )

    def document(self) -> dict[str, Any]:
        """Return the JSON form: camelCase, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rule(expression: str, message: str) -> dict[str, str]:
    """Return one CEL rule of a CRD schema: what must hold, and the sentence that a user reads when it does not."""
    return {"rule": expression, "message": message}


def rules(*entries: dict[str, str]) -> dict[str, Any]:
    """Return the `json_schema_extra` that carries CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(entries)}


LONGEST_QUANTITY = 64
"""Characters. Amounts of Kubernetes have some twenty digits, and Python does not read a number of thousands."""


def _short(quantity: str | int) -> str | int:
    if isinstance(quantity, str) and len(quantity) > LONGEST_QUANTITY:
        raise ValueError(f"a quantity has at most {LONGEST_QUANTITY} characters")
    return quantity


Quantity = Annotated[
    str | int,
    AfterValidator(_short),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": LONGEST_QUANTITY,
            "pattern": r"^[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
        }
    ),
]
"""A Kubernetes quantity: `500m`, `2`, `4Gi`."""


def _real_moment(text: str) -> str:
    """Return a timestamp as it stands. Raises ValueError for a 31st of February."""
    datetime.fromisoformat(text)
    return text


def _number_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Timestamp = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    AfterValidator(_real_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""RFC 3339 in UTC, whole seconds."""

LARGEST_COUNT = 2**63 - 1
"""An int64 of the API server holds no more."""
Count = Annotated[
    int,
    Field(ge=0, le=LARGEST_COUNT),
    # The format says the upper bound already, and a status is not refused for the lower one.
    WithJsonSchema({"type": "integer", "format": "int64"}),
]
"""A number of things, or the number of one, that fits the int64 of the API server."""

Measured = Annotated[float | None, BeforeValidator(_number_or_none)]
"""A measurement by a pod: NaN and infinity, which a training that diverges measures, are no value."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
"""The name of a Kubernetes object."""

ModelName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$")]
"""The name of a model in the registry; it is a path segment on S3 and a metric label."""

AliasName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$")]
"""A movable name for a model version: `champion`. It starts with a letter, so that no version number is one."""

S3Uri = Annotated[
    str, Field(min_length=6, max_length=1024, pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#\t\r\n]*)?$")
]
"""`s3://bucket/prefix`. What a URL parser would cut off or leave out cannot be part of it."""

ColumnName = Annotated[str, Field(min_length=1, max_length=253)]
LOWER_IS_BETTER = frozenset({"log_loss", "mae", "rmse"})
CLASSIFICATION_METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss")
REGRESSION_METRICS = ("mae", "rmse", "r2")

Metric = Annotated[
    str,
    Field(pattern=rf"^({'|'.join(CLASSIFICATION_METRICS + REGRESSION_METRICS)})$"),
    # An enum, because the API server then lists what may be written instead of quoting a pattern.
    WithJsonSchema({"type": "string", "enum": [*CLASSIFICATION_METRICS, *REGRESSION_METRICS]}),
]
"""The name of an evaluation metric."""
