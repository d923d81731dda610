"""Every kind of object that the operator reads or writes, and its address. The chart's RBAC grants these only."""

from dataclasses import dataclass

from modelwright.api.kinds import KINDS
from modelwright.api.schema import API_VERSION
from modelwright.plan.actions import Object


@dataclass(frozen=True)
class Resource:
    """One kind of object."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of an object, or of a list when there is no name; no namespace means all of them."""
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)


JOB = Resource("batch/v1", "Job", "jobs")
POD = Resource("v1", "Pod", "pods")
SERVICE = Resource("v1", "Service", "services")
DEPLOYMENT = Resource("apps/v1", "Deployment", "deployments")
SECRET = Resource("v1", "Secret", "secrets")
EVENT = Resource("v1", "Event", "events")
LEASE = Resource("coordination.k8s.io/v1", "Lease", "leases")
TOKEN_REVIEW = Resource("authentication.k8s.io/v1", "TokenReview", "tokenreviews")

CHILDREN = (JOB, POD, SERVICE, DEPLOYMENT)
"""What plans look at; these are watched."""
OURS = tuple(Resource(API_VERSION, kind.kind, kind.plural) for kind in KINDS)
BY_PLURAL = {resource.plural: resource for resource in OURS}
_BY_TYPE = {(resource.api_version, resource.kind): resource for resource in (*CHILDREN, SECRET, *OURS)}


def resource_of(document: Object) -> Resource:
    """Return the resource of an object. Raises KeyError for a kind that the operator has no business with."""
    return find(document["apiVersion"], document["kind"])


def find(api_version: str, kind: str) -> Resource:
    """Return a resource by its type. Raises KeyError for a kind that the operator has no business with."""
    return _BY_TYPE[api_version, kind]
