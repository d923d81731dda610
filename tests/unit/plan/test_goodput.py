"""What the time of a job was spent on, by histories that a person can add up."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.goodput import BucketSeconds, Goodput
from modelwright.api.trainingjob import TrainingJobStatus
from modelwright.plan.actions import Object
from modelwright.plan.conditions import Reason, State
from modelwright.plan.goodput import accelerators_of
from modelwright.plan.times import parse, seconds_between
from tests.simulation.nodes import JobController
from tests.simulation.one_job import COMMAND
from tests.unit.plan.goodput_world import CREATED, REPLICAS, History, at
from tests.unit.plan.training_world import running


def trained(limits: dict[str, str | int] | None = None) -> History:
    """Return a job that was asked for after 5 s, had its nodes after 20, and told at 60 that it has trained for 10."""
    history = History(limits or {})
    history.look(1, Reason.SECRET_NOT_FOUND)
    history.ask(5)
    history.look(5, Reason.STARTING)
    history.place(20, runs=25)
    history.look(26, Reason.TRAINING)
    history.say(28, 10, starting=20, training=10)
    history.look(60)
    return history


def test_a_quiet_run_is_told_second_by_second() -> None:
    history = trained()
    assert history.spent == {"queued": 20, "starting": 30, "training": 10}
    history.say(28, 90, starting=20, training=85, saving=5)
    history.look(140)
    history.say(28, 100, starting=20, training=95, saving=7, evaluating=0, stage="Evaluating")
    history.look(153, Reason.EVALUATING)
    history.end(170, kind="Complete")
    book = history.look(172, Reason.SUCCEEDED)
    assert history.spent == {"queued": 20, "starting": 30, "training": 95, "saving": 7, "evaluating": 20}
    assert book.seconds.total == 172
    assert book.share == round(95 / 172, 3)
    assert (book.as_of, book.current) == (at(172), None)


def test_time_alone_changes_nothing() -> None:
    history = trained()
    told = history.book
    assert [history.look(61), history.look(600), history.look(86400)] == [told] * 3
    waiting = History()
    told = waiting.look(5, Reason.QUEUED)
    assert [waiting.look(6, Reason.QUEUED), waiting.look(86400, Reason.QUEUED)] == [told] * 2


def test_steps_that_were_made_before_are_lost_as_they_are_made_again() -> None:
    history = trained()
    history.say(28, 110, starting=20, training=110)
    history.look(160)
    history.end(170)
    history.look(171, Reason.RESTARTING)
    assert history.spent == {"queued": 20, "starting": 30, "training": 110, "other": 10, "restarting": 1}
    history.ask(180, 2)
    history.look(180, Reason.STARTING)
    history.place(181, 2, runs=182)
    history.say(183, 70, attempt=2, resumed=60, starting=8, training=5)
    history.look(196)
    history.say(183, 140, attempt=2, resumed=60, starting=8, training=75)
    book = history.look(266)
    # 50 of 80 steps had been made before, in 5 s of the first 5 and in 40 of the 70 after.
    assert (book.seconds.lost, book.seconds.training) == (5 + 40, 110 + 30)
    assert (book.seconds.restarting, book.seconds.queued) == (10, 21)
    assert book.furthest_step == 110
    assert book.seconds.total == 266


@pytest.mark.parametrize("behind", [1, 5, 12])
def test_a_clock_that_is_behind_the_control_plane_moves_no_more_seconds_than_that(behind: int) -> None:
    history = History()
    history.ask(1 + behind)
    history.look(1, Reason.STARTING)
    # The images are there: it trains before the operator's clock is where its pods say that they have their nodes.
    history.place(2 + behind, runs=3 + behind)
    history.look(2, Reason.TRAINING)
    for second in range(5, 300, 3):
        history.say(3 + behind, second, starting=2, training=second - 4)
        history.look(second)
    assert history.book.seconds.total >= 296
    assert history.book.seconds.training >= 290 - behind
    # A node's clock may be ahead of both.
    history.end(302 + 2 * behind)
    history.look(303, Reason.RESTARTING)
    history.ask(305 + behind, 2)
    history.look(305, Reason.STARTING)
    history.place(306 + behind, 2, runs=306 + behind)
    history.look(307, Reason.TRAINING)
    for second in range(310, 600, 3):
        history.say(306 + behind, second, attempt=2, starting=2, training=second - 309)
        history.look(second)
    assert history.book.seconds.training + history.book.seconds.lost >= 580 - 3 * behind
    assert history.book.current == "training"


def test_an_operator_that_was_away_learns_from_the_cluster_when_things_happened() -> None:
    history = trained()
    history.end(400)
    history.look(1000, Reason.RESTARTING)
    assert history.spent == {"queued": 20, "starting": 30, "training": 10, "other": 340, "restarting": 600}


def test_a_start_that_was_not_written_down_is_found_again() -> None:
    history = trained()
    history.end(100)
    history.ask(110, 2)
    history.place(125, 2, runs=126)
    book = history.look(150, Reason.TRAINING)
    assert (book.seconds.other, book.seconds.restarting, book.seconds.queued) == (40, 10, 20 + 15)
    assert book.as_of == at(125)
    history.say(126, 12, attempt=2, resumed=10, starting=10, training=20)
    assert history.look(160).seconds.starting == 30 + 15


def test_a_program_that_reports_nothing_is_left_open_and_has_no_share() -> None:
    history = History()
    history.ask(0)
    history.look(0, Reason.STARTING)
    history.place(10, runs=40)
    history.look(41, Reason.TRAINING)
    history.end(500, kind="Complete")
    book = history.look(501, Reason.SUCCEEDED)
    assert history.spent == {"queued": 10, "starting": 30, "other": 460, "evaluating": 1}
    assert book.share is None


def test_pods_that_are_gone_before_anybody_saw_them_run_tell_nothing() -> None:
    history = trained()
    history.end(70)
    history.ask(80, 2)
    history.look(80, Reason.STARTING)
    history.place(90, 2)
    history.look(91, Reason.IMAGE_PULL_FAILED)
    history.pods = []
    history.end(100, 2)
    book = history.look(101, Reason.RESTARTING)
    assert book.seconds.other == 10 + 10


def test_a_program_that_said_it_was_starting_was_starting() -> None:
    history = History()
    history.ask(0)
    history.look(0, Reason.STARTING)
    history.place(10, runs=12)
    history.say(13, 0, stage="Starting", starting=2)
    history.look(15, Reason.TRAINING)
    history.end(50)
    history.look(51, Reason.RESTARTING)
    assert history.spent == {"queued": 10, "starting": 40, "restarting": 1}


def test_the_time_of_a_suspension_is_in_no_bucket_and_the_last_word_of_the_old_process_is_not_counted_again() -> None:
    history = trained()
    history.suspend(80)
    history.look(80, Reason.SUSPENDED, state=State.SUSPENDED)
    assert history.spent["other"] == 20
    history.look(300, Reason.STORAGE_UNAVAILABLE, state=State.SUSPENDED)
    history.resume(400)
    history.look(400, Reason.STARTING)
    history.place(405, runs=406)
    book = history.look(407, Reason.TRAINING)
    assert (book.suspended_seconds, book.current) == (320, "starting")
    assert history.spent == {"queued": 25, "starting": 30, "training": 10, "other": 20}
    history.say(410, 30, resumed=10, starting=5, training=10)
    book = history.look(430)
    assert (book.seconds.starting, book.seconds.training) == (45, 20)
    assert book.seconds.total + book.suspended_seconds == 430


def test_pods_that_still_leave_do_not_have_the_nodes_of_their_successors() -> None:
    history = trained()
    leaving = [*history.pods]
    history.suspend(80)
    history.look(80, Reason.SUSPENDED, state=State.SUSPENDED)
    for pod in leaving:
        pod["metadata"]["deletionTimestamp"] = at(110)
    history.pods = leaving
    history.resume(90)
    assert history.look(91, Reason.STARTING).current == "queued"


def test_steps_up_to_the_one_that_broke_the_program_are_made_again() -> None:
    history = trained()
    history.end(80)
    (entry,) = history.status.attempts
    # The last report told of step 10, the failure of step 40.
    history.status = history.status.model_copy(update={"attempts": (entry.model_copy(update={"last_step": 40}),)})
    history.look(81, Reason.RESTARTING)
    history.ask(90, 2)
    history.look(90, Reason.STARTING)
    history.place(91, 2, runs=92)
    history.say(93, 60, attempt=2, resumed=0, starting=7, training=60)
    assert history.look(160).seconds.lost == 40


def test_a_queue_that_takes_its_admission_back_is_waited_for() -> None:
    history = trained()
    history.suspend(100)
    history.look(102, Reason.QUEUED)
    history.resume(600)
    history.place(610, runs=611)
    history.look(612, Reason.TRAINING)
    assert history.spent == {"queued": 20 + 510, "starting": 30, "training": 10, "other": 40}


def test_what_a_program_claims_cannot_be_more_than_the_time_there_was() -> None:
    history = trained()
    history.say(28, 20, starting=20, training=1e9, saving=1e9)
    book = history.look(70)
    assert history.spent == {"queued": 20, "starting": 30, "training": 20}
    assert book.counted is not None
    history.say(28, 30, starting=20, training=40)
    assert history.look(90).seconds == book.seconds, "an account that falls adds nothing"


def test_the_clock_of_another_node_may_be_late() -> None:
    history = trained()
    history.end(70)
    history.look(71, Reason.RESTARTING)
    history.ask(80, 2)
    history.look(80, Reason.STARTING)
    history.place(81, 2, runs=82)
    history.say(0, 30, attempt=2, resumed=10, starting=5, training=20)
    assert history.look(110).seconds.training == 30


def test_a_process_that_is_started_again_in_its_pod_begins_an_account_of_its_own() -> None:
    history = trained()
    history.say(70, 25, resumed=5, starting=15, training=40)
    history.look(120)
    assert history.spent == {"queued": 20, "starting": 30 + 20, "training": 10 + 30, "lost": 10}
    history.say(28, 99, starting=20, training=90)
    assert history.look(125).seconds == history.book.seconds
    assert history.spent["training"] == 40, "a report that comes late is of a process that is gone"


def test_a_job_that_is_older_than_its_book_is_counted_from_when_the_book_is_opened() -> None:
    history = History()
    history.ask(0)
    history.place(10, runs=12)
    history.before = TrainingJobStatus(attempt=1)
    book = history.look(3600, Reason.TRAINING)
    assert (book.seconds.total, book.as_of) == (0, at(3600))
    history.say(13, 50, starting=10, training=2000)
    history.look(3610)
    assert history.spent == {"training": 10}


def test_accelerators_cost_while_the_gang_has_its_nodes() -> None:
    history = trained({"nvidia.com/gpu": "4", "cpu": "16"})
    history.say(28, 3600, starting=20, training=3600)
    hours = history.look(3650).accelerator_hours
    assert hours is not None
    assert (hours.total, hours.productive) == (round(REPLICAS * 4 * 3630 / 3600, 3), REPLICAS * 4)
    assert trained().book.accelerator_hours is None


def test_accelerators_of_an_elastic_gang_are_those_of_the_workers_that_each_attempt_had() -> None:
    history = History({"nvidia.com/gpu": "4"}, elastic=True)
    history.ask(0, workers=2)
    history.look(0, Reason.STARTING)
    history.place(10, runs=12)
    history.say(13, 100, starting=20, training=3600)
    history.look(3640)
    history.end(3645)
    history.look(3646, Reason.SHRUNK)
    history.ask(3650, 2, workers=1)
    history.look(3650, Reason.STARTING)
    history.place(3660, 2, runs=3661, pods=1)
    history.say(3662, 200, attempt=2, resumed=100, starting=18, training=1800)
    book = history.look(5480)
    spent = {"queued": 20, "starting": 30 + 20, "training": 3600 + 1800, "other": 5, "restarting": 5}
    assert history.spent == spent
    assert book.worker_seconds is not None
    weighted = {name: value for name, value in book.worker_seconds.document().items() if value}
    assert weighted == {"starting": 2 * 30 + 20, "training": 2 * 3600 + 1800, "other": 2 * 5}, "none in a queue"
    assert book.accelerator_hours is not None
    assert book.accelerator_hours.productive == 4 * (2 * 1 + 0.5)


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"nvidia.com/gpu": 8}, 16),
        ({"amd.com/gpu": "1", "cpu": "4"}, 2),
        ({"google.com/tpu": "4"}, 8),
        ({"nvidia.com/gpu": "0"}, 0),
        ({"nvidia.com/gpu": "one"}, 0),
        ({"example.com/gpu-memory": "80"}, 0),
        ({"gpu.intel.com/xe": 2, "nvidia.com/mig-1g.10gb": 4}, 4),
    ],
)
def test_accelerators_are_known_by_their_names(limits: dict[str, str | int], count: int) -> None:
    assert accelerators_of({"resources": {"limits": limits}, "replicas": 2}) == count
    worker = {"name": "worker", "resources": {"limits": limits}}
    assert accelerators_of({"podTemplate": {"spec": {"containers": [worker]}}, "replicas": 2}) == count


EVENTS = ("ask", "place", "half placed", "report", "evaluate", "new process", "end", "complete", "suspend", "resume")


def tell(history: History, event: str, second: int, amount: int) -> None:
    """Have a process report, the one that did so last or a new one: more time than before, and about as many steps."""
    told = history.report
    known = told.spent if told is not None and event != "new process" else None
    step = told.progress.step if told is not None and told.progress is not None else 0
    history.say(
        round(seconds_between(at(0), parse(known.since))) if known is not None else second - amount % 9,
        max(0, step + amount % 13 - 5),
        attempt=max(history.jobs),
        resumed=max(0, step - amount % 11),
        stage="Evaluating" if event == "evaluate" else "Training",
        training=(known.training if known is not None else 0) + amount,
        saving=(known.saving if known is not None else 0) + amount % 3,
    )


def happen(history: History, event: str, second: int, amount: int) -> None:
    """Let something happen, if it can."""
    number = max(history.jobs, default=0)
    job = history.jobs.get(number)
    live = job is not None and not job["status"].get("conditions")
    if event == "ask" and not live and not (job and job["spec"].get("suspend")):
        history.ask(second, number + 1)
    elif event in ("place", "half placed") and live:
        history.place(second, number, runs=second + amount % 9 - 4, pods=REPLICAS if event == "place" else 1)
    elif event in ("report", "evaluate", "new process") and live:
        tell(history, event, second, amount)
    elif event in ("end", "complete") and live:
        history.end(second, number, "Failed" if event == "end" else "Complete")
    elif event == "suspend" and live:
        history.suspend(second, number)
    elif event == "resume" and job is not None and job["spec"].get("suspend"):
        history.resume(second, number)


def reason_of(history: History, choice: int) -> tuple[str, State]:
    """Return a verdict that fits: one that a queue or a user holds is held by either."""
    job = history.jobs.get(max(history.jobs, default=0))
    if job is not None and job["spec"].get("suspend"):
        return (Reason.QUEUED, State.RECONCILING) if choice % 2 else (Reason.SUSPENDED, State.SUSPENDED)
    return [Reason.STARTING, Reason.TRAINING, Reason.RESTARTING, Reason.UNSCHEDULABLE][choice % 4], State.RECONCILING


def assert_whole(book: Goodput, before: Goodput | None, second: int) -> None:
    """Check that every second since the job's creation is in one place, and that none has been moved."""
    assert book.seconds.total + book.suspended_seconds == seconds_between(at(0), parse(book.as_of))
    assert parse(book.as_of) <= CREATED + timedelta(seconds=second)
    if before is not None:
        assert all(getattr(book.seconds, name) >= getattr(before.seconds, name) for name in BucketSeconds.model_fields)
        assert book.suspended_seconds >= before.suspended_seconds


