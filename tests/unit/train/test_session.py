"""What a loop of the user's own gets from a session: checkpoints, resumption, reports, and a good end."""

import json
import math
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from modelwright import train
from modelwright.api.run import RUN_VARIABLE
from modelwright.registry.store import ObjectStore
from modelwright.runtime.failure import DataError, RunError, explain
from modelwright.runtime.train.checkpoints import CheckpointStore
from modelwright.runtime.train.world import PLAIN_PEER_WORDS, World, lost_peers
from modelwright.runtime.watchdog import Patience, Standstill, Watchdog
from modelwright.train._rows import Rows
from tests.unit.registry.fake_s3 import FakeS3, memory_store
from tests.unit.runtime_train.runs import run_of
from tests.unit.train.loops import Loop, Watch

FOLDER = "base/runs/ns/uid/checkpoints/"


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def client() -> FakeS3:
    return FakeS3()


@pytest.fixture
def store(client: FakeS3) -> ObjectStore:
    return memory_store(client)


def steps(client: FakeS3) -> set[int]:
    return {int(key.removeprefix(FOLDER).split("/")[0]) for key in client.objects}


def test_a_loop_saves_when_it_is_due_and_the_last_two_stay(client: FakeS3, store: ObjectStore) -> None:
    assert Loop(store, run_of(checkpoint={"everySteps": 3})).train(10) == [3, 6, 9]
    assert steps(client) == {6, 9}
    assert Loop(memory_store(), run_of()).train(65) == [30, 60]


def test_a_resumed_loop_ends_exactly_where_an_uninterrupted_one_does(store: ObjectStore) -> None:
    whole = Loop(memory_store())
    whole.train(12)
    Loop(store, run_of(checkpoint={"everySteps": 5})).train(7)
    second = Loop(store, run_of(2))
    second.train(12)
    assert torch.equal(second.model.weight, whole.model.weight)
    assert {report.resumed_from_step for report in second.reporter.reports} == {5}


def test_each_checkpoint_holds_its_own_step_though_memory_is_used_again(client: FakeS3, store: ObjectStore) -> None:
    loop = Loop(store, run_of(checkpoint={"everySteps": 1, "keep": {"last": 9}}))
    loop.train(6)
    shorter = Loop(memory_store())
    shorter.train(4)
    for step in (5, 6):
        del client.objects[f"{FOLDER}{step:012d}/manifest.json"]
    fresh = Loop(store)
    assert fresh.session.resume(**fresh.state) == 4
    assert torch.equal(fresh.model.weight, shorter.model.weight)


def test_a_damaged_checkpoint_is_passed_over_and_nothing_of_it_is_taken(client: FakeS3, store: ObjectStore) -> None:
    Loop(store, run_of(checkpoint={"everySteps": 5})).train(11)
    name = f"{FOLDER}000000000010/rank-00000.safetensors"
    client.objects[name] = client.objects[name][:-1] + b"?"
    assert Loop(store).session.resume(**Loop(store).state) == 5


@pytest.mark.parametrize("lost", ["rank-00000.safetensors", "rank-00000.json", "state.json", "manifest.json"])
def test_without_one_of_its_files_a_checkpoint_is_none(client: FakeS3, store: ObjectStore, lost: str) -> None:
    Loop(store, run_of(checkpoint={"everySteps": 5})).train(5)
    del client.objects[f"{FOLDER}000000000005/{lost}"]
    assert Loop(store).session.resume(**Loop(store).state) == 0


def test_the_best_by_what_the_loop_reports_stays(client: FakeS3, store: ObjectStore) -> None:
    keep = {"last": 1, "best": {"metric": "score", "mode": "Max"}}
    run = run_of(checkpoint={"everySteps": 1, "keep": keep})
    Loop(store, run).train(5, metrics={1: 0.5, 2: 0.9, 3: math.nan, 4: 0.7, 5: 0.1})
    assert steps(client) == {2, 5}
    manifest = json.loads(client.objects[f"{FOLDER}000000000002/manifest.json"])
    assert manifest["metrics"]["score"] == 0.9


def test_the_operator_is_told_of_steps_losses_metrics_and_checkpoints(store: ObjectStore) -> None:
    loop = Loop(store, run_of(3, checkpoint={"everySteps": 2}))
    loop.train(4, metrics=dict.fromkeys(range(1, 5), 0.25))
    first, last = loop.reporter.reports[0], loop.reporter.reports[-1]
    assert (first.attempt, first.progress.step, first.progress.total_steps) == (3, 1, 4)
    assert first.progress.loss == pytest.approx(first.progress.loss)
    assert [(entry.name, entry.value) for entry in first.progress.metrics] == [("score", 0.25)]
    assert (last.progress.step, last.checkpoint.step, last.progress.eta_seconds) == (4, 4, 0)


