import pytest

from modelwright.api.run import Run
from modelwright.registry.store import ObjectStore
from modelwright.runtime.train.checkpoints import CheckpointStore, CheckpointWriter
from tests.unit.registry.fake_s3 import FakeS3, memory_store, refusal
from tests.unit.runtime_train.runs import run_of

FOLDER = "base/runs/ns/uid/checkpoints/"


@pytest.fixture
def client() -> FakeS3:
    return FakeS3()


@pytest.fixture
def store(client: FakeS3) -> ObjectStore:
    return memory_store(client)


def checkpoints(store: ObjectStore, run: Run | None = None, fingerprint: str = "same") -> CheckpointStore:
    return CheckpointStore(store, run or run_of(), fingerprint)


def steps(client: FakeS3) -> set[int]:
    return {int(key.removeprefix(FOLDER).split("/")[0]) for key in client.objects}


def test_the_newest_comes_back_as_it_was(store: ObjectStore) -> None:
    saved = checkpoints(store)
    saved.save(5, {"state": b"five"})
    status = saved.save(10, {"state": b"ten"})
    found = checkpoints(store).newest()
    assert found is not None
    assert (found.step, found.files) == (10, {"state": b"ten"})
    assert status.uri == "s3://bucket/base/runs/ns/uid/checkpoints/000000000010/"


def test_nothing_saved_is_nothing_found(store: ObjectStore) -> None:
    assert checkpoints(store).newest() is None


def test_the_manifest_is_written_last(client: FakeS3, store: ObjectStore) -> None:
    checkpoints(store).save(5, {"a": b"", "b": b""})
    assert client.puts[-1] == f"{FOLDER}000000000005/manifest.json"


@pytest.mark.parametrize("damage", ["manifest missing", "file missing", "file changed"])
def test_an_incomplete_or_damaged_one_is_passed_over(client: FakeS3, store: ObjectStore, damage: str) -> None:
    saved = checkpoints(store)
    saved.save(5, {"state": b"five"})
    saved.save(10, {"state": b"ten"})
    folder = f"{FOLDER}000000000010/"
    if damage == "manifest missing":
        del client.objects[folder + "manifest.json"]
    elif damage == "file missing":
        del client.objects[folder + "state"]
    else:
        client.objects[folder + "state"] = b"tEn"
    found = checkpoints(store).newest()
    assert found is not None
    assert found.step == 5


def test_the_last_k_are_kept_and_debris_goes(client: FakeS3, store: ObjectStore) -> None:
    client.objects[f"{FOLDER}000000000003/state"] = b"never finished"
    saved = checkpoints(store)
    for step in (5, 10, 15):
        saved.save(step, {"state": b""})
    assert steps(client) == {10, 15}


def test_a_checkpoint_of_other_data_is_not_resumed(store: ObjectStore) -> None:
    checkpoints(store).save(5, {"state": b""})
    assert checkpoints(store, fingerprint="other").newest() is None


def test_discarding_leaves_nothing_that_could_look_newer(client: FakeS3, store: ObjectStore) -> None:
    checkpoints(store).save(500, {"state": b""})
    other = checkpoints(store, fingerprint="other")
    other.discard()
    other.save(5, {"state": b"new"})
    assert steps(client) == {5}


def test_a_deletion_that_is_cut_off_leaves_no_whole_looking_rest(client: FakeS3, store: ObjectStore) -> None:
    saved = checkpoints(store, run_of(checkpoint={"keep": {"last": 1}}))
    saved.save(5, {"state": b""})
    deleted: list[str] = []
    original = client.delete_object

    def cut_off(Bucket: str, Key: str) -> None:  # noqa: N803
        if deleted:
            raise refusal("SlowDown", 503)
        deleted.append(Key)
        original(Bucket, Key)

    client.delete_object = cut_off  # type: ignore[method-assign]
    writer = CheckpointWriter()
    writer.save(10, lambda: saved.save(10, {"state": b""}))
    writer.wait()
    assert deleted == [f"{FOLDER}000000000005/manifest.json"]
    found = checkpoints(store).newest()
    assert found is not None
    assert found.step == 10


def test_a_save_that_fails_costs_only_that_checkpoint(client: FakeS3, store: ObjectStore) -> None:
    def down() -> None:
        raise refusal("ServiceUnavailable", 503)

    client.before_put[f"{FOLDER}000000000005/state"] = down
    writer, saved = CheckpointWriter(), checkpoints(store)
    writer.save(5, lambda: saved.save(5, {"state": b""}))
    writer.wait()
    assert (writer.last, writer.saved_step) == (None, None)
    writer.save(6, lambda: saved.save(6, {"state": b""}))
    writer.wait()
    assert writer.last is not None
    assert (writer.last.step, writer.saved_step) == (6, 6)


def test_the_best_by_a_metric_outlives_newer_ones_also_after_a_restart(client: FakeS3, store: ObjectStore) -> None:
    run = run_of(checkpoint={"keep": {"last": 1, "best": {"metric": "loss", "mode": "Min"}}})
    first = checkpoints(store, run)
    for step, loss in ((5, 0.9), (10, 0.2), (15, 0.5)):
        first.save(step, {"state": b""}, {"loss": loss})
    checkpoints(store, run).save(20, {"state": b""}, {"loss": 0.4})
    assert steps(client) == {10, 20}


def test_a_checkpoint_is_there_whatever_becomes_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeS3()
    checkpoints = CheckpointStore(memory_store(client), run_of(checkpoint={"keep": {"last": 1}}), "same")
    checkpoints.save(1, {"a": b"1"})

    def refuse(**_: str) -> None:
        raise refusal("SlowDown", 503)

    monkeypatch.setattr(client, "delete_object", refuse)
    assert checkpoints.save(2, {"a": b"2"}).step == 2
    assert checkpoints.complete_steps() == [1, 2]
    monkeypatch.undo()
    checkpoints.save(3, {"a": b"3"})
    assert checkpoints.complete_steps() == [3]


def test_what_nobody_foresaw_in_a_save_is_raised_by_who_comes_next(store: ObjectStore) -> None:
    writer, saved = CheckpointWriter(), checkpoints(store)

    def broken() -> None:
        raise KeyError("complex128")

    writer.save(5, broken)
    with pytest.raises(KeyError, match="complex128"):
        writer.save(6, lambda: saved.save(6, {"state": b""}))
    writer.save(7, broken)
    with pytest.raises(KeyError, match="complex128"):
        writer.wait()
    writer.save(8, lambda: saved.save(8, {"state": b""}))
    writer.wait()
    assert writer.saved_step == 8
