import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelwright.kube.objects import Key
from modelwright.kube.queue import Outcome, Queue, Schedule
from tests.unit.kube.fake_api import Clock

A, B = Key("TrainingJob", "ns", "a"), Key("TrainingJob", "ns", "b")
KEYS = st.sampled_from([A, B, Key("TuningSweep", "ns", "a")])


class ScheduleMachine(RuleBasedStateMachine):
    """A key that has changed is looked at afterwards, never twice at once, and every wake-up happens in time."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(jitter=lambda: 1.0)
        self.now = 0.0
        self.active: set[Key] = set()
        self.owed: set[Key] = set()
        """Changed since their last look began."""
        self.due: dict[Key, float] = {}

    @rule(key=KEYS)
    def change(self, key: Key) -> None:
        self.schedule.add(key, self.now)
        self.owed.add(key)

    @rule(key=KEYS, delay=st.floats(0.1, 50))
    def wake_later(self, key: Key, delay: float) -> None:
        self.schedule.add_at(key, self.now + delay)
        self.due[key] = min(self.due.get(key, float("inf")), self.now + delay)

    @rule(seconds=st.floats(0, 60))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        key = self.schedule.pop(self.now)
        waiting = (self.owed | {key for key, due in self.due.items() if due <= self.now}) - self.active
        if key is None:
            assert not waiting
            return
        assert key not in self.active
        assert key in waiting
        self.active.add(key)
        self.owed.discard(key)
        self.due.pop(key, None)

    @precondition(lambda self: self.active)
    @rule(data=st.data(), wake=st.none() | st.floats(0, 50))
    def end(self, data: st.DataObject, wake: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.active)))
        self.active.discard(key)
        self.schedule.finish(key, Outcome(wake_after=wake), self.now)
        if wake is not None:
            self.due[key] = min(self.due.get(key, float("inf")), self.now + wake)

    @invariant()
    def counts_agree(self) -> None:
        assert self.schedule.active() == len(self.active)


ScheduleMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSchedule = ScheduleMachine.TestCase


def test_a_key_added_many_times_is_reconciled_once() -> None:
    schedule = Schedule()
    for _ in range(5):
        schedule.add(A, 0.0)
    assert schedule.pop(0.0) == A
    assert schedule.pop(0.0) is None


def test_keys_come_in_the_order_of_their_arrival() -> None:
    schedule = Schedule()
    schedule.add(B, 0.0)
    schedule.add(A, 1.0)
    assert (schedule.pop(2.0), schedule.pop(2.0)) == (B, A)


def test_back_off_doubles_up_to_a_limit_and_starts_again_after_success() -> None:
    schedule = Schedule(jitter=lambda: 1.0)
    now, waits = 0.0, []
    for _ in range(12):
        schedule.add(A, now)
        assert schedule.pop(now) == A
        schedule.finish(A, Outcome(retry=True), now)
        waits.append(schedule.next_due() - now)
        now += 1000
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 300
    schedule.add(A, now)
    schedule.pop(now)
    schedule.finish(A, Outcome(), now)
    schedule.add(A, now)
    schedule.pop(now)
    schedule.finish(A, Outcome(retry=True), now)
    assert schedule.next_due() - now == 1


@given(st.floats(0, 1))
def test_jitter_never_lengthens_a_pause_and_halves_it_at_most(jitter: float) -> None:
    schedule = Schedule(jitter=lambda: jitter)
    schedule.add(A, 0.0)
    schedule.pop(0.0)
    schedule.finish(A, Outcome(retry=True), 0.0)
    assert 0.5 <= schedule.next_due() <= 1


@pytest.mark.parametrize(("asked", "waited"), [(0.5, 1.0), (20.0, 20.0), (1e9, 300.0)])
def test_a_pause_that_the_server_asked_for_is_kept_within_reason(asked: float, waited: float) -> None:
    schedule = Schedule(jitter=lambda: 1.0)
    schedule.add(A, 0.0)
    schedule.pop(0.0)
    schedule.finish(A, Outcome(retry=True, retry_after=asked), 0.0)
    assert schedule.next_due() == waited


def test_the_longest_wait_is_measured() -> None:
    schedule = Schedule()
    assert schedule.oldest(5.0) == 0
    schedule.add(A, 1.0)
    schedule.add(B, 4.0)
    assert schedule.oldest(5.0) == 4


class Recorder:
    """A reconcile that notes what overlaps."""

    def __init__(self) -> None:
        self.seen: list[Key] = []
        self.now: set[Key] = set()
        self.most = 0
        self.gate = asyncio.Event()
        self.outcome = Outcome()

    async def __call__(self, key: Key) -> Outcome:
        assert key not in self.now
        self.now.add(key)
        self.most = max(self.most, len(self.now))
        self.seen.append(key)
        await self.gate.wait()
        self.now.discard(key)
        return self.outcome


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_at_most_so_many_keys_are_reconciled_at_once_and_all_of_them_in_the_end() -> None:
    queue, work = Queue(concurrency=3), Recorder()
    running = asyncio.create_task(queue.run(work))
    keys = [Key("TrainingJob", "ns", str(number)) for number in range(10)]
    for key in keys:
        queue.add(key)
    await _settle()
    assert len(work.seen) == 3
    work.gate.set()
    await _settle()
    assert sorted(work.seen) == sorted(keys)
    assert work.most == 3
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_hand_that_is_lent_works_for_others_and_is_waited_for_when_it_is_wanted_back() -> None:
    queue, answered, seen = Queue(concurrency=1), asyncio.Event(), []
    busy = asyncio.Event()

    async def look(key: Key) -> Outcome:
        seen.append(f"{key.name} begins")
        if key == A:
            async with queue.lend():
                await answered.wait()
        else:
            await busy.wait()
        seen.append(f"{key.name} ends")
        return Outcome()

    running = asyncio.create_task(queue.run(look))
    queue.add(A)
    queue.add(B)
    await _settle()
    assert seen == ["a begins", "b begins"]
    answered.set()
    queue.add(Key("TrainingJob", "ns", "c"))
    await _settle()
    assert seen == ["a begins", "b begins"], "the only hand is at work"
    busy.set()
    await _settle()
    assert seen[2:] == ["b ends", "a ends", "c begins", "c ends"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_change_during_a_reconcile_leads_to_one_more() -> None:
    queue, work = Queue(concurrency=3), Recorder()
    running = asyncio.create_task(queue.run(work))
    queue.add(A)
    await _settle()
    queue.add(A)
    queue.add(A)
    await _settle()
    assert work.seen == [A]
    work.gate.set()
    await _settle()
    assert work.seen == [A, A]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_wake_up_comes_by_itself() -> None:
    queue, work = Queue(concurrency=1), Recorder()
    work.gate.set()
    running = asyncio.create_task(queue.run(work))
    queue.add(A, delay=0.01)
    await asyncio.sleep(0.05)
    assert work.seen == [A]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_what_is_under_way_is_finished_before_the_queue_stops() -> None:
    queue, work = Queue(concurrency=1), Recorder()
    running = asyncio.create_task(queue.run(work))
    queue.add(A)
    await _settle()
    running.cancel()
    await _settle()
    assert not running.done()
    work.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not work.now


def test_a_queue_stands_still_when_a_key_waits_and_nothing_begins_or_ends() -> None:
    clock = Clock()
    queue = Queue(concurrency=1, clock=clock)
    clock.now += 1000
    assert not queue.stands_still(300)
    queue.add(A)
    clock.now += 301
    assert queue.stands_still(300)
    queue.last_progress = clock.now - 10
    assert not queue.stands_still(300)


def test_wake_ups_that_were_given_up_are_forgotten_though_others_are_due_before_them() -> None:
    schedule, far = Schedule(jitter=lambda: 1.0), 7 * 86400.0
    schedule.add_at(B, far / 2)
    for look in range(2000):
        schedule.add_at(A, look + far)
        schedule.add(A, look)
        assert schedule.pop(look) == A
        schedule.finish(A, Outcome(), look)
    assert len(schedule._heap) < 200
    schedule.add_at(A, far)
    assert schedule.next_due() == far / 2
    assert schedule.pop(far / 2) == B
    assert schedule.pop(far) == A