@given(
    st.lists(
        st.tuples(st.sampled_from((*EVENTS, "look", "look", "operator restarts")), st.integers(0, 500)), max_size=40
    ),
    st.integers(0, 100),
)
def test_whatever_happens_every_second_is_in_one_bucket(way: list[tuple[str, int]], rest: int) -> None:
    history, second, before = History(), 0, None
    for event, amount in way:
        second += amount % 60
        happen(history, event, second, amount)
        if event == "operator restarts":
            history.report = None
        if event == "look":
            reason, state = reason_of(history, amount)
            book = history.look(second, reason, state=state)
            assert_whole(book, before, second)
            before = book
    book = history.look(second + rest, Reason.FAILED, state=State.STALLED)
    assert_whole(book, before, second + rest)
    assert book.seconds.total + book.suspended_seconds == second + rest
    assert book.share is None or 0 <= book.share <= 1


def test_a_suspension_that_the_job_controller_carries_out_a_second_later_is_no_time_in_a_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync, asked = JobController._sync, dict[str, datetime]()

    def later(self: JobController, job: Object) -> None:
        uid, now = job["metadata"]["uid"], self.cluster.clock()
        if not job["spec"].get("suspend") or now >= asked.setdefault(uid, now) + timedelta(seconds=1):
            sync(self, job)

    monkeypatch.setattr(JobController, "_sync", later)
    sim = running(COMMAND)
    sim.world.alarms.append(lambda: [at + timedelta(seconds=1) for at in asked.values()])
    sim.world.run(60)
    sim.world.edit(sim.key, suspend=True)
    sim.world.run(3600)
    sim.world.edit(sim.key, suspend=False)
    sim.world.run(30)
    book = sim.status["goodput"]
    assert book["suspendedSeconds"] >= 3598
    assert book["seconds"].get("queued", 0) < 10
