"""What the pods of a gang ask for, with everything that an override adds or changes.

The rules are those of Kubernetes' scheduler: a limit without a request is one; side-cars count beside the containers,
each other init container while it runs; resources of the pod as a whole count instead, and its overhead on top
(k8s.io/component-helpers/resource, PodRequests).
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from modelwright.api.podtemplate import WORKER, GangPods
from modelwright.plan.actions import Object
from modelwright.plan.podtemplate import DIRECTIVE, merge
from modelwright.plan.quantity import amount

Amounts: TypeAlias = dict[str, Decimal]


def of_job(job: Object, *, at_least: int = 1) -> Amounts:
    """Return what all pods of a Job request together, as its template says, or so many of them where it has fewer."""
    spec = job["spec"]
    each = of_pod((spec.get("template") or {}).get("spec") or {})
    count = max(int(spec.get("parallelism", 1)), at_least)
    return {name: count * value for name, value in each.items()}


def of_gang(workers: GangPods, replicas: int) -> Amounts:
    """Return what the Job of a gang will request, before there is one."""
    override = workers.pod_template.patch() if workers.pod_template else {}
    pod = _pod(workers.resources.document(), override)
    return {name: replicas * value for name, value in of_pod(pod).items()}


def of_pod(spec: Object) -> Amounts:
    """Return what a pod requests. What is no quantity counts for nothing: the API server refuses the pod."""
    beside: Amounts = {}
    most: Amounts = {}
    for container in _maps(spec.get("initContainers")):
        wanted = _requests(container.get("resources"))
        if container.get("restartPolicy") == "Always":
            beside = _sum(beside, wanted)
            most = _most(most, beside)
        else:
            most = _most(most, _sum(beside, wanted))
    running = beside
    for container in _maps(spec.get("containers")):
        running = _sum(running, _requests(container.get("resources")))
    return _sum({**_most(most, running), **_requests(spec.get("resources"))}, _amounts(spec.get("overhead")))


def worker_limits(workers: Object) -> dict[str, str | int]:
    """Return the limits of the container that runs the program; `workers` as in a spec, in their JSON form."""
    return _of_worker(workers, "limits")


def worker_requests(workers: Object) -> dict[str, str | int]:
    """Return the requests of that container, as they are written: a limit without one is none here."""
    return _of_worker(workers, "requests")


def slim(spec: Object) -> Object:
    """Return of a pod's spec, or of an override of one, what is counted here."""
    kept: Object = {name: spec[name] for name in ("resources", "overhead") if name in spec}
    for field in ("containers", "initContainers"):
        if field in spec:
            known = ("name", "restartPolicy", "resources", DIRECTIVE)
            kept[field] = [{name: entry[name] for name in known if name in entry} for entry in _maps(spec[field])]
    return kept


def _of_worker(workers: Object, side: str) -> dict[str, str | int]:
    pod = _pod(_map(workers.get("resources")), _map(workers.get("podTemplate")))
    worker = next(iter(_maps(pod.get("containers"))), {})
    found = _map(worker.get("resources")).get(side)
    return {name: value for name, value in _map(found).items() if isinstance(value, str | int)}


def _pod(resources: Object, override: Object) -> Object:
    # An override may say much else, and whoever scrapes the metrics has all jobs counted.
    counted = slim(_map(override.get("spec")))
    proposed = {"containers": [{"name": WORKER, "resources": resources}]}
    return _map(merge({"spec": proposed}, {"spec": counted}).get("spec"))


def _requests(resources: Any) -> Amounts:
    found = _map(resources)
    return {**_amounts(found.get("limits")), **_amounts(found.get("requests"))}


def _amounts(found: Any) -> Amounts:
    amounts = {}
    for name, value in _map(found).items():
        try:
            amounts[str(name)] = max(amount(value), Decimal(0))
        except ValueError:
            continue
    return amounts


def _sum(first: Mapping[str, Decimal], second: Mapping[str, Decimal]) -> Amounts:
    return {name: first.get(name, Decimal(0)) + second.get(name, Decimal(0)) for name in {**first, **second}}


def _most(first: Mapping[str, Decimal], second: Mapping[str, Decimal]) -> Amounts:
    nothing = Decimal(0)
    return {name: max(first.get(name, nothing), second.get(name, nothing)) for name in {**first, **second}}


def _map(found: Any) -> Object:
    """Return a map; empty for what is none, of which an override may be full."""
    return found if isinstance(found, dict) else {}


def _maps(found: Any) -> list[Object]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
