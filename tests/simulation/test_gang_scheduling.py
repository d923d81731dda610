"""Gangs on nodes without room for all of them: with PodGroups none holds half of what it needs, and all come in."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.plan import training
from modelwright.plan.attempts import attempt_of, finished
from modelwright.plan.podgroup import KIND
from tests.simulation import chaos
from tests.simulation.chaos import Chaos, Deed, Fault
from tests.simulation.cluster import key_of, ref_of
from tests.simulation.gang_nodes import GangNodes
from tests.simulation.nodes import pods_of
from tests.simulation.one_elastic import ELASTIC, WORKERS, Elastic
from tests.simulation.one_job import COMMAND, Simulation
from tests.simulation.one_owner import assert_every_failed_write_is_made_good, assert_no_crash_changes_anything, prepare
from tests.simulation.profile import PROFILE, TIMEOUT
from tests.simulation.trainer import Trainer
from tests.simulation.world import SETTINGS, World

pytestmark = pytest.mark.timeout(TIMEOUT)
GROUPED = replace(SETTINGS, pod_groups="scheduling.k8s.io/v1alpha2")
SLOTS = 4


class Gangs:
    """Some TrainingJobs in one world with room for so many pods."""

    def __init__(self, *replicas: int) -> None:
        self.world = World({"TrainingJob": training.plan}, GROUPED)
        self.nodes = GangNodes(self.world, SLOTS)
        self.world.kubelets.obstacle = self.nodes.obstacle
        self.trainer = Trainer(self.world)
        self.world.controllers.append(self.trainer)
        self.world.invariants += [none_holds_half, groups_have_a_job]
        self.keys = [self.world.add("TrainingJob", f"job-{number}", of(count)) for number, count in enumerate(replicas)]

    def reasons(self) -> list[str]:
        return [(self.world.condition(key) or ("", "None"))[1] for key in self.keys]


def of(replicas: int) -> dict[str, Any]:
    return {"workers": {**COMMAND["workers"], "replicas": replicas}}


def none_holds_half(world: World) -> None:
    """No gang that nothing has happened to has some of its pods on nodes, and not all."""
    for job in world.cluster.of_kind("Job"):
        pods = pods_of(world.cluster, job)
        untouched = not job.get("status", {}).get("conditions") and "deletionTimestamp" not in job["metadata"]
        if untouched and {pod["status"]["phase"] for pod in pods} <= {"Pending", "Running"}:
            running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
            complete = len(pods) == job["spec"]["completions"] and not any(map(_leaves, pods))
            assert not complete or len(running) in (0, len(pods)), job["metadata"]["name"]


def _leaves(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def groups_have_a_job(world: World) -> None:
    """A group is that of a Job, and of all of its pods."""
    jobs = {job["metadata"]["name"]: job for job in world.cluster.of_kind("Job")}
    for group in world.cluster.of_kind(KIND):
        (owner,) = group["metadata"]["ownerReferences"]
        job = jobs.get(owner["name"])
        if job is not None and job["metadata"]["uid"] == owner["uid"]:
            assert group["spec"]["schedulingPolicy"]["gang"]["minCount"] == job["spec"]["completions"]
            assert attempt_of(group) == attempt_of(job)


def lose_a_pod(world: World) -> None:
    pods = world.cluster.of_kind("Pod")
    if pods:
        world.cluster.delete(ref_of(pods[-1]))


def delete_a_group(world: World) -> None:
    """Delete a group that no pod uses; Kubernetes keeps the others until none does."""
    for group in world.cluster.of_kind(KIND):
        (owner,) = group["metadata"]["ownerReferences"]
        if not any(entry["uid"] == owner["uid"] for pod in world.cluster.of_kind("Pod") for entry in _owners(pod)):
            world.cluster.remove(key_of(group))


def _owners(document: dict[str, Any]) -> list[dict[str, Any]]:
    owners: list[dict[str, Any]] = document["metadata"].get("ownerReferences", [])
    return owners


def hold_the_first(world: World) -> chaos.Undo:
    first, *_ = world.cluster.of_kind("TrainingJob")
    world.edit(key_of(first), suspend=True)
    return lambda: world.edit(key_of(first), suspend=False)


DEEDS: dict[str, Deed] = {
    "operator killed": chaos.kill,
    **chaos.WRITES,
    "events lost": chaos.lose_events,
    "groups unseen": chaos.freeze(KIND),
    "jobs unseen": chaos.freeze("Job"),
    "pod lost": lose_a_pod,
    "group deleted": delete_a_group,
    "held": hold_the_first,
}


@PROFILE
@given(st.lists(st.integers(1, SLOTS), min_size=2, max_size=4), chaos.faults(DEEDS))
def test_whatever_happens_none_holds_half_and_everybody_comes_in(replicas: list[int], faults: list[Fault]) -> None:
    gangs = Gangs(*replicas)
    Chaos(gangs.world, DEEDS).run(faults)
    assert set(gangs.reasons()) == {"Succeeded"}, gangs.reasons()
    gangs.world.assert_steady()


def test_a_gang_without_room_for_all_says_so_and_leaves_the_room_to_others() -> None:
    gangs = Gangs(3, 2, 1)
    gangs.world.run(4)
    assert gangs.reasons() == ["Training", "Unschedulable", "Training"]
    message = gangs.world.status(gangs.keys[1])["conditions"][0]["message"]
    assert message.startswith("2 pods must find nodes together, and do not: ")
    gangs.world.settle()
    assert gangs.reasons() == ["Succeeded"] * 3


def test_of_the_groups_only_those_of_gangs_are_made_each_once() -> None:
    gangs = Gangs(1, 2)
    gangs.world.settle()
    applied = [words for words in gangs.world.writes if words.startswith(f"apply {KIND}")]
    (job,) = [job for job in gangs.world.cluster.of_kind("Job") if job["spec"]["completions"] == 2]
    assert applied == [f"apply {KIND} {job['metadata']['name']}"]
    gangs.world.assert_steady()


def play(crash_after: int | None = None, fates: tuple[str, ...] = ()) -> Simulation:
    """Play a gang that is held, goes on, loses a pod, and ends."""
    sim = Simulation(COMMAND)
    # Long enough that a suspension that fails at first still finds it at work.
    sim.trainer.total = 40
    sim.world.settings = GROUPED
    sim.world.operator = sim.world.new_operator()
    nodes = GangNodes(sim.world, 2)
    sim.world.kubelets.obstacle = nodes.obstacle
    prepare(sim, crash_after, fates)
    sim.until_pods_run()
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    delete_a_group(sim.world)
    sim.world.edit(sim.key, suspend=False)
    sim.until_pods_run()
    sim.trainer.fail("evicted", 1)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert not [job for job in sim.world.cluster.of_kind("Job") if not finished(job)]
    return sim


def test_a_crash_after_any_write_changes_nothing() -> None:
    assert_no_crash_changes_anything(partial(play))


def test_a_write_that_fails_is_made_good() -> None:
    assert_every_failed_write_is_made_good(partial(play))


def elastic(minimum: int, slots: int) -> Elastic:
    workers = {**WORKERS, "elastic": {**WORKERS["elastic"], "min": minimum}}
    sim = Elastic({**ELASTIC, "workers": workers}, slots=slots)
    sim.nodes = GangNodes(sim.world, slots)
    sim.world.kubelets.obstacle = sim.nodes.obstacle
    sim.world.settings = GROUPED
    sim.world.operator = sim.world.new_operator()
    return sim


def test_an_elastic_gang_shrinks_to_the_room_there_is_and_grows_as_without_groups() -> None:
    sim = elastic(2, slots=2)
    sim.until_attempt_runs(2)
    sim.nodes.slots = 3
    sim.until_attempt_runs(3)
    sim.world.settle()
    assert sim.sizes == [(3, "Shrunk"), (2, "Grown"), (3, "Completed")]
    assert sim.ready == ("True", "Succeeded")


def test_an_elastic_gang_takes_nothing_below_its_minimum() -> None:
    sim = elastic(2, slots=1)
    sim.world.run(40)
    assert sim.ready == ("False", "Unschedulable")
    assert not [pod for pod in sim.world.cluster.of_kind("Pod") if pod["status"]["phase"] == "Running"]
    sim.nodes.slots = 2
    sim.world.settle()
    assert sim.sizes == [(3, "Shrunk"), (2, "Completed")]
