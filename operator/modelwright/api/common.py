"""Parts of a spec or a status that several kinds share."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelwright.api.schema import ApiModel, ObjectName, Quantity, S3Uri, Timestamp, rule, rules


class Condition(ApiModel):
    """One aspect of the observed state, as the Kubernetes API conventions define it."""

    type: Annotated[str, Field(max_length=316)]
    """What is spoken of: Ready, Reconciling, Stalled, Succeeded, Suspended."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """A CamelCase word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """A sentence for people, which says what to do where something is to be done."""
    last_transition_time: Timestamp
    """When the status last changed."""
    observed_generation: int | None = None
    """The generation of the spec that this condition speaks of."""


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
    """The server, for S3 that is not Amazon's: `https://minio.example.com`. Where it is named, nothing else comes from
    the operator's defaults: name the region and the Secret too, if it wants them."""
    region: Annotated[str, Field(max_length=63)] | None = None
    """The region of the bucket, where the store knows regions."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""


class Resources(ApiModel):
    """Compute resources of one pod, as in a container."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16, default_factory=dict)]
    """What the scheduler sets aside: `cpu: 500m`, `memory: 2Gi`, `nvidia.com/gpu: 1`."""
    limits: Annotated[dict[str, Quantity], Field(max_length=16, default_factory=dict)]
    """What the pod may use at most."""


class KeySelector(ApiModel):
    """A key of a Secret or a ConfigMap in the same namespace."""

    name: ObjectName
    """The Secret or the ConfigMap."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """The key whose value is taken."""
    optional: bool | None = None
    """Start without it when the object or the key is missing."""


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
    """A key of a Secret."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""


class EnvVar(ApiModel):
    """One environment variable."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!(has(self.value) && has(self.valueFrom))", "an env entry takes value or valueFrom, not both"),
            rule("!self.name.startsWith('MODELWRIGHT_')", "names that begin with MODELWRIGHT_ are reserved"),
        )
    )
    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
    """The variable."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """Its value, as it stands."""
    value_from: EnvSource | None = None
    """Where its value is read from."""


class Toleration(ApiModel):
    """As in a pod."""

    key: Annotated[str, Field(max_length=316)] | None = None
    """The taint's key; every key when unset, and then operator must be Exists."""
    operator: Literal["Exists", "Equal"] | None = None
    """How the taint's value is compared; Equal when unset."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """The taint's value, for Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; every effect when unset."""
    toleration_seconds: int | None = None
    """For NoExecute: how long the pod may stay; forever when unset."""


class ImagePullPolicy(StrEnum):
    """As in a container."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class LocalReference(ApiModel):
    """The name of an object in the same namespace."""

    name: ObjectName
    """The object's name."""


class PodSettings(ApiModel):
    """Where pods may run and what they may use; every kind that makes pods has these."""

    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """The container image; Modelwright's own when unset."""
    image_pull_policy: ImagePullPolicy | None = None
    """When the image is pulled; as Kubernetes decides when unset."""
    image_pull_secrets: Annotated[tuple[LocalReference, ...], Field(max_length=16)] = ()
    """Secrets in this namespace that open the image registry."""
    resources: Resources = Resources()
    """What the container asks for and may use."""
    node_selector: Annotated[
        dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32, default_factory=dict)
    ]
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints of nodes that these pods put up with."""
    priority_class_name: ObjectName | None = None
    """The PriorityClass of the pods."""
    service_account_name: ObjectName | None = None
    """Its token is not mounted: pods of Modelwright hold no Kubernetes rights."""
