"""Faults that any world can suffer: what goes wrong between the operator, the API server and S3."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson
from hypothesis import strategies as st

from modelwright.kube import errors
from modelwright.plan.actions import Object
from tests.simulation.cluster import Key, key_of, ref_of
from tests.simulation.world import NAMESPACE, World

Undo: TypeAlias = Callable[[], None]
Deed: TypeAlias = Callable[[World], Undo | None]
"""Does harm; what it returns ends the harm."""
WEBHOOK_DOWN = 'Internal error occurred: failed calling webhook "v.kyverno.svc": connection refused'


@dataclass(frozen=True)
class Fault:
    """A named deed, at a step, for some steps."""

    step: int
    name: str
    lasts: int = 5


@dataclass
class Chaos:
    """Does what a list of faults says while a world runs, and then lets everything heal."""

    world: World
    deeds: Mapping[str, Deed]
    done: list[str] = field(default_factory=list)

    def run(self, faults: Iterable[Fault]) -> None:
        """Run the world through all faults, heal it, and let it settle."""
        plan = sorted(faults, key=lambda fault: (fault.step, fault.name))
        undo: list[tuple[int, Undo]] = []
        last = max((fault.step + fault.lasts for fault in plan), default=0)
        for step in range(last + 1):
            for fault in plan:
                if fault.step == step:
                    self.done.append(fault.name)
                    back = self.deeds[fault.name](self.world)
                    undo += [(step + fault.lasts, back)] if back is not None else []
            for at, back in undo:
                if at == step:
                    back()
            self.world.step()
        self.world.faults.next_writes.clear()
        self.world.operator.resync()
        self.world.settle()


def faults(names: Iterable[str], steps: int = 40, most: int = 6) -> st.SearchStrategy[list[Fault]]:
    """Return lists of faults of some names within so many steps."""
    one = st.builds(Fault, st.integers(0, steps), st.sampled_from(sorted(names)), st.integers(1, 20))
    return st.lists(one, max_size=most)


def next_write(fate: str) -> Deed:
    """Return the deed that lets the next write meet a fate."""

    def deed(world: World) -> None:
        world.faults.next_writes.append(fate)

    return deed


def freeze(kind: str) -> Deed:
    """Return the deed that stops the watch of a kind: views stay what they are, but for what this process writes."""

    def deed(world: World) -> Undo:
        world.faults.frozen.setdefault(kind, world.cluster.version)
        return lambda: _thaw(world, kind)

    return deed


def rewind(kinds: Iterable[str], back: int) -> Deed:
    """Return the deed that serves some kinds as they were some writes ago, this process' own writes left out.

    No cache of ours does that; but what is safe against it is safe against every cache. No view is older than the first
    status that was written: there is nothing that a planner could be wrong about before.
    """

    def deed(world: World) -> Undo | None:
        first = min((entry[1] for entry in _first_statuses(world)), default=None)
        if first is None:
            return None
        world.faults.frozen |= dict.fromkeys(kinds, max(first, world.cluster.version - back))
        world.faults.forgetful = True
        world.operator.resync()

        def undo() -> None:
            world.faults.forgetful = False
            for kind in kinds:
                _thaw(world, kind)

        return undo

    return deed


def kill(world: World) -> None:
    """Let the operator die between two looks."""
    world.crash()


def poke(world: World) -> None:
    """Say of everything that it has changed, though it has not."""
    world.operator.resync()


def lose_events(world: World) -> Undo:
    """Forget what is to be looked at, until the next list."""
    world.operator.lose_wakes()
    return world.operator.resync


def s3_down(world: World) -> Undo:
    """Let S3 be away."""
    world.bucket.down = True

    def undo() -> None:
        world.bucket.down = False

    return undo


def s3_error(world: World) -> None:
    """Let the next call to S3 fail."""
    world.bucket.errors_ahead += 1


def s3_answer_lost(world: World) -> None:
    """Let the next write to S3 be done, and its answer be lost."""
    world.bucket.answers_lost_ahead += 1


def secret_missing(world: World) -> Undo | None:
    """Take away the Secret of the storage."""
    found = world.cluster.get(Key("Secret", NAMESPACE, "s3"))
    if found is None:
        return None
    world.cluster.delete(ref_of(found))
    return lambda: world.add_secret("s3")


def children_refused(world: World) -> Undo:
    """Let a policy refuse every new Job."""

    def policy(document: Object) -> str | None:
        return "jobs are forbidden here" if document["kind"] == "Job" else None

    world.cluster.admission.append(policy)
    return lambda: world.cluster.admission.remove(policy)


def asked_in_vain(document: Object) -> str | None:
    """Be a webhook that does not answer; it is asked about what holds pods, or leads to them."""
    if document["kind"] in ("TrainingJob", "Job", "RayJob", "Deployment"):
        raise errors.from_response(500, orjson.dumps({"message": WEBHOOK_DOWN}))
    return None


def webhook_down(world: World) -> Undo:
    """Let a webhook not answer, whatever is to be done."""
    chains = (world.cluster.admission, world.cluster.patch_admission)
    for chain in chains:
        chain.append(asked_in_vain)

    def undo() -> None:
        for chain in chains:
            chain.remove(asked_in_vain)

    return undo


def status_refused(world: World) -> Undo:
    """Let the API server take nothing of a status but its conditions, as where the rest breaks a rule of the schema."""

    def policy(document: Object) -> str | None:
        found = world.cluster.objects[key_of(document)].get("status", {})
        return None if _unsaid(document["status"]) == _unsaid(found) else "status is invalid"

    world.cluster.status_admission.append(policy)
    return lambda: world.cluster.status_admission.remove(policy)


def _unsaid(status: Object) -> Object:
    return {name: value for name, value in status.items() if name not in ("conditions", "observedGeneration")}


def _first_statuses(world: World) -> list[tuple[Key, int]]:
    found = []
    for key in world.statuses:
        versions = [version for version, state in world.cluster.history[key] if state and b'"status"' in state]
        found += [(key, versions[0])] if versions else []
    return found


def _thaw(world: World, kind: str) -> None:
    world.faults.frozen.pop(kind, None)
    world.operator.resync()


WRITES: Mapping[str, Deed] = {fate: next_write(fate) for fate in ("conflict", "error", "timeout", "crash")}
STORAGE: Mapping[str, Deed] = {
    "s3 down": s3_down,
    "s3 error": s3_error,
    "s3 answer lost": s3_answer_lost,
    "secret missing": secret_missing,
}
GENERAL: Mapping[str, Deed] = {
    **WRITES,
    **STORAGE,
    "kill": kill,
    "poke": poke,
    "lose events": lose_events,
    "children refused": children_refused,
    "webhook down": webhook_down,
    "status refused": status_refused,
}
"""What may happen to an object of any kind."""
