import asyncio
from datetime import UTC, datetime

from modelwright.kube import errors
from modelwright.kube.events import REPEAT_SECONDS, EventPoster, document
from modelwright.kube.metrics import Metrics
from modelwright.plan.actions import Event
from tests.unit.kube.fake_api import Clock, FakeApi, count, training_job

STARTED = Event("Normal", "Started", "attempt 1 starts")


class Post:
    def __init__(self) -> None:
        self.api, self.clock, self.metrics = FakeApi(), Clock(), Metrics()
        self.poster = EventPoster(self.api, self.metrics, "operator-0", self.clock)
        self.job = self.api.add(training_job())

    async def deliver(self) -> list[str]:
        task = asyncio.create_task(self.poster.run())
        while self.poster.waiting():  # noqa: ASYNC110 (a few turns of the loop)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        return [event["message"] for event in self.api.events]


async def test_the_same_event_is_posted_once_in_ten_minutes() -> None:
    post = Post()
    for _ in range(3):
        post.poster.post(post.job, STARTED)
    post.clock.now += REPEAT_SECONDS + 1
    post.poster.post(post.job, STARTED)
    assert await post.deliver() == [STARTED.message] * 2
    assert count(post.metrics, "modelwright_events_total", outcome="repeat") == 2


async def test_another_message_or_another_life_is_another_event() -> None:
    post = Post()
    post.poster.post(post.job, STARTED)
    post.poster.post(post.job, Event("Normal", "Started", "attempt 2 starts"))
    post.poster.post({**post.job, "metadata": {**post.job["metadata"], "uid": "new"}}, STARTED)
    assert len(await post.deliver()) == 3


async def test_an_event_that_cannot_be_posted_is_counted_and_the_next_one_is_posted() -> None:
    post = Post()
    refusals = [errors.Rejected("forbidden", 403)]
    post.api.fail = lambda verb, kind, name: refusals.pop() if kind == "Event" and refusals else None
    post.poster.post(post.job, STARTED)
    post.poster.post(post.job, Event("Warning", "Lost", "a pod is gone"))
    assert await post.deliver() == ["a pod is gone"]
    assert count(post.metrics, "modelwright_events_total", outcome="failed") == 1


def test_when_too_many_wait_the_newest_are_dropped() -> None:
    post = Post()
    for number in range(1100):
        post.poster.post(post.job, Event("Normal", "Started", str(number)))
    assert post.poster.waiting() == 1000
    assert count(post.metrics, "modelwright_events_total", outcome="dropped") == 100


def test_an_event_names_its_object_and_fits_the_limits() -> None:
    job = training_job("a" * 253)
    job["metadata"] |= {"uid": "u", "resourceVersion": "7"}
    event = document(job, Event("Warning", "R" * 200, "m" * 5000), "operator-0", datetime(2026, 1, 2, tzinfo=UTC))
    assert len(event["metadata"]["name"]) <= 253
    assert (len(event["reason"]), len(event["message"])) == (128, 1024)
    assert event["involvedObject"]["uid"] == "u"
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-02T00:00:00Z"
