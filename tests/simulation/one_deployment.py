"""One ModelDeployment in a world of its own: what it may suffer, what must hold for it, and what stays of it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from modelwright.plan import deployment
from modelwright.plan.actions import Object
from modelwright.plan.observed import OWNER_UID_LABEL
from modelwright.plan.serving_objects import version_of
from tests.simulation.chaos import Deed, Undo
from tests.simulation.cluster import Key, key_of, ref_of
from tests.simulation.deployments import CORRUPT, Servers, selected
from tests.simulation.world import NAMESPACE, World

MODEL = "churn-model"
GOOD = (1, 2, 3, 4)
BAD: dict[int, str | None] = {5: CORRUPT, 6: "", 7: None}
"""One says what is wrong with it, one falls over without a word, one hangs."""
DRAIN = 10
SPEC = {
    "model": {"name": MODEL, "alias": "champion"},
    "replicas": 2,
    # Longer than any fault lasts: a good version is never given up for being late.
    "rollout": {"progressDeadlineSeconds": 120, "drainSeconds": DRAIN},
}
_TIMES = frozenset({"lastTransitionTime", "since"})


class Simulation:
    """One ModelDeployment in a world of its own, and what must hold for it."""

    def __init__(self, spec: dict[str, Any] | None = None) -> None:
        # Three looks at the alias, a minute apart, take longer than the deadline.
        self.world = World({"ModelDeployment": deployment.plan}, idle_looks=4)
        self.servers = Servers(self.world, bad=dict(BAD))
        for version in (*GOOD, *BAD):
            self.world.bucket.register(MODEL, {"number": version})
        self.point(1)
        self.guard = Guard(self.world, "churn", self.servers)
        self.key = self.world.add("ModelDeployment", "churn", spec or SPEC)

    @property
    def ready(self) -> tuple[str, str] | None:
        return self.world.condition(self.key)

    @property
    def status(self) -> dict[str, Any]:
        return self.world.status(self.key)

    @property
    def selected(self) -> int | None:
        return selected(self.world, "churn")

    @property
    def fleets(self) -> dict[int, int]:
        """How many servers answer, by the versions that there are Deployments of."""
        found = (version_of(entry["metadata"]["labels"]) for entry in self.world.cluster.of_kind("Deployment"))
        return {version: self.servers.ready(version) for version in found if version is not None}

    def point(self, version: int) -> None:
        """Have somebody move the alias, of which nothing tells the operator."""
        self.world.bucket.set_alias(MODEL, "champion", version, "somebody", "because")

    def until(self, happens: Callable[[], bool]) -> None:
        """Take steps until something is so. Raises AssertionError where that never comes."""
        for _ in range(400):
            if happens():
                return
            self.world.step()
        raise AssertionError("it never happens")

    def end_state(self) -> Object:
        """Return all that stays, without times."""
        return {"status": timeless(self.status), "selected": self.selected, "fleets": self.fleets}

    def deeds(self) -> dict[str, Deed]:
        """Return what may happen to this deployment, and to no other kind."""
        return {
            **{f"alias to {version}": self._pointing(version) for version in (*GOOD, *BAD)},
            **{f"scaled to {count}": self._edit(replicas=count) for count in (1, 3)},
            "more memory": self._edit(server={"resources": {"limits": {"memory": "2Gi"}}}),
            "pinned": self._pin,
            "bad image": self._wrong_image,
            "server killed": lambda world: self.servers.kill(0),
            "other server killed": lambda world: self.servers.kill(1),
            "evicted": lambda world: self.servers.evict(1),
            "node lost": lambda world: self.servers.lose_node(0),
            "silence": self._silence,
            "no node": self._unschedulable,
            "fleet deleted": self._delete("Deployment"),
            "service deleted": self._delete("Service"),
            "fleet scaled by hand": self._scale_by_hand,
            "deployments refused": self._refuse,
            "made anew": self._recreate,
        }

    def _pointing(self, version: int) -> Deed:
        return lambda world: self.point(version)

    def _edit(self, **spec: Any) -> Deed:
        return lambda world: world.edit(self.key, **spec)

    def _pin(self, world: World) -> Undo:
        world.edit(self.key, model={"alias": None, "version": 3})
        return lambda: world.edit(self.key, model={"alias": "champion", "version": None})

    def _wrong_image(self, world: World) -> Undo:
        world.edit(self.key, server={"image": "server:broken"})
        return lambda: world.edit(self.key, server={"image": None})

    def _silence(self, world: World) -> Undo:
        self.servers.silent |= {pod["metadata"]["uid"] for pod in self.servers.pods()}
        return self.servers.silent.clear

    def _unschedulable(self, world: World) -> Undo:
        blocked = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
        world.kubelets.obstacle = lambda pod: {"conditions": [blocked]}
        return lambda: setattr(world.kubelets, "obstacle", None)

    def _delete(self, kind: str) -> Deed:
        def deed(world: World) -> None:
            for found in world.cluster.of_kind(kind):
                self.guard.by_hand.add(found["metadata"]["uid"])
                world.cluster.delete(ref_of(found))

        return deed

    def _scale_by_hand(self, world: World) -> None:
        for found in world.cluster.of_kind("Deployment"):
            world.cluster.patch(ref_of(found), {"spec": {"replicas": 1}})

    def _refuse(self, world: World) -> Undo:
        def policy(document: Object) -> str | None:
            return "deployments are forbidden here" if document["kind"] == "Deployment" else None

        world.cluster.admission.append(policy)
        return lambda: world.cluster.admission.remove(policy)

    def _recreate(self, world: World) -> None:
        found = world.cluster.get(self.key)
        if found is not None:
            world.remove(self.key)
            world.add("ModelDeployment", self.key.name, found["spec"])


class Guard:
    """Sees to it that requests always go to servers that answer, of one ModelDeployment in any world."""

    def __init__(self, world: World, name: str, servers: Servers) -> None:
        self.world, self.servers = world, servers
        self.key, self.service = Key("ModelDeployment", NAMESPACE, name), Key("Service", NAMESPACE, name)
        self.by_hand: set[str] = set()
        """UIDs of what a person deleted."""
        self.lagging = False
        """Whether views may be old: then what counts is what the operator sees."""
        self._fleets: dict[str, tuple[Object, int]] = {}
        self._left: dict[int, datetime] = {}
        """By version: when it was last selected."""
        self.switches = 0
        world.cluster.admission.append(self._check_switch)
        world.invariants.append(self.old_servers_stay)

    def old_servers_stay(self, world: World) -> None:
        """The operator deletes no fleet that is selected, nor one that answers before its drain is over."""
        now = {entry["metadata"]["uid"]: entry for entry in world.cluster.of_kind("Deployment")}
        choice = selected(world, self.key.name)
        for uid, (fleet, ready) in self._fleets.items():
            if uid in now or uid in self.by_hand or not self._is_ours(fleet):
                continue
            version = version_of(fleet["metadata"]["labels"]) or 0
            assert version != choice or not self._has_served(), f"version {version} is selected, and was deleted"
            seconds = self._fleet_drain(fleet)
            drained = world.now - self._left.get(version, world.now - seconds) >= seconds
            assert self.lagging or ready == 0 or drained, f"the servers of version {version} had no time to drain"
        if choice is not None:
            self._left[choice] = world.now
        self._fleets = {
            uid: (entry, int(entry.get("status", {}).get("readyReplicas", 0))) for uid, entry in now.items()
        }

    def _check_switch(self, document: Object) -> None:
        """Once something serves, the selector moves to a fleet that is ready.

        Only from one that is dead it moves to any that answers, and from one that is gone to any at all.
        """
        found = self.world.cluster.get(self.service)
        if key_of(document) != self.service or found is None or not self._is_ours(found) or not self._has_served():
            return
        before, after = (version_of(entry["spec"]["selector"]) or 0 for entry in (found, document))
        if before == after:
            return
        self.switches += 1
        owner = self.world.operator.view(self.key)
        assert owner is not None
        assert after not in self.servers.bad, f"version {after} does not load, and is selected"
        old, new = self._ready(before), self._ready(after) or 0
        assert new >= owner["spec"]["replicas"] or not old, f"from {old} of {before} to {new} of {after}"
        assert new or old is None, f"from {before} to {after}, where nobody answers"

    def _ready(self, version: int) -> int | None:
        views = (self.world.operator.view(key) for key in list(self.world.cluster.history) if key.kind == "Deployment")
        mine = (view for view in views if view and self._is_ours(view) and "deletionTimestamp" not in view["metadata"])
        found = [view for view in mine if version_of(view["metadata"]["labels"]) == version]
        return sum(int(view.get("status", {}).get("readyReplicas", 0)) for view in found) if found else None

    def _has_served(self) -> bool:
        return "serving" in self.world.status(self.key)

    def _is_ours(self, child: Object) -> bool:
        owner = self.world.cluster.get(self.key)
        return owner is not None and child["metadata"]["labels"][OWNER_UID_LABEL] == owner["metadata"]["uid"]

    def _fleet_drain(self, fleet: Object) -> timedelta:
        owner = self.world.cluster.get(self.key)
        seconds = (owner or {}).get("spec", {}).get("rollout", {}).get("drainSeconds", 15)
        return timedelta(seconds=seconds)


def timeless(value: Any) -> Any:
    """Return a status without what depends on when the operator looked."""
    if isinstance(value, dict):
        return {name: timeless(entry) for name, entry in value.items() if name not in _TIMES}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value
