"""Parts of a spec or a status that several kinds share."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelwright.api.schema import ApiModel, ObjectName, Quantity, S3Uri, Timestamp, rule, rules


class Condition(ApiModel):
    """One aspect of the observed state, as the Kubernetes API conventions define it."""

    type: Annotated[str, Field(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """A CamelCase word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """A sentence for people, which says what to do where something is to be done."""
    last_transition_time: Timestamp
    observed_generation: int | None = None


class Status(ApiModel):
    """What every kind reports."""

    observed_generation: int | None = None
    """The generation of the spec that this status speaks of."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    """Ready on every kind; Reconciling and Stalled only while True (kstatus)."""


class Storage(ApiModel):
    """An S3-compatible place for checkpoints, runs and models. What is unset comes from the operator's defaults."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!has(self.endpoint) || has(self.uri)", "storage.endpoint names another store: give its uri too")
        )
    )
    uri: S3Uri | None = None
    """Where everything of this resource is kept: `s3://bucket/prefix`."""
    endpoint: Annotated[str, Field(max_length=1024, pattern=r"^https?://[^/]+/?$")] | None = None
    """The server, for S3 that is not Amazon's: `https://minio.example.com`."""
    region: Annotated[str, Field(max_length=63)] | None = None
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""


class Resources(ApiModel):
    """Compute resources of one pod, as in a container."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16, default_factory=dict)]
    limits: Annotated[dict[str, Quantity], Field(max_length=16, default_factory=dict)]


class KeySelector(ApiModel):
    """A key of a Secret or a ConfigMap in the same namespace."""

    name: ObjectName
    key: Annotated[str, Field(min_length=1, max_length=253)]
    optional: bool | None = None


class EnvSource(ApiModel):
    """Where the value of an environment variable comes from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                "valueFrom takes exactly one of secretKeyRef and configMapKeyRef",
            )
        )
    )
    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class EnvVar(ApiModel):
    """One environment variable."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!(has(self.value) && has(self.valueFrom))", "an env entry takes value or valueFrom, not both"),
            rule("!self.name.startsWith('MODELWRIGHT_')", "names that begin with MODELWRIGHT_ are reserved"),
        )
    )
    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
    value: Annotated[str, Field(max_length=32768)] | None = None
    value_from: EnvSource | None = None


class Toleration(ApiModel):
    """As in a pod."""

    key: Annotated[str, Field(max_length=316)] | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: Annotated[str, Field(max_length=63)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class ImagePullPolicy(StrEnum):
    """As in a container."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class LocalReference(ApiModel):
    """The name of an object in the same namespace."""

    name: ObjectName


class PodSettings(ApiModel):
    """Where pods may run and what they may use; every kind that makes pods has these."""

    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """The container image; Modelwright's own when unset."""
    image_pull_policy: ImagePullPolicy | None = None
    image_pull_secrets: Annotated[tuple[LocalReference, ...], Field(max_length=16)] = ()
    resources: Resources = Resources()
    node_selector: Annotated[
        dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32, default_factory=dict)
    ]
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    priority_class_name: ObjectName | None = None
    service_account_name: ObjectName | None = None
    """Its token is not mounted: pods of Modelwright hold no Kubernetes rights."""
