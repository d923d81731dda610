"""Many gangs that share a quota: it is never exceeded, nobody starts by halves, and everybody comes in at last."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.kube.admission import REFUSED_SECONDS
from modelwright.plan import training
from modelwright.plan.actions import Object
from modelwright.plan.attempts import finished
from modelwright.plan.quotas import Quota
from tests.simulation import chaos
from tests.simulation.chaos import Chaos, Deed, Fault
from tests.simulation.cluster import Key, ref_of
from tests.simulation.trainer import Trainer
from tests.simulation.world import NAMESPACE, SETTINGS, World

LIMIT = 4
QUOTAS = (Quota("cpus", {"cpu": Decimal(LIMIT)}),)
_CPUS = {"workers": {"image": "mine", "command": ["train"], "resources": {"requests": {"cpu": 1}}}}


class Fleet:
    """Some TrainingJobs in one world, with as many pods as their numbers say."""

    def __init__(self, *replicas: int) -> None:
        self.world = World({"TrainingJob": training.plan}, replace(SETTINGS, quotas=QUOTAS))
        self.world.controllers.append(Trainer(self.world))
        self.world.invariants.append(self.the_quota_holds)
        self.keys = [self.add(f"job-{number}", count) for number, count in enumerate(replicas)]

    def add(self, name: str, replicas: int, **spec: Any) -> Key:
        workers = {**_CPUS["workers"], "replicas": replicas}
        return self.world.add("TrainingJob", name, {"workers": workers, **spec})

    def the_quota_holds(self, world: World) -> None:
        running = [job for job in world.cluster.of_kind("Job") if not finished(job) and not job["spec"].get("suspend")]
        assert sum(job["spec"]["parallelism"] for job in running) <= LIMIT

    def reasons(self) -> list[str]:
        return [(self.world.condition(key) or ("", "None"))[1] for key in self.keys]


def _lose_a_pod(world: World) -> None:
    pods = world.cluster.of_kind("Pod")
    if pods:
        world.cluster.delete(ref_of(pods[-1]))


def _hold_the_first(world: World) -> chaos.Undo:
    key = Key("TrainingJob", NAMESPACE, "job-0")
    world.edit(key, suspend=True)
    return lambda: world.edit(key, suspend=False)


DEEDS: dict[str, Deed] = {
    "operator killed": chaos.kill,
    **chaos.WRITES,
    "events lost": chaos.lose_events,
    "jobs unseen": chaos.freeze("Job"),
    "pod lost": _lose_a_pod,
    "held": _hold_the_first,
}


def test_gangs_go_one_after_the_other_where_there_is_room_for_one() -> None:
    fleet = Fleet(3, 3, 3)
    fleet.world.run(3)
    assert fleet.reasons().count("Queued") == 2
    fleet.world.settle()
    assert fleet.reasons() == ["Succeeded"] * 3


def no_starts(document: Object) -> str | None:
    """Refuse, as a webhook would, that a Job of the first owner starts."""
    starts = document["kind"] == "Job" and not document["spec"].get("suspend")
    return "no pods before noon" if starts and document["metadata"]["name"].startswith("job-0") else None


def test_a_gang_that_may_not_start_says_why_until_it_starts_and_keeps_nobody() -> None:
    fleet = Fleet(4, 4)
    fleet.world.cluster.patch_admission.append(no_starts)
    fleet.world.settle()
    assert fleet.reasons() == ["ChildRejected", "Succeeded"]
    (ready, *_) = fleet.world.status(fleet.keys[0])["conditions"]
    assert ready["message"] == "there is room for its pods, but they may not start: no pods before noon"
    told = len(fleet.world.statuses[fleet.keys[0]])
    fleet.world.crash()
    fleet.world.settle()
    assert len(fleet.world.statuses[fleet.keys[0]]) == told, "a new process says nothing else"
    fleet.world.cluster.patch_admission.clear()
    fleet.world.now += timedelta(seconds=REFUSED_SECONDS)
    fleet.world.settle()
    assert fleet.reasons() == ["Succeeded"] * 2


def test_what_can_never_fit_says_so_and_keeps_nobody() -> None:
    fleet = Fleet(5, 4)
    fleet.world.settle()
    assert fleet.reasons() == ["QuotaTooSmall", "Succeeded"]


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), chaos.faults(DEEDS))
@settings(max_examples=40)
def test_whatever_happens_the_quota_holds_and_everybody_comes_in(replicas: list[int], faults: list[Fault]) -> None:
    fleet = Fleet(*replicas)
    Chaos(fleet.world, DEEDS).run(faults)
    assert set(fleet.reasons()) == {"Succeeded"}, fleet.reasons()


def test_an_old_gang_takes_its_place_again_after_a_loss() -> None:
    fleet = Fleet(4, 4)
    fleet.world.run(4)
    _lose_a_pod(fleet.world)
    fleet.world.settle()

    def begun(job: Object) -> str:
        return str(job["metadata"]["creationTimestamp"])

    assert fleet.reasons() == ["Succeeded"] * 2
    assert len(sorted(fleet.world.cluster.of_kind("Job"), key=begun)) == 3


def test_a_gang_that_lost_a_pod_goes_on_before_anybody_who_waits() -> None:
    fleet = Fleet(4)
    fleet.keys.append(fleet.add("late", 4, priority=-1))
    fleet.world.run(4)
    fleet.world.edit(fleet.keys[1], priority=9)
    _lose_a_pod(fleet.world)
    fleet.world.settle()
    jobs = sorted(fleet.world.cluster.of_kind("Job"), key=lambda job: str(job["status"]["startTime"]))
    assert [str(job["metadata"]["name"]).partition("-")[0] for job in jobs] == ["job", "job", "late"]
    assert fleet.reasons() == ["Succeeded"] * 2
