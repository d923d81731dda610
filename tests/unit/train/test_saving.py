"""How the parts of a sharded checkpoint become one."""

import json

import pytest
import torch
from safetensors import SafetensorError

from modelwright.api.artifacts import CheckpointPart
from modelwright.registry.store import ObjectStore
from modelwright.runtime.train.checkpoints import CheckpointStore, describe_bytes
from modelwright.runtime.train.world import World
from modelwright.train._saving import Saver
from modelwright.train._shards import Capture
from tests.unit.registry.fake_s3 import FakeS3, memory_store
from tests.unit.runtime_train.runs import run_of

FOLDER = "base/runs/ns/uid/checkpoints/000000000008/"
PART = Capture(b"{}", {}, {}, everywhere=True)


@pytest.fixture
def client() -> FakeS3:
    return FakeS3()


@pytest.fixture
def store(client: FakeS3) -> ObjectStore:
    return memory_store(client)


def saver(store: ObjectStore, rank: int, pause: object = None, identity: str = "mine") -> Saver:
    waits = pause if callable(pause) else lambda _: None
    return Saver(CheckpointStore(store, run_of(), ""), World(rank, 2), identity, waits)


def test_the_manifest_comes_after_every_part_and_names_all_files(client: FakeS3, store: ObjectStore) -> None:
    def peer_writes(seconds: float) -> None:
        assert f"{FOLDER}manifest.json" not in client.objects
        other = saver(store, 1)
        other.save(8, PART, {})
        assert other.finish(8)
        assert other.last is None

    leader = saver(store, 0, peer_writes)
    leader.save(8, PART, {"loss": 0.5})
    assert leader.finish(8)
    assert leader.last is not None
    manifest = json.loads(client.objects[f"{FOLDER}manifest.json"])
    ranks = [f"rank-0000{rank}.{ending}" for rank in (0, 1) for ending in ("json", "safetensors")]
    assert set(manifest["files"]) == {"state.json", *ranks}
    assert manifest["metrics"] == {"loss": 0.5}
    for name, described in manifest["files"].items():
        assert describe_bytes(client.objects[FOLDER + name]).sha256 == described["sha256"]


def test_what_an_attempt_that_was_cut_off_left_is_not_taken_for_a_part(client: FakeS3, store: ObjectStore) -> None:
    old = CheckpointPart(save="of an attempt before", files={}, tensors={})
    store.write_json("runs/ns/uid/checkpoints/000000000008/rank-00001.json", old.document())
    waits: list[float] = []
    leader = saver(store, 0, waits.append)
    leader.save(8, PART, {})
    assert not leader.finish(8)
    assert sum(waits) == pytest.approx(300, abs=1)
    assert f"{FOLDER}manifest.json" not in client.objects


def test_a_gang_that_breaks_waits_for_no_part(client: FakeS3, store: ObjectStore) -> None:
    leader = saver(store, 0, lambda _: leader.abandon())
    leader.save(8, PART, {})
    assert not leader.finish(8)
    assert f"{FOLDER}manifest.json" not in client.objects


def test_a_full_disk_costs_this_checkpoint_alone(
    client: FakeS3, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Capture(b"{}", {"weights": torch.zeros(2)}, {}, everywhere=False)
    leader = saver(store, 0)
    with monkeypatch.context() as full:
        full.setattr("safetensors.torch.serialize_file", _refuse)
        leader.save(7, whole, {})
        assert not leader.finish(7)
    assert "checkpoint 7 could not be saved, training goes on: " in caplog.text
    assert "no space" in caplog.text
    leader.save(8, whole, {})
    assert leader.finish(8)
    assert f"{FOLDER}manifest.json" in client.objects


def _refuse(*_: object, **__: object) -> None:
    raise SafetensorError("no space left on device")


def test_what_every_process_has_is_saved_by_the_first_alone(client: FakeS3, store: ObjectStore) -> None:
    whole = Capture(b"{}", {}, {}, everywhere=False)
    other, leader = saver(store, 1), saver(store, 0)
    other.save(8, whole, {})
    assert not client.objects
    leader.save(8, whole, {})
    assert leader.finish(8)


def test_a_part_of_an_earlier_save_of_the_same_step_is_not_taken_for_one_of_this(
    client: FakeS3, store: ObjectStore
) -> None:
    # What is sharded may have changed since, as by an average of weights at the end of an epoch.
    waits: list[float] = []

    def peer_writes(seconds: float) -> None:
        waits.append(seconds)
        peer.save(8, PART, {})
        assert peer.finish(8)

    peer, leader = saver(store, 1), saver(store, 0, peer_writes)
    peer.save(8, PART, {})
    assert peer.finish(8)
    leader.save(8, PART, {})
    assert leader.finish(8)
    assert waits == []
    leader.save(8, PART, {})
    assert leader.finish(8)
    assert len(waits) == 1
    files = json.loads(client.objects[f"{FOLDER}manifest.json"])["files"]
    assert all(describe_bytes(client.objects[FOLDER + name]).sha256 == files[name]["sha256"] for name in files)
