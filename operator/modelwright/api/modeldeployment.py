"""ModelDeployment: serve a version, or follow an alias."""

from typing import Annotated

from pydantic import ConfigDict, Field

from modelwright.api.common import PodSettings, Status, Storage
from modelwright.api.schema import AliasName, ApiModel, ModelName, Timestamp, rule, rules


class ModelReference(ApiModel):
    """Which model to serve."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.version) != has(self.alias)", "model takes exactly one of version and alias")
        )
    )
    name: ModelName
    """The model in the registry."""
    version: Annotated[int, Field(ge=1)] | None = None
    """Serve exactly this version."""
    alias: AliasName | None = None
    """Serve the version that holds this alias, and roll out the next one when it moves."""


class Monitoring(ApiModel):
    """What servers count, so that a DriftPolicy can see whether the world has moved. Counts only: no row leaves it."""

    enabled: bool = True
    """Whether servers count at all."""
    window_seconds: Annotated[int, Field(ge=5, le=86400)] = 60
    """How long servers count before they write a window to S3."""


class Rollout(ApiModel):
    """How a new version takes over."""

    progress_deadline_seconds: Annotated[int, Field(ge=10, le=86400)] = 300
    """A version that is not ready by then is given up, and the last good one keeps serving."""
    drain_seconds: Annotated[int, Field(ge=1, le=3600)] = 15
    """How long a server goes on answering after it left the Service."""


class ModelDeploymentSpec(ApiModel):
    """Which model to serve, and with what."""

    model: ModelReference
    """The model, and its version or the alias to follow."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many servers."""
    server: PodSettings = PodSettings()
    """The pods of the servers."""
    storage: Storage = Storage()
    """The registry; the operator's default when unset."""
    monitoring: Monitoring = Monitoring()
    """What servers count for drift tests."""
    rollout: Rollout = Rollout()
    """How a new version takes over."""


class ServedVersion(ApiModel):
    """A version and how it came to serve."""

    name: ModelName
    """The model."""
    version: int
    """Its version."""
    alias: AliasName | None = None
    """The alias that named it."""
    since: Timestamp | None = None
    """When it took the traffic."""


class FailedVersion(ApiModel):
    """A version that was tried and did not become ready."""

    version: int
    """The version."""
    reason: str
    """A CamelCase word for programs."""
    message: str
    """What went wrong and what to do."""


class ModelDeploymentStatus(Status):
    """What serves, and where."""

    url: str | None = None
    """Inside the cluster."""
    serving: ServedVersion | None = None
    """The version that takes the traffic."""
    target_version: int | None = None
    """The version that is wanted."""
    replicas: int | None = None
    """Servers that exist."""
    ready_replicas: int | None = None
    """Servers that have loaded the model and answer."""
    failed: FailedVersion | None = None
    """The version that was given up, while it is still the wanted one."""
