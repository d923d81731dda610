"""The two workers of a gang on two nodes of the local cluster: worker 0 on the first, worker 1 on the second.

As long as both nodes are there, that is; who comes when the second is lost finds room on the first.
"""

from collections.abc import Iterable

from e2e.cluster import runtime
from e2e.cluster.settings import NODE_NAME, SECOND_NODE, SECOND_NODE_NAME
from e2e.scenarios import specs
from e2e.support.resources import Object

NODES = (NODE_NAME, SECOND_NODE_NAME)
"""By worker."""
INDEX = "batch.kubernetes.io/job-completion-index"
_NODE = "kubernetes.io/hostname"
_GANG, _ANCHOR = "e2e/gang", "e2e/anchor"
_TOLERATION: Object = {"key": SECOND_NODE, "operator": "Exists", "effect": "NoSchedule"}


def anchors() -> list[Object]:
    """Return a pod for each node, which draws the worker of its index there; to be applied before the gang is.

    All workers have one template, and the scheduler takes them in an order of its own: this tells them apart.
    """
    return [_anchor(index, node) for index, node in enumerate(NODES)]


def on_two_nodes(entry: Object) -> Object:
    """Return a TrainingJob or a Job of two workers with what it takes; anything else as it is."""
    name = entry["metadata"]["name"]
    metadata = {"labels": {_GANG: name}}
    match entry["kind"]:
        case "TrainingJob":
            template = {"metadata": metadata, "spec": _spread(name)}
            return specs.changed(entry, workers={"tolerations": [_TOLERATION], "podTemplate": template})
        case "Job":
            template = {"metadata": metadata, "spec": {**_spread(name), "tolerations": [_TOLERATION]}}
            return specs.changed(entry, template=template)
    return entry


def nodes_of(pods: Iterable[Object]) -> tuple[str, ...]:
    """Return the nodes of the pods of a gang, by worker; empty strings for those that have none."""
    gang = [pod for pod in pods if _ANCHOR not in pod["metadata"].get("labels", {})]
    gang.sort(key=lambda pod: int(pod["metadata"]["labels"][INDEX]))
    return tuple(pod["spec"].get("nodeName", "") for pod in gang)


def _spread(name: str) -> Object:
    near = {
        "topologyKey": _NODE,
        "labelSelector": {"matchLabels": {_ANCHOR: "true"}},
        "matchLabelKeys": [INDEX],
    }
    evenly = {
        "topologyKey": _NODE,
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {_GANG: name}},
        # A node that does not answer is tainted: it does not count any more, and both may run on the other.
        "nodeTaintsPolicy": "Honor",
    }
    preferred = [{"weight": 100, "podAffinityTerm": near}]
    return {
        "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}},
        "topologySpreadConstraints": [evenly],
    }


def _anchor(index: int, node: str) -> Object:
    container = {"name": "anchor", "image": runtime.pause_image(), "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"anchor-{index}", "labels": {_ANCHOR: "true", INDEX: str(index)}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [container],
        },
    }
