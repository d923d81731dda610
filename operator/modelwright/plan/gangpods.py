"""The pod template of a gang: what the operator proposes, what the user makes of it, and what stays as it must."""

from typing import Any

from modelwright.api.podtemplate import WORKER, GangPods, Topology
from modelwright.plan.actions import Object
from modelwright.plan.podtemplate import merge

_NODE, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
_FALLBACK_TO_LOGS = "FallbackToLogsOnError"
_NEAR_WEIGHTS = (100, 50)
_ESCALATING = ("SYS_ADMIN", "CAP_SYS_ADMIN")
_ESCALATION_UNSAID: Object = {
    "spec": {"containers": [{"name": WORKER, "securityContext": {"allowPrivilegeEscalation": None}}]}
}


def overridden(workers: GangPods, proposed: Object) -> Object:
    """Return the pod template that is proposed, with what the user says about it merged into it."""
    patch = workers.pod_template.patch() if workers.pod_template else {}
    made = merge(proposed, patch)
    if any(_escalates(container.get("securityContext")) for container in made["spec"]["containers"]):
        # With our allowPrivilegeEscalation beside it, Kubernetes takes it in no namespace. One of the user's stays.
        made = merge(merge(proposed, _ESCALATION_UNSAID), patch)
    spec = made["spec"]
    if spec.get("hostNetwork"):
        # Without it such a pod asks the resolver of its node, which does not know the names of pods.
        spec.setdefault("dnsPolicy", "ClusterFirstWithHostNet")
    if spec.get("initContainers"):
        spec["initContainers"] = [_speaking(entry) for entry in spec["initContainers"]]
    return made


def sealed(made: Object, contract: Object, avoided_nodes: tuple[str, ...]) -> Object:
    """Return a pod template in which the contract holds, whatever it said, and of which no pod runs on those nodes."""
    done = merge(made, contract)
    if avoided_nodes:
        done["spec"]["affinity"] = _away_from(avoided_nodes, done["spec"].get("affinity") or {})
    return done


def grace_seconds(workers: GangPods, default: int | None) -> int | None:
    """Return the seconds between SIGTERM and SIGKILL that the pods will have; None: as Kubernetes decides."""
    asked = workers.pod_template.spec.termination_grace_period_seconds if workers.pod_template else None
    return default if asked is None else asked


def shared_memory(workers: GangPods) -> Object:
    """Return the source of the volume at /dev/shm."""
    limit = {} if workers.shared_memory is None else {"sizeLimit": str(workers.shared_memory)}
    return {"medium": "Memory", **limit}


def placement(workers: GangPods, selector: Object) -> Object:
    """Return the fields of a pod spec by which pods with the same labels seek or shun each other."""
    chosen = (workers.topology_key,) if workers.topology_key else ()
    match workers.topology:
        case Topology.PACK:
            near = zip(chosen or (_NODE, _ZONE), _NEAR_WEIGHTS, strict=False)
            terms = [{"weight": weight, "podAffinityTerm": _term(key, selector)} for key, weight in near]
            return {"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}}
        case Topology.SPREAD:
            spread = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": selector}}
            return {"topologySpreadConstraints": [{"topologyKey": key, **spread} for key in chosen or (_NODE,)]}
    return {}


def _term(key: str, selector: Object) -> Object:
    return {"topologyKey": key, "labelSelector": {"matchLabels": selector}}


def _speaking(container: Object) -> Object:
    """Return an init container whose last words are seen when it fails."""
    return {"terminationMessagePolicy": _FALLBACK_TO_LOGS, **container}


def _escalates(context: Any) -> bool:
    """Tell whether a container may gain privileges by what else its security context says."""
    if not isinstance(context, dict):
        return False
    capabilities = context.get("capabilities")
    added = capabilities.get("add") if isinstance(capabilities, dict) else None
    return context.get("privileged") is True or (isinstance(added, list) and any(map(added.count, _ESCALATING)))


def _away_from(nodes: tuple[str, ...], affinity: Object) -> Object:
    # By its name and not by a label: a field takes one value, so there is a requirement for each node.
    unwanted = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in nodes]
    to_nodes = affinity.get("nodeAffinity") or {}
    required = to_nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    # One term is enough for a node to be taken, so each of them has to keep away from these.
    given: list[Object] = required.get("nodeSelectorTerms") or [{}]
    terms = [{**term, "matchFields": [*(term.get("matchFields") or ()), *unwanted]} for term in given]
    wanted = {**required, "nodeSelectorTerms": terms}
    return {**affinity, "nodeAffinity": {**to_nodes, "requiredDuringSchedulingIgnoredDuringExecution": wanted}}
