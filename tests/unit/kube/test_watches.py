from modelwright.kube.objects import Key, Objects
from modelwright.kube.queue import Outcome, Queue
from modelwright.kube.watches import WatchIndex
from modelwright.kube.wiring import Dispatcher
from modelwright.plan.actions import AliasWatch, ObjectWatch
from tests.unit.kube.fake_api import child, of_kind, training_job

POLICY = Key("DriftPolicy", "ns", "p")
SWEEP = Key("TuningSweep", "ns", "s")
DEPLOYMENT = ObjectWatch("ModelDeployment", "ns", "d")
ALIAS = AliasWatch("s3://bucket", "m", "champion")


def test_a_new_plan_replaces_what_the_last_one_watched() -> None:
    index = WatchIndex()
    index.set(POLICY, [DEPLOYMENT, ALIAS])
    index.set(SWEEP, [ALIAS])
    assert index.holders(ALIAS) == (POLICY, SWEEP)
    index.set(POLICY, [DEPLOYMENT])
    assert index.holders(ALIAS) == (SWEEP,)
    index.set(POLICY, [])
    assert index.holders(DEPLOYMENT) == ()


class World:
    def __init__(self) -> None:
        self.objects, self.watches, self.queue = Objects(), WatchIndex(), Queue(1)
        self.objects.subscribe(Dispatcher(self.objects, self.watches, self.queue))
        self.version = 0

    def show(self, document: dict, by: Key | None = None) -> None:
        self.version += 1
        name = document["metadata"]["name"]
        document["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": str(self.version)}
        self.objects.put(document, by)

    def queued(self) -> list[Key]:
        keys = []
        while (key := self.queue.schedule.pop(float("inf"))) is not None:
            self.queue.schedule.finish(key, Outcome(), 0.0)
            keys.append(key)
        return sorted(keys)


def test_an_object_of_ours_concerns_itself_and_those_who_watch_it() -> None:
    world = World()
    world.watches.set(POLICY, [DEPLOYMENT])
    world.show(of_kind("ModelDeployment", "d"))
    assert world.queued() == [POLICY, Key("ModelDeployment", "ns", "d")]


def test_a_child_concerns_its_owner_only_and_an_orphan_nobody() -> None:
    world = World()
    world.show(of_kind("TuningSweep", "s"))
    world.queued()
    world.show(child("Job", "j", "uid-s"))
    world.show(child("Job", "orphan", "uid-nobody"))
    world.show({**training_job("winner"), "metadata": child("Pod", "winner", "uid-s")["metadata"]})
    assert world.queued() == [Key("TrainingJob", "ns", "winner"), SWEEP]


def test_a_reconcile_does_not_wake_itself_by_its_own_writes() -> None:
    world = World()
    world.show(of_kind("TuningSweep", "s"))
    world.queued()
    world.show(child("Job", "j", "uid-s"), by=SWEEP)
    world.show(of_kind("TuningSweep", "s"), by=SWEEP)
    assert world.queued() == []
