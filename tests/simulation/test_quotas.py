"""Many gangs that share a quota: it is never exceeded, nobody starts by halves, and everybody comes in at last."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelwright.kube.admission import REFUSED_SECONDS
from modelwright.plan import training
from modelwright.plan.actions import Object
from modelwright.plan.attempts import finished
from modelwright.plan.quotas import Quota
from modelwright.plan.rejections import PATIENCE
from tests.simulation import chaos
from tests.simulation.chaos import Chaos, Deed, Fault
from tests.simulation.cluster import Key, ref_of
from tests.simulation.nodes import finish, pods_of
from tests.simulation.trainer import Trainer
from tests.simulation.world import NAMESPACE, SETTINGS, World

LIMIT = 4
QUOTAS = (Quota("cpus", {"cpu": Decimal(LIMIT)}),)
_CPUS = {"workers": {"image": "mine", "command": ["train"], "resources": {"requests": {"cpu": 1}}}}


class Fleet:
    """Some TrainingJobs in one world, with as many pods as their numbers say."""

    def __init__(self, *replicas: int) -> None:
        self.world = World({"TrainingJob": training.plan}, replace(SETTINGS, quotas=QUOTAS))
        self.trainer = Trainer(self.world)
        self.world.controllers.append(self.trainer)
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

    def until(self, *reasons: str) -> None:
        """Take steps until that is said of the jobs. Raises AssertionError where that never comes."""
        for _ in range(200):
            if self.reasons() == [*reasons]:
                return
            self.world.step()
        raise AssertionError(self.reasons())

    def starts(self) -> list[str]:
        """Return whose Jobs have begun, in that order, those that are gone included."""
        begun: dict[str, str] = {}
        for change in self.world.cluster.log:
            state = orjson.loads(change.state or b"{}")
            if change.key.kind == "Job" and state.get("status", {}).get("startTime"):
                begun.setdefault(change.uid, change.key.name.rsplit("-", 2)[0])
        return [*begun.values()]


def _lose_a_pod(world: World) -> None:
    pods = world.cluster.of_kind("Pod")
    if pods:
        world.cluster.delete(ref_of(pods[-1]))


def _hold_the_first(world: World) -> chaos.Undo:
    key = Key("TrainingJob", NAMESPACE, "job-0")
    world.edit(key, suspend=True)
    return lambda: world.edit(key, suspend=False)


def _job_of_the_first(world: World) -> Object | None:
    jobs = [job for job in world.cluster.of_kind("Job") if job["metadata"]["name"].startswith("job-0-")]
    return next((job for job in jobs if not finished(job)), None)


def _delete_its_job(world: World, *, foreground: bool = False, orphan: bool = False) -> None:
    job = _job_of_the_first(world)
    if job is not None:
        world.cluster.delete(ref_of(job), foreground=foreground, orphan=orphan)


def _lose_its_node(world: World) -> None:
    """Let the node of one of its pods vanish: the others stand still."""
    job = _job_of_the_first(world)
    for pod in pods_of(world.cluster, job)[-1:] if job is not None else ():
        world.kubelets.lost.add(pod["metadata"]["uid"])
        world.nodes.silent.setdefault(pod["metadata"]["uid"], world.now)


def _leave_its_pod_stuck(world: World) -> None:
    """Let the node of one of its pods vanish when the pod is about to leave."""
    _lose_its_node(world)
    for uid in world.kubelets.lost:
        for pod in world.cluster.of_kind("Pod"):
            if pod["metadata"]["uid"] == uid:
                world.cluster.delete(ref_of(pod))


DEEDS: dict[str, Deed] = {
    "operator killed": chaos.kill,
    **chaos.WRITES,
    "events lost": chaos.lose_events,
    "jobs unseen": chaos.freeze("Job"),
    "pod lost": _lose_a_pod,
    "job deleted": _delete_its_job,
    "job deleted after its pods": lambda world: _delete_its_job(world, foreground=True),
    "job orphaned": lambda world: _delete_its_job(world, orphan=True),
    "node lost": _lose_its_node,
    "pod stuck": _leave_its_pod_stuck,
    "held": _hold_the_first,
    "webhook down": chaos.webhook_down,
}
LOSSES = ("pod lost", "job deleted", "job deleted after its pods", "job orphaned", "node lost", "pod stuck")


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


def _webhook_goes_as_a_pod_does() -> tuple[Fleet, chaos.Undo]:
    """Return a gang that would begin again, with one behind it, and what lets the webhook answer."""
    fleet = _with_one_behind()
    answer = chaos.webhook_down(fleet.world)
    _lose_a_pod(fleet.world)
    fleet.until("WebhookUnavailable", "Queued")
    return fleet, answer


def test_a_webhook_that_is_down_for_a_moment_does_not_cost_a_gang_its_room() -> None:
    fleet, answer = _webhook_goes_as_a_pod_does()
    (ready, *_) = fleet.world.status(fleet.keys[0])["conditions"]
    assert chaos.WEBHOOK_DOWN in ready["message"]
    fleet.world.run(10)
    answer()
    fleet.world.settle()
    assert fleet.starts() == ["job-0", "job-0", "late"]
    assert fleet.reasons() == ["Succeeded"] * 2


def test_a_gang_that_is_let_in_while_a_webhook_is_down_says_so_and_starts_when_it_is_back() -> None:
    fleet = Fleet(4, 4)
    fleet.world.cluster.patch_admission.append(chaos.asked_in_vain)
    fleet.until("WebhookUnavailable", "Queued")
    fleet.world.crash()
    fleet.world.run(3)
    fleet.world.cluster.patch_admission.clear()
    fleet.world.run(2)
    assert fleet.starts() == ["job-0"]
    fleet.world.settle()
    assert fleet.reasons() == ["Succeeded"] * 2


def test_a_gang_gives_its_room_up_where_a_webhook_does_not_come_back() -> None:
    fleet, answer = _webhook_goes_as_a_pod_does()
    fleet.world.now += timedelta(seconds=PATIENCE)
    fleet.until("ChildRejected", "WebhookUnavailable")
    answer()
    fleet.world.settle()
    assert fleet.starts() == ["job-0", "late", "job-0"]
    assert fleet.reasons() == ["Succeeded"] * 2


def test_what_can_never_fit_says_so_and_keeps_nobody() -> None:
    fleet = Fleet(5, 4)
    fleet.world.settle()
    assert fleet.reasons() == ["QuotaTooSmall", "Succeeded"]


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), chaos.faults(DEEDS))
@settings(max_examples=40)
@example([1, 1], [Fault(9, "webhook down", 1), Fault(7, "held", 1)])
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


def _with_one_behind(**spec: Any) -> Fleet:
    """Return a gang that trains and takes all of the quota, and a more important one that came when it did."""
    fleet = Fleet()
    fleet.trainer.total = 60
    fleet.keys.append(fleet.add("job-0", 4, **spec))
    fleet.world.run(4)
    fleet.keys.append(fleet.add("late", 4, priority=9))
    fleet.world.run(2)
    assert fleet.reasons()[1] == "Queued"
    return fleet


@pytest.mark.parametrize("loss", LOSSES)
def test_a_gang_that_is_lost_keeps_its_room_whatever_becomes_of_its_job(loss: str) -> None:
    fleet = _with_one_behind()
    DEEDS[loss](fleet.world)
    fleet.world.settle()
    assert fleet.starts() == ["job-0", "job-0", "late"]
    assert fleet.reasons() == ["Succeeded"] * 2


def test_a_gang_that_did_not_start_in_time_keeps_its_room() -> None:
    fleet = Fleet()
    waiting = {"name": "worker", "image": "mine", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    fleet.world.kubelets.obstacle = lambda pod: {
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-23T10:00:00Z"}],
        "containerStatuses": [waiting],
    }
    fleet.keys.append(fleet.add("job-0", 4, failurePolicy={"startupTimeoutSeconds": 10, "backoffSeconds": 0}))
    fleet.world.run(3)
    fleet.keys.append(fleet.add("late", 4, priority=9))
    fleet.until("Restarting", "Queued")
    fleet.world.kubelets.obstacle = None
    fleet.world.settle()
    assert fleet.starts() == ["job-0", "job-0", "late"]


@pytest.mark.parametrize("loss", ["pod lost", "node lost", "pod stuck"])
def test_a_new_operator_keeps_the_room_of_a_gang_that_is_lost(loss: str) -> None:
    fleet = _with_one_behind(failurePolicy={"backoffSeconds": 20})
    DEEDS[loss](fleet.world)
    fleet.until("Restarting", "Queued")
    while "Restarting" in fleet.reasons():
        fleet.world.crash()
        fleet.world.step()
    fleet.world.settle()
    assert fleet.starts() == ["job-0", "job-0", "late"]
    assert fleet.reasons() == ["Succeeded"] * 2


def test_a_new_operator_keeps_the_room_of_a_gang_of_which_a_pod_was_refused_and_another_one_lost() -> None:
    fleet = Fleet(4, 4)
    pods = partial(fleet.world.cluster.of_kind, "Pod")
    fleet.world.cluster.admission.append(
        lambda document: "exceeded quota" if document["kind"] == "Pod" and len(pods()) == 3 else None
    )
    fleet.until("PodsRejected", "Queued")
    finish(fleet.world.cluster, pods()[0], code=1)
    fleet.world.cluster.admission.clear()
    fleet.world.act_unseen(8)
    fleet.world.crash()
    fleet.world.settle()
    assert fleet.starts() == ["job-0", "job-0", "job-1"]
    assert fleet.reasons() == ["Succeeded"] * 2


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("loss", ["pod lost", "pod stuck"])
def test_a_gang_that_was_held_between_two_attempts_has_given_its_room_away(loss: str, crash: bool) -> None:
    fleet = _with_one_behind(failurePolicy={"backoffSeconds": 20})
    DEEDS[loss](fleet.world)
    fleet.until("Restarting", "Queued")
    fleet.world.edit(fleet.keys[0], suspend=True)
    fleet.until("Suspended", "Training")
    fleet.world.edit(fleet.keys[0], suspend=False)
    fleet.world.step()
    if crash:
        fleet.world.crash()
    fleet.world.settle()
    assert fleet.starts() == ["job-0", "late", "job-0"]
    assert fleet.reasons() == ["Succeeded"] * 2


def test_the_room_of_a_gang_that_is_lost_and_deleted_is_free() -> None:
    fleet = _with_one_behind()
    DEEDS["pod stuck"](fleet.world)
    fleet.until("Restarting", "Queued")
    fleet.world.remove(fleet.keys[0])
    fleet.until("None", "Training")
