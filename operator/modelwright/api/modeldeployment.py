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
    version: Annotated[int, Field(ge=1)] | None = None
    alias: AliasName | None = None
    """Serve the version that holds this alias, and roll out the next one when it moves."""


class Monitoring(ApiModel):
    """What servers count, so that a DriftPolicy can see whether the world has moved. Counts only: no row leaves it."""

    enabled: bool = True
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
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    server: PodSettings = PodSettings()
    storage: Storage = Storage()
    monitoring: Monitoring = Monitoring()
    rollout: Rollout = Rollout()


class ServedVersion(ApiModel):
    """A version and how it came to serve."""

    name: ModelName
    version: int
    alias: AliasName | None = None
    since: Timestamp | None = None


class FailedVersion(ApiModel):
    """A version that was tried and did not become ready."""

    version: int
    reason: str
    message: str


class ModelDeploymentStatus(Status):
    """What serves, and where."""

    url: str | None = None
    """Inside the cluster."""
    serving: ServedVersion | None = None
    """The version that takes the traffic."""
    target_version: int | None = None
    """The version that is wanted."""
    replicas: int | None = None
    ready_replicas: int | None = None
    failed: FailedVersion | None = None
