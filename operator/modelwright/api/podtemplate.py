"""What a user may say about the pods of a gang beyond the common fields, in the words of Kubernetes itself.

The override is a strategic merge patch. Only the fields that the operator's contract with its pods needs are spelt out
here, so that the API server can refuse them by name; all others are taken as they are and checked with the Job.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from modelwright.api.common import PodSettings
from modelwright.api.schema import ApiModel, Quantity, rule, rules

WORKER = "worker"
"""The container of a gang's pods in which the program runs."""
IDENTITY_VOLUME = "identity"
IDENTITY_PATH = "/var/run/secrets/modelwright"
"""Where a worker finds the token by which the operator knows it."""

_Name = Annotated[str, Field(min_length=1, max_length=253)]
_Word = Annotated[str, Field(max_length=32768)]
_LabelValue = Annotated[str, Field(max_length=63)]
_LEVELS = 64
"""Of maps and lists; those of Kubernetes' own are some ten."""
_ALL_ANNOTATIONS = 256 * 1024
_ANNOTATIONS_TOO_LONG = "all annotations together may take 256 KiB, as Kubernetes has it"
_BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class EnvOverride(ApiModel):
    """As in a container."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=rules(
            rule("!self.name.startsWith('MODELWRIGHT_')", "names that begin with MODELWRIGHT_ are reserved")
        ),
    )
    name: _Name
    """The variable. Its value is `value` or `valueFrom`."""


class MountOverride(ApiModel):
    """As in a container."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=rules(
            rule(
                f"!self.mountPath.startsWith('{IDENTITY_PATH}')",
                f"{IDENTITY_PATH} is taken: it holds the token by which the operator knows its pods",
            )
        ),
    )
    mount_path: Annotated[str, Field(min_length=1, max_length=4096)]
    """Where the volume appears."""


class WorkerOverride(ApiModel):
    """What is merged into the container that runs the program. Any field of a Kubernetes container may stand here."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=rules(
            rule(
                "!has(self.command) && !has(self.args)",
                "the program of the worker is workers.command and workers.args, not a field of its container",
            ),
            rule("!has(self.image)", "the image of the worker is workers.image, not a field of its container"),
            rule(
                "!has(self.terminationMessagePath)",
                "terminationMessagePath of the worker is fixed: a program says there why it failed",
            ),
            rule(
                "!has(self.restartPolicy)",
                "restartPolicy of the worker is fixed: failurePolicy says when the gang starts again",
            ),
        ),
    )
    name: _Name
    """`worker`."""
    env: Annotated[tuple[EnvOverride, ...], Field(max_length=256, json_schema_extra=_BY_NAME)] = ()
    """More environment variables, as `workers.env`; of two with one name the one here counts."""
    volume_mounts: Annotated[tuple[MountOverride, ...], Field(max_length=64)] = ()
    """Where volumes appear."""
    command: Annotated[tuple[_Word, ...], Field(max_length=256)] | None = None
    """Not to be given: the program is `workers.command`."""
    args: Annotated[tuple[_Word, ...], Field(max_length=256)] | None = None
    """Not to be given: they are `workers.args`."""
    image: Annotated[str, Field(max_length=1024)] | None = None
    """Not to be given: it is `workers.image`."""
    termination_message_path: Annotated[str, Field(max_length=1024)] | None = None
    """Not to be given: the operator reads /dev/termination-log."""
    restart_policy: Annotated[str, Field(max_length=63)] | None = None
    """Not to be given: see `failurePolicy`."""


class InitContainer(ApiModel):
    """A whole Kubernetes container."""

    model_config = ConfigDict(extra="allow")
    name: _Name
    """Its name; `worker` is taken."""


class VolumeOverride(ApiModel):
    """A whole Kubernetes volume."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=rules(
            rule(
                f"self.name != '{IDENTITY_VOLUME}'",
                f"the volume {IDENTITY_VOLUME} is taken: it holds the token by which the operator knows its pods",
            )
        ),
    )
    name: _Name
    """Its name; that of the shared memory is `shared-memory`."""