def test_numbers_whose_names_are_long_and_begin_alike_are_told_apart(store: ObjectStore) -> None:
    layer = "grad_norm/module.transformer.encoder.layers.11.self_attention.query_key_value"
    loop = Loop(store)
    loop.session.report(0, **{f"{layer}.weight": 1.0, f"{layer}.bias": 2.0, "short": 3.0})
    names = [metric.name for metric in loop.reporter.reports[-1].progress.metrics]
    assert len(set(names)) == 3
    assert all(len(name) <= 63 for name in names)
    assert names[2] == "short"


def test_what_is_measured_once_an_epoch_stands_until_it_is_measured_again(client: FakeS3, store: ObjectStore) -> None:
    loop = Loop(store, run_of(checkpoint={"everySteps": 2}))
    for step in range(4):
        loop.watch.seconds += 1
        loop.session.report(step, loss=1.0 / (step + 1))
        if step == 0:
            loop.session.report(step, accuracy=0.9)
        loop.session.checkpoint(step, **loop.state)
        loop.session.wait()
    told = loop.reporter.reports[-1].progress
    assert (told.loss, [(entry.name, entry.value) for entry in told.metrics]) == (0.25, [("accuracy", 0.9)])
    manifest = json.loads(client.objects[f"{FOLDER}000000000004/manifest.json"])
    assert manifest["metrics"]["accuracy"] == 0.9


def test_a_loop_without_an_end_has_no_time_left_to_tell(store: ObjectStore) -> None:
    loop = Loop(store)
    for step in range(3):
        loop.watch.seconds += 10
        loop.session.report(step, total_steps=sys.maxsize)
    assert loop.reporter.reports[-1].progress.eta_seconds is None


def test_a_loss_that_is_no_number_is_left_out_of_a_report(store: ObjectStore) -> None:
    loop = Loop(store)
    loop.session.report(0, loss=torch.tensor(math.nan), ratio=math.inf, fine=2)
    (report,) = loop.reporter.reports
    assert report.progress.loss is None
    assert [entry.name for entry in report.progress.metrics] == ["fine"]


def test_a_loop_that_is_asked_to_leave_saves_first_and_ends_as_sigterm_does(store: ObjectStore) -> None:
    loop = Loop(store)
    state = loop.state
    assert not loop.session.checkpoint(0, **state)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(train.Stopped) as caught:
        loop.session.checkpoint(1, **state)
    assert caught.value.code == 143
    assert str(caught.value.__cause__) == "Terminated: Asked to stop; saved at step 2"
    assert loop.reporter.reports[-1].checkpoint.step == 2
    assert Loop(store).session.resume(**Loop(store).state) == 2


def test_a_checkpoint_of_a_recipe_is_not_taken_for_one_of_a_loop(store: ObjectStore) -> None:
    CheckpointStore(store, run_of(), "recipe").save(5, {"state.safetensors": b""})
    with pytest.raises(RunError, match=r"was not saved by modelwright\.train"):
        Loop(store).session.resume(**Loop(store).state)


def test_a_warm_start_takes_the_weights_of_another_job_and_begins_at_step_0(store: ObjectStore) -> None:
    other = Loop(store, run_of(checkpoint={"everySteps": 5}))
    other.train(5)
    there = other.reporter.reports[-1].checkpoint.uri
    document = run_of(resume={"from": {"checkpoint": there}}).document() | {"uid": "another"}
    mine = Loop(store, type(run_of()).model_validate(document))
    assert mine.session.resume(**mine.state) == 0
    assert torch.equal(mine.model.weight, other.model.weight)
    assert mine.optimizer.state_dict()["state"] == {}, "the weights alone"


def test_a_warm_start_from_nothing_is_refused(store: ObjectStore) -> None:
    loop = Loop(store, run_of(resume={"from": {"checkpoint": "s3://bucket/base/none/"}}))
    with pytest.raises(DataError, match="There is no complete checkpoint at s3://bucket/base/none/"):
        loop.session.resume(**loop.state)


def test_rows_are_shared_out_evenly(tmp_path: Path, store: ObjectStore) -> None:
    (tmp_path / "rows.csv").write_text("x,y\n" + "".join(f"{number},a\n" for number in range(7)))
    shares = [
        [int(value) for value in Rows(run_of(), World(rank, 3), store).rows(str(tmp_path / "rows.csv"))["x"]]
        for rank in range(3)
    ]
    assert shares == [[0, 3], [1, 4], [2, 5]]


