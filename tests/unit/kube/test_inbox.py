import asyncio

from modelwright.api.run import TrainingReport
from modelwright.kube.inbox import LOOKS_PER_SECOND, REPORT_SECONDS, Inbox
from modelwright.kube.objects import Key
from modelwright.plan.observed import Alert
from tests.unit.kube.fake_api import Clock

KEY, OTHER = Key("DriftPolicy", "ns", "p"), Key("DriftPolicy", "ns", "other")
ONE, TWO = Alert("1", "t1", {}), Alert("2", "t2", {})


class Woken:
    def __init__(self) -> None:
        self.delays: list[float] = []

    def __call__(self, key: Key, delay: float) -> None:
        self.delays.append(delay)


def test_a_report_wakes_its_object_at_once_and_many_reports_wake_it_rarely() -> None:
    woken, clock = Woken(), Clock()
    inbox = Inbox(woken, clock)
    looks = set()
    for _ in range(100):
        inbox.report(KEY, "u", TrainingReport(attempt=1))
        looks.add(clock.now + woken.delays[-1])
        clock.now += 0.1
    assert woken.delays[0] == 0
    assert len(looks) <= 100 * 0.1 / REPORT_SECONDS + 2


def test_a_thousand_gangs_are_looked_at_in_turn_and_no_more_often_than_the_api_server_can_bear() -> None:
    clock, seconds = Clock(), 200
    looks: dict[Key, set[float]] = {}
    inbox = Inbox(lambda key, delay: looks.setdefault(key, set()).add(clock.now + delay), clock)
    gangs = [Key("TrainingJob", "ns", f"a-{number}") for number in range(1000)]
    begun = clock.now
    for _ in range(seconds // 2):
        for gang in gangs:
            inbox.report(gang, "u", TrainingReport(attempt=1))
        clock.now += 2
    # The first report of each is new, and leads to a look of its own.
    later = sorted(look for each in looks.values() for look in each if begun < look <= clock.now)
    assert len(later) <= LOOKS_PER_SECOND * seconds + 1
    assert min(len(each) for each in looks.values()) >= seconds // 55


def test_a_gang_that_does_something_else_is_looked_at_soon_however_many_there_are() -> None:
    woken, clock = Woken(), Clock()
    inbox = Inbox(woken, clock)
    for stage in ("Starting", "Training", "Training"):
        for number in range(1000):
            inbox.report(Key("TrainingJob", "ns", f"a-{number}"), "u", TrainingReport(attempt=1, stage=stage))
        clock.now += 10
    assert woken.delays[1999] == 0
    assert woken.delays[2999] > 40
    inbox.report(Key("TrainingJob", "ns", "a-999"), "u", TrainingReport(attempt=1, stage="Evaluating"))
    assert woken.delays[-1] == REPORT_SECONDS


def test_the_last_report_is_kept_and_one_of_an_older_attempt_is_not() -> None:
    inbox = Inbox(Woken(), Clock())
    inbox.report(KEY, "u", TrainingReport(attempt=2, stage="Evaluating"))
    inbox.report(KEY, "u", TrainingReport(attempt=1))
    assert inbox.last_report(KEY, "u").attempt == 2
    assert inbox.last_report(OTHER, "u") is None


def test_a_successor_of_the_same_name_has_no_report_of_its_predecessor() -> None:
    woken = Woken()
    inbox = Inbox(woken, Clock())
    inbox.report(KEY, "u", TrainingReport(attempt=2))
    assert inbox.last_report(KEY, "successor") is None
    inbox.report(KEY, "successor", TrainingReport(attempt=1))
    assert inbox.last_report(KEY, "successor").attempt == 1
    assert inbox.last_report(KEY, "u") is None
    assert woken.delays == [0, 0]


async def test_alerts_wait_until_a_plan_that_saw_them_is_carried_out() -> None:
    inbox = Inbox(Woken(), Clock())
    first = inbox.submit(KEY, [ONE])
    seen = inbox.alerts(KEY)
    second = inbox.submit(KEY, [ONE, TWO])
    inbox.handled(KEY, seen)
    assert first.done()
    assert not second.done()
    assert inbox.alerts(KEY) == (TWO,)
    inbox.handled(KEY, inbox.alerts(KEY))
    assert second.done()
    assert inbox.alerts(KEY) == ()


async def test_the_same_alert_from_two_senders_is_one_alert() -> None:
    inbox = Inbox(Woken(), Clock())
    inbox.submit(KEY, [ONE])
    inbox.submit(KEY, [ONE])
    assert inbox.alerts(KEY) == (ONE,)


async def test_an_alert_that_nobody_waits_for_any_more_is_dropped() -> None:
    inbox = Inbox(Woken(), Clock())
    first, second = inbox.submit(KEY, [ONE]), inbox.submit(KEY, [ONE, TWO])
    inbox.withdraw(KEY, second)
    assert inbox.alerts(KEY) == (ONE,)
    inbox.withdraw(KEY, first)
    assert inbox.alerts(KEY) == ()


async def test_alerts_of_an_object_that_is_gone_are_dealt_with() -> None:
    inbox = Inbox(Woken(), Clock())
    future = inbox.submit(KEY, [ONE])
    inbox.report(KEY, "u", TrainingReport(attempt=1))
    inbox.forget(KEY)
    await asyncio.wait_for(future, 1)
    assert inbox.last_report(KEY, "u") is None