class PodOverride(ApiModel):
    """What is merged into the spec of the pods. Any field of a Kubernetes pod spec may stand here."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=rules(
            rule(
                f"!has(self.containers) || self.containers.all(container, container.name == '{WORKER}')",
                "a pod of a gang has the one container worker, and ends with it: put a side-car into initContainers,"
                " with restartPolicy Always",
            ),
            rule(
                "!has(self.restartPolicy)",
                "restartPolicy is fixed to Never: failurePolicy says when the gang starts again",
            ),
            rule(
                "!has(self.subdomain) && !has(self.hostname) && !has(self.hostnameOverride)",
                "subdomain, hostname and hostnameOverride are fixed: the workers find each other by them",
            ),
        ),
    )
    containers: Annotated[tuple[WorkerOverride, ...], Field(max_length=8, json_schema_extra=_BY_NAME)] = ()
    """Only `worker`, the container that runs the program."""
    init_containers: Annotated[tuple[InitContainer, ...], Field(max_length=16, json_schema_extra=_BY_NAME)] = ()
    """What runs before the worker; with `restartPolicy: Always`, beside it until it ends (a side-car)."""
    volumes: Annotated[tuple[VolumeOverride, ...], Field(max_length=64, json_schema_extra=_BY_NAME)] = ()
    """Claims, Secrets, ConfigMaps and the like, for `volumeMounts`."""
    termination_grace_period_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None
    """The time between SIGTERM and SIGKILL, for a last checkpoint. torchrun leaves its processes all but 10 s of it."""
    restart_policy: Annotated[str, Field(max_length=63)] | None = None
    """Not to be given: see `failurePolicy`."""
    hostname_override: Annotated[str, Field(max_length=64)] | None = None
    """Not to be given."""
    subdomain: Annotated[str, Field(max_length=63)] | None = None
    """Not to be given: the workers find each other by it."""
    hostname: Annotated[str, Field(max_length=63)] | None = None
    """Not to be given: the workers find each other by it."""


def _fit(annotations: dict[str, str]) -> dict[str, str]:
    if sum(len(name.encode()) + len(value.encode()) for name, value in annotations.items()) > _ALL_ANNOTATIONS:
        raise PydanticCustomError("too_long", _ANNOTATIONS_TOO_LONG)
    return annotations


class PodMetadata(ApiModel):
    """Labels and annotations of the pods."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.labels) || self.labels.all(key, !key.startsWith('modelwright.dev/') &&"
                " !key.startsWith('batch.kubernetes.io/') &&"
                " !(key in ['app.kubernetes.io/managed-by', 'job-name', 'controller-uid']))",
                "labels below modelwright.dev/ and batch.kubernetes.io/, app.kubernetes.io/managed-by, job-name and"
                " controller-uid are set by the operator and by the Job",
            ),
            rule(
                "!has(self.annotations) || self.annotations.map(key, size(key) +"
                f" size(bytes(self.annotations[key]))).sum() <= {_ALL_ANNOTATIONS}",
                _ANNOTATIONS_TOO_LONG,
            ),
        )
    )
    labels: Annotated[dict[str, _LabelValue], Field(max_length=64, default_factory=dict)]
    """Labels, beside those of the operator."""
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=65536)]],
        Field(max_length=64, default_factory=dict),
        AfterValidator(_fit),
    ]
    """Annotations, of 256 KiB together."""


def _is_deeper(value: Any, levels: int) -> bool:
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(entry, levels - 1) for entry in entries)


class PodTemplate(ApiModel):
    """A strategic merge patch over the pods that the operator makes; docs/pods.md has the rules."""

    metadata: PodMetadata = PodMetadata()
    """Labels and annotations of the pods."""
    spec: PodOverride = PodOverride()
    """Everything else that Kubernetes knows of a pod."""

    @model_validator(mode="before")
    @classmethod
    def _is_flat(cls, value: Any) -> Any:
        # Of fields that it does not know the API server takes thousands of levels, and programs fall over them.
        if _is_deeper(value, _LEVELS):
            raise PydanticCustomError("too_deep", "nested more than {levels} levels deep", {"levels": _LEVELS})
        return value

    def patch(self) -> dict[str, Any]:
        """Return what the user wrote, and nothing else: no default of this model, but every null."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Topology(StrEnum):
    """Where the pods of a gang are, seen from each other."""

    PACK = "Pack"
    SPREAD = "Spread"


class GangPods(PodSettings):
    """What can be said of the pods of a gang, beside their number and their program."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!has(self.topologyKey) || has(self.topology)", "topologyKey says nothing without topology")
        )
    )
    shared_memory: Quantity | None = None
    """The limit of /dev/shm, which NCCL, data loaders and Ray use: `8Gi`. It counts as memory of the container; without
    a limit of its own it can take all of it."""
    topology: Topology | None = None
    """Pack: rather near each other, for a fast network. Spread: rather on many nodes, so that one that is lost takes
    few workers. Both are wishes, and no pod waits for them."""
    topology_key: Annotated[str, Field(min_length=1, max_length=316)] | None = None
    """The node label that says what is near: a rack, a block, a zone. Unset: Spread goes by node; Pack by node, and
    then by zone."""
    pod_template: PodTemplate | None = None
    """Everything else about the pods: volumes, side-cars, affinity, resource claims, the host's network. It is merged
    over what the operator makes, as `kubectl patch --type=strategic` would."""
