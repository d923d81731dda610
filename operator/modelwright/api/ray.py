"""How a gang trains under Ray: what each training worker takes, how many there are, and who runs the Ray cluster."""

from dataclasses import dataclass
from math import ceil
from typing import Annotated

from pydantic import ConfigDict, Field

from modelwright.api.schema import ApiModel, rule, rules

SOME_CPU = 0.01
"""CPUs for a worker that asks for nothing: enough to be placed by, and never too much for a pod with a small limit."""
_ROUNDING = 1e-9


class ResourcesPerWorker(ApiModel):
    """What Ray sets aside for one training worker. It divides the resources of the pods, and adds nothing to them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.gpu) || self.gpu <= 1.0 || self.gpu == double(int(self.gpu))",
                "resourcesPerWorker.gpu is a part of one GPU, or a whole number of them",
            ),
            rule(
                "!has(self.cpu) || self.cpu <= 1.0 || self.cpu == double(int(self.cpu))",
                "resourcesPerWorker.cpu is a part of one CPU, or a whole number of them",
            ),
        )
    )
    cpu: Annotated[float, Field(ge=0.01, le=1024)] | None = None
    """CPUs, such as 2 or 0.5. Unset: as good as none, so that a worker always finds its place; it may use what its pod
    has."""
    gpu: Annotated[float, Field(ge=0, le=128)] | None = None
    """GPUs: a whole number, or a part of one, such as 0.5 for two workers on each GPU; 0 trains on CPUs. Unset: 1 where
    the pods have GPUs. Ray counts the parts and limits nothing: workers on one GPU share its memory as they like, and
    talk to each other by gloo, because NCCL takes no two workers on one GPU."""


class Ray(ApiModel):
    """Ray Train's ScalingConfig, as far as it is for the user of a job to say, and who runs the Ray cluster."""

    num_workers: Annotated[int, Field(ge=1, le=10000)] | None = None
    """How many training workers there are in all pods together. Unset: as many as the GPUs of the pods hold, or one a
    pod where they train on CPUs."""
    resources_per_worker: ResourcesPerWorker = ResourcesPerWorker()
    """What each of them takes."""
    kuberay: bool = False
    """Each attempt is a RayJob, which KubeRay runs, instead of a Job. KubeRay 1.6 or newer must be installed; until it
    is, the job waits."""


@dataclass(frozen=True)
class Pods:
    """The pods of a gang, as far as workers are placed by it."""

    count: int
    gpus: int
    """Of each of them."""
    cpus: int | None = None
    """Whole CPUs that Ray counts in each of them; None: those of its node."""


@dataclass(frozen=True)
class Scaling:
    """How many training workers there are, and what each of them takes."""

    workers: int
    gpu: float
    cpu: float | None
    pods: int

    @property
    def resources(self) -> dict[str, float]:
        """What Ray's `resources_per_worker` is to be."""
        cpu = self.cpu if self.cpu is not None or self.gpu else SOME_CPU
        return {**({} if cpu is None else {"CPU": cpu}), **({"GPU": self.gpu} if self.gpu else {})}

    @property
    def needed(self) -> dict[str, int]:
        """What a pod must have, in whole CPUs and GPUs, to hold its share of the workers: then all find room."""
        share = -(-self.workers // self.pods)
        alone = {"GPU": ceil(share / _on_gpus(self.gpu, 1))} if 0 < self.gpu < 1 else {}
        return {name: ceil(share * each - _ROUNDING) for name, each in self.resources.items()} | alone

    @property
    def spread(self) -> bool:
        """Whether no pod shall have two workers: where there is one for each, or fewer."""
        return self.workers <= self.pods

    @property
    def beside(self) -> int | None:
        """How many workers share the CPUs of a pod evenly; None: Ray gives each as many threads as CPUs were asked for.

        Where there are GPUs, threads do little.
        """
        return None if self.gpu or self.cpu is not None else -(-self.workers // self.pods)

    @property
    def shares_gpus(self) -> bool:
        """Whether two workers may find themselves on one GPU, which NCCL does not take ("Duplicate GPU detected")."""
        return 0 < self.gpu <= 0.5 and not self.spread


def scaling(asked: Ray | None, pods: Pods) -> Scaling:
    """Return how many workers a gang has and what each takes; without a wish one a pod, or one a GPU."""
    ray = asked or Ray()
    each = ray.resources_per_worker
    gpu = each.gpu if each.gpu is not None else float(pods.gpus > 0)
    fitting = _on_gpus(gpu, pods.gpus) if gpu and pods.gpus else 1
    return Scaling(ray.num_workers or pods.count * max(1, fitting), gpu, each.cpu, pods.count)


def misfit(wanted: Scaling, pods: Pods) -> str | None:
    """Return why the pods can never hold all workers, for which Ray would wait in vain; None: they can.

    A worker has all that it takes from one pod, and a part of a GPU from one GPU.
    """
    if wanted.gpu and not pods.gpus:
        return "resourcesPerWorker.gpu needs GPUs: ask for some in workers.resources.limits"
    rooms = [_on_gpus(wanted.gpu, pods.gpus)] if wanted.gpu else []
    rooms += [int(pods.cpus / wanted.cpu + _ROUNDING)] if wanted.cpu and pods.cpus is not None else []
    room = min(rooms, default=wanted.workers)
    if room * pods.count >= wanted.workers:
        return None
    has = [f"{pods.gpus} GPU"] if wanted.gpu else []
    has += [f"{pods.cpus} whole CPU"] if wanted.cpu and pods.cpus is not None else []
    there = "is 1 pod" if pods.count == 1 else f"are {pods.count} pods"
    return (
        f"{wanted.workers} workers do not fit: a pod has {' and '.join(has)}, which is room for {room} of them, "
        f"and there {there}"
    )


def _on_gpus(gpu: float, gpus: int) -> int:
    """Return how many workers that take so much of a GPU, or so many, so many GPUs hold."""
    return gpus * int(1 / gpu + _ROUNDING) if gpu < 1 else int(gpus / gpu + _ROUNDING)
