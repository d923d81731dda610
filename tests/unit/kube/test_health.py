from types import SimpleNamespace

from modelwright.kube.cache import DEAF_AFTER, Reflector
from modelwright.kube.health import STANDSTILL_SECONDS, Health
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Key, Objects
from modelwright.kube.queue import Queue
from modelwright.kube.resources import POD
from tests.unit.kube.fake_api import Clock, FakeApi, count


class Patient:
    def __init__(self) -> None:
        self.clock = Clock()
        self.queue = Queue(1, self.clock)
        self.reflector = Reflector(FakeApi(), POD, None, Objects(), lambda: None, self.clock)
        self.rollcall = SimpleNamespace(deaf=False, last_call=self.clock.now)
        self.health = Health(self.queue, [self.reflector], self.rollcall, Objects(), self.clock)


def test_a_replica_that_only_waits_is_well() -> None:
    patient = Patient()
    patient.clock.now += 1e6
    patient.rollcall.deaf = True
    assert patient.health.trouble() is None


def test_a_deaf_watch_is_trouble() -> None:
    patient = Patient()
    patient.clock.now += 1e6
    patient.health.start()
    assert patient.health.trouble() is None
    patient.clock.now += DEAF_AFTER + 1
    assert "the watch of pods has heard nothing" in patient.health.trouble()


def test_a_watch_of_our_kinds_that_misses_changes_is_trouble() -> None:
    patient = Patient()
    patient.health.start()
    patient.rollcall.deaf = True
    assert patient.health.trouble() == "the watch of our own kinds misses changes"


def test_a_queue_that_stands_still_is_trouble_and_an_idle_one_is_not() -> None:
    patient = Patient()
    patient.health.start()
    patient.clock.now += STANDSTILL_SECONDS - 10
    patient.queue.add(Key("TrainingJob", "ns", "a"))
    assert patient.health.trouble() is None
    patient.clock.now += STANDSTILL_SECONDS + 1
    patient.reflector.last_contact = patient.clock.now
    assert "an object has waited" in patient.health.trouble()


def test_gauges_are_worked_out_when_they_are_read() -> None:
    patient, metrics = Patient(), Metrics()
    metrics.collect(patient.health.metrics)
    patient.health.start()
    patient.queue.add(Key("TrainingJob", "ns", "a"))
    patient.clock.now += 7
    assert count(metrics, "modelwright_queue_depth") == 1
    assert count(metrics, "modelwright_queue_oldest_seconds") == 7
    assert count(metrics, "modelwright_watch_silence_seconds", kind="Pod", namespace="") == 7
