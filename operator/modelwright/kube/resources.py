"""Every kind of object that the operator reads or writes, its address, and what is done with it.

The chart's RBAC grants that and no more.
"""

from dataclasses import dataclass

from modelwright.api.kinds import KINDS
from modelwright.api.schema import API_VERSION
from modelwright.plan import podgroup
from modelwright.plan.actions import Object


@dataclass(frozen=True)
class Resource:
    """One kind of object."""

    api_version: str
    kind: str
    plural: str
    verbs: tuple[str, ...]
    """Of the API server's; subresources aside."""

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of an object, or of a list when there is no name; no namespace means all of them."""
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)


_SEEN = ("list", "watch")
_APPLIED = ("create", "patch")

JOB = Resource("batch/v1", "Job", "jobs", ("get", *_SEEN, *_APPLIED, "delete"))
# Pods that outlive their Job, or a node that is gone, are deleted.
POD = Resource("v1", "Pod", "pods", (*_SEEN, "delete"))
# A user chose its name, so whose it is is asked first. It goes with its owner only.
SERVICE = Resource("v1", "Service", "services", ("get", *_SEEN, *_APPLIED))
DEPLOYMENT = Resource("apps/v1", "Deployment", "deployments", ("get", *_SEEN, *_APPLIED, "delete"))
SECRET = Resource("v1", "Secret", "secrets", ("get", "create"))
# Those of Jobs say which pods these may not make.
EVENT = Resource("v1", "Event", "events", ("list", "create"))
LEASE = Resource("coordination.k8s.io/v1", "Lease", "leases", ("get", "create", "update"))
TOKEN_REVIEW = Resource("authentication.k8s.io/v1", "TokenReview", "tokenreviews", ("create",))

RAY_JOB = Resource("ray.io/v1", "RayJob", "rayjobs", ("get", *_SEEN, *_APPLIED, "delete"))

CHILDREN = (JOB, POD, SERVICE, DEPLOYMENT)
"""What plans look at; these are watched."""
OPTIONAL = (RAY_JOB,)
"""The same, of other operators: watched where there are such kinds."""
# They go with their Jobs.
POD_GROUPS = tuple(Resource(version, podgroup.KIND, "podgroups", (*_SEEN, *_APPLIED)) for version in podgroup.VERSIONS)
"""The same for one of these where the cluster serves it: the first counts."""
CHILD_KINDS = frozenset(resource.kind for resource in (*CHILDREN, *OPTIONAL, *POD_GROUPS))
# Sweeps and drift policies make TrainingJobs; what ends is deleted when its time is over.
_WRITTEN = {"TrainingJob": (*_APPLIED, "delete"), "TuningSweep": ("delete",)}
OURS = tuple(
    Resource(API_VERSION, kind.kind, kind.plural, ("get", *_SEEN, *_WRITTEN.get(kind.kind, ()))) for kind in KINDS
)
ALL = (*CHILDREN, *OPTIONAL, *POD_GROUPS, SECRET, EVENT, LEASE, TOKEN_REVIEW, *OURS)
BY_PLURAL = {resource.plural: resource for resource in OURS}
_BY_TYPE = {(resource.api_version, resource.kind): resource for resource in ALL}


def resource_of(document: Object) -> Resource:
    """Return the resource of an object. Raises KeyError for a kind that the operator has no business with."""
    return find(document["apiVersion"], document["kind"])


def find(api_version: str, kind: str) -> Resource:
    """Return a resource by its type. Raises KeyError for a kind that the operator has no business with."""
    return _BY_TYPE[api_version, kind]