def test_files_are_shared_out(tmp_path: Path, store: ObjectStore) -> None:
    for name in ("a.csv", "b.csv", "c.csv", "notes.txt"):
        (tmp_path / name).write_text("x\n1\n")
    shares = [Rows(run_of(), World(rank, 2), store).files(str(tmp_path)) for rank in range(2)]
    shares = [[Path(uri).name for uri in share] for share in shares]
    assert shares == [["a.csv", "c.csv"], ["b.csv"]]


def test_a_loop_without_data_is_told_so(store: ObjectStore) -> None:
    with pytest.raises(DataError, match=r"There is no spec\.dataset: give one, or a local file"):
        Loop(store).session.rows()


def test_on_a_desk_checkpoints_lie_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    monkeypatch.delenv("RANK", raising=False)
    module = torch.nn.Linear(1, 1)
    for expected in (0, 1):
        with train.session(tmp_path) as session:
            assert (session.rank, session.size, session.device, session.attempt) == (0, 1, "cpu", 1)
            assert session.resume(model=module) == expected
            session.checkpoint(expected, force=True, model=module)
    assert (tmp_path / "runs/local/desk/checkpoints/000000000002/manifest.json").exists()


def test_what_a_loop_raises_is_told_with_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    monkeypatch.delenv("RANK", raising=False)

    def loop() -> None:
        with train.session(tmp_path) as session:
            session.report(6)
            raise ValueError("bad batch")

    with pytest.raises(ValueError, match="bad batch") as caught:
        loop()
    failure = explain(caught.value)
    assert (failure.step, failure.failure_class) == (7, "ApplicationError")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("DataLoader timed out after 30 seconds"), "TrainingError"),
        (RuntimeError("Could not open a socket to the feature store"), "TrainingError"),
        (
            RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"),
            "PeerLost",
        ),
        (torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp"), "PeerLost"),
    ],
)
def test_an_error_of_a_loops_own_is_no_lost_peer(error: Exception, reason: str) -> None:
    def loop() -> None:
        with lost_peers(PLAIN_PEER_WORDS):
            raise error

    with pytest.raises(RuntimeError if reason == "TrainingError" else RunError) as caught:
        loop()
    assert explain(caught.value).reason == reason


def test_who_trains_alone_has_no_peer_to_lose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    monkeypatch.delenv("RANK", raising=False)

    def loop() -> None:
        with train.session(tmp_path):
            raise RuntimeError("connection closed by peer")

    with pytest.raises(RuntimeError, match="closed by peer") as caught:
        loop()
    assert explain(caught.value).reason == "TrainingError"


class Listening(Watchdog):
    """A watchdog that writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[int] = []
        self.closed = False

    def beat(self, step: int) -> None:
        self.told.append(step)

    def close(self) -> None:
        self.closed = True


def test_every_step_is_told_once_and_a_loop_that_leaves_is_not_watched(store: ObjectStore) -> None:
    watchdog = Listening()
    loop = Loop(store, watchdog=watchdog)
    for step in range(3):
        loop.session.report(step)
        loop.session.checkpoint(step, **loop.state)
    assert watchdog.told == [1, 2, 3]
    assert not watchdog.closed, "what a loop does after its last step may hang, too: nobody knows that it is the last"
    loop.stop.request()
    with pytest.raises(train.Stopped):
        loop.session.checkpoint(3, **loop.state)
    assert watchdog.closed


class Slow:
    """A session's saves, as seen by a watchdog: they take their time, and so does the wait for those of the others."""

    def __init__(self, loop: Loop, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.found: list[Standstill | None] = []
        self.closed: list[bool] = []
        self.waits: list[str] = []
        self._loop = loop
        self._seconds = seconds
        saver, control = loop.session._saver, loop.session._control
        monkeypatch.setattr(saver, "wait", self.wraps("own", saver.wait))
        monkeypatch.setattr(control, "drain", self.wraps("last", control.drain, seconds=0))
        monkeypatch.setattr(control, "meet", self.wraps("others", lambda: None), raising=False)

    def wraps(self, name: str, work: Callable[[], object], seconds: float | None = None) -> Callable[[], object]:
        def wait() -> object:
            self._loop.watch.seconds += self._seconds if seconds is None else seconds
            watchdog = self._loop.session._watchdog
            self.waits.append(name)
            self.closed.append(watchdog._closed.is_set())
            self.found.append(watchdog.look())
            return work()

        return wait


def watched(store: ObjectStore) -> Loop:
    """Return a loop in which a step may take ten seconds."""
    now = Watch()
    return Loop(store, watchdog=Watchdog(Patience(10.0), now=now), watch=now)


def test_the_last_save_of_a_loop_may_take_longer_than_a_step(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = watched(store)
    loop.session.checkpoint(0, force=True, **loop.state)
    slow = Slow(loop, monkeypatch, 5000)
    loop.session.close()
    assert slow.waits == ["last", "own"]
    assert slow.closed == [False, True], "who still makes a step may hang; who waits for the last save does not"


def test_who_waits_for_a_save_does_not_hang_and_neither_do_the_others(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = watched(store)
    loop.session.checkpoint(0, force=True, **loop.state)
    slow = Slow(loop, monkeypatch, 1000)
    loop.session.wait()
    assert (slow.waits, slow.found) == (["own", "others"], [None, None])
    loop.watch.seconds += 11
    assert loop.session._watchdog.look() is not None, "the next step may"


def test_a_forced_save_that_finds_another_under_way_does_not_hang_and_neither_do_the_others(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = watched(store)
    loop.session.checkpoint(0, force=True, **loop.state)
    slow = Slow(loop, monkeypatch, 1000)
    monkeypatch.setattr(type(loop.session._saver), "busy", True)
    assert loop.session.checkpoint(1, force=True, **loop.state)
    assert slow.waits[:2] == ["own", "others"]
    assert slow.found[:2] == [None, None]


def test_a_peer_that_does_not_come_back_from_a_save_is_a_hang_after_an_hour(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = watched(store)
    loop.session.checkpoint(0, force=True, **loop.state)
    slow = Slow(loop, monkeypatch, 2000)
    loop.session.wait()
    assert slow.found[-1] == Standstill(4000.0, 1)


def test_what_is_no_step_may_take_its_time(store: ObjectStore) -> None:
    now = [0.0]
    watchdog = Watchdog(Patience(10.0), now=lambda: now[0])
    loop = Loop(store, watchdog=watchdog)
    loop.train(3)
    with loop.session.quiet():
        now[0] += 3000
        assert watchdog.look() is None
    now[0] += 11
    assert watchdog.look() is not None


def test_the_operator_is_told_when_no_step_is_due(store: ObjectStore) -> None:
    loop = Loop(store)
    loop.train(3)
    assert [report.quiet for report in loop.reporter.reports] == [False, False, False, True]
    loop = Loop(store)
    loop.session.report(0)
    loop.watch.seconds += 0.1
    loop.session.report(1)
    told = len(loop.reporter.reports)
    with loop.session.quiet():
        assert [report.quiet for report in loop.reporter.reports[told:]] == [True]
    loop.watch.seconds += 1
    loop.session.report(2)
    assert [report.quiet for report in loop.reporter.reports[told:]] == [True, False]


def test_a_loop_that_saves_at_each_step_and_reports_rarely_is_heard_of_all_the_same(store: ObjectStore) -> None:
    loop = Loop(store)
    for step in range(6):
        loop.watch.seconds += 2
        if step == 0:
            loop.session.report(step, loss=0.5)
        loop.session.checkpoint(step, **loop.state)
    assert [report.progress.step for report in loop.reporter.reports] == [1, 2, 3, 4, 5, 6]
    assert {report.progress.loss for report in loop.reporter.reports} == {0.5}


def test_the_operator_is_told_how_long_there_may_be_no_word_of_a_step(store: ObjectStore) -> None:
    watch = Watch()
    loop = Loop(store, watchdog=Watchdog(now=watch), watch=watch)
    for step in (0, 50, 100):
        watch.seconds += 100
        loop.session.report(step)
    assert loop.reporter.reports[-1].longest_step == 100.0


def test_reports_tell_what_the_time_was_spent_on(store: ObjectStore) -> None:
    loop = Loop(store)
    loop.watch.seconds += 7
    loop.train(5)
    spent = loop.reporter.reports[-1].spent
    assert (spent.starting, spent.training) == (8, 4), "the first step belongs to the start"


def test_a_stop_can_be_taken_to_the_driver_of_ray() -> None:
    taken = pickle.loads(pickle.dumps(train.Stopped()))  # noqa: S301 (just made here)
    assert (type(taken), taken.code) == (train.Stopped, 143)


def test_a_loop_in_a_thread_of_rays_saves_when_its_pod_is_asked_to_leave(
    client: FakeS3, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWRIGHT_STOP", str(tmp_path))
    loop = Loop(store, run_of(checkpoint={"everySteps": 100}))
    raised: list[BaseException] = []

    def work() -> None:
        try:
            loop.train(3)
            (tmp_path / "asked").touch()
            loop.train(9)
        except train.Stopped as stopped:
            raised.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(raised) == 1
    assert steps(client) == {1}, "at the first step after it was asked"
