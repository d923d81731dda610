"""What is broken is named before training begins: the storage, a GPU, a worker that does not come."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from modelwright.api.run import PEER_LOST, PREFLIGHT_FAILED, Failure
from modelwright.registry.errors import StoreError
from modelwright.runtime.failure import RunError, explain
from modelwright.runtime.train import preflight
from modelwright.runtime.train.preflight import RollCall
from modelwright.runtime.train.stop import Stop
from modelwright.runtime.train.world import World
from tests.unit.registry.fake_s3 import FakeS3, memory_store
from tests.unit.runtime_train.runs import run_of


class Store:
    """A `torch.distributed.Store` over a dict, and a clock that sleeping moves."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.now = 0.0
        self.meanwhile: Callable[[], None] = lambda: None

    def set(self, key: str, value: str) -> None:
        self.values[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self.values[key]

    def add(self, key: str, amount: int) -> int:
        self.values[key] = str(int(self.values.get(key, b"0")) + amount).encode()
        return int(self.values[key])

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("MODELWRIGHT_NODE", "gpu-17")
    monkeypatch.delenv("MODELWRIGHT_GPUS", raising=False)


def failure(check: Callable[[], Any]) -> Failure:
    with pytest.raises(RunError) as caught:
        check()
    return explain(caught.value)


def passes() -> None:
    return None


def rolls(count: int) -> tuple[Store, list[RollCall]]:
    store = Store()
    return store, [
        RollCall(World(rank, count), "uid-1", store, lambda: store.now, store.sleep) for rank in range(count)
    ]


def test_a_store_that_is_not_fit_is_named_with_the_worker_and_its_node() -> None:
    with_none = run_of(preflight={"enabled": False})
    store = memory_store(FakeS3(ignores="If-Match"))
    said = failure(lambda: preflight.check(run_of(), World(), store, Stop()))
    assert (said.reason, said.failure_class, said.retryable) == (PREFLIGHT_FAILED, "Infrastructure", False)
    assert said.message.startswith("worker 1 on node gpu-17: storage: The S3 server of ")
    assert said.node == "gpu-17"
    with pytest.raises(StoreError):
        preflight.check(with_none, World(), store, Stop())


def test_a_store_that_does_not_answer_may_answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(store: object) -> None:
        raise StoreError("it cannot be reached")

    monkeypatch.setattr(preflight, "require_conditional_writes", unreachable)
    said = failure(lambda: preflight.check(run_of(), World(), memory_store(FakeS3()), Stop()))
    assert (said.retryable, said.message) == (True, "worker 1 on node gpu-17: storage: it cannot be reached")


def test_only_rank_0_writes() -> None:
    s3 = FakeS3()
    preflight._own_checks(run_of(), World(1, 2), memory_store(s3))
    assert s3.puts == []


def test_a_pod_whose_gpus_nobody_sees_does_not_train_on_its_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWRIGHT_GPUS", "2")
    said = failure(lambda: preflight.check(run_of(), World(), memory_store(FakeS3()), Stop()))
    assert said.message == (
        "worker 1 on node gpu-17: GPU: torch sees none, though the pod has 2: check the driver and the image"
    )


@pytest.mark.parametrize(("shared", "seen", "enough"), [(False, 2, True), (False, 1, False), (True, 1, True)])
def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch, shared: bool, seen: int, enough: bool) -> None:
    ones = type("Ones", (), {"__matmul__": lambda self, other: {(0, 0): 256.0}})()
    cuda = SimpleNamespace(device_count=lambda: seen)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, ones=lambda *_, device: ones))
    check = lambda: preflight.gpu(World(device="cuda:0"), 2, shared=shared)  # noqa: E731
    if enough:
        check()
    else:
        assert failure(check).message == "worker 1 on node gpu-17: GPU: torch sees 1 of 2"


def test_a_gpu_that_does_not_compute_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, device: str) -> None:
        raise RuntimeError(f"CUDA error: an illegal memory access on {device}\nstack")

    cuda = SimpleNamespace(device_count=lambda: 1)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, ones=broken))
    said = failure(lambda: preflight.gpu(World(device="cuda:0"), 1, shared=False))
    assert said.message.endswith("GPU: cuda:0: CUDA error: an illegal memory access on cuda:0")


def test_processes_that_torchrun_starts_again_call_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    first = preflight._round(run_of(), World(0, 2))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    names = {first, preflight._round(run_of(), World(0, 2)), preflight._round(run_of(), World(0, 3))}
    assert len(names | {preflight._round(run_of(attempt=2), World(0, 2))}) == 4


def test_the_last_to_come_lets_all_go_on() -> None:
    store, (first, second) = rolls(2)

    def come() -> None:
        if store.now >= 3 and not store.check([second._key(1)]):
            second.answer(passes, 10, Stop())

    store.meanwhile = come
    first.answer(passes, 10, Stop())
    assert 3 <= store.now < 3.6


def test_who_does_not_come_is_named_by_all_who_did() -> None:
    store, (first, second, _) = rolls(3)
    store.set(second._key(1), '{"who": "worker 4 on node gpu-4", "node": "gpu-4"}')
    said = failure(lambda: first.answer(passes, 10, Stop()))
    assert (said.reason, said.node) == (PREFLIGHT_FAILED, "")
    assert said.message == (
        "worker 4 on node gpu-4, the process of rank 2, which never began: not ready 10 s after worker 1 on node gpu-17"
    )


def test_the_node_of_the_one_that_does_not_come_is_to_blame() -> None:
    store, (first, second) = rolls(2)
    store.set(second._key(1), '{"who": "worker 4 on node gpu-4", "node": "gpu-4"}')
    assert failure(lambda: first.answer(passes, 10, Stop())).node == "gpu-4"


def test_nobody_waits_for_one_that_has_failed() -> None:
    def broken() -> None:
        raise RunError(PREFLIGHT_FAILED, "worker 4 on node gpu-4: GPU: none", retryable=True)

    store, (broken_one, beside, elsewhere) = rolls(3)
    assert failure(lambda: broken_one.answer(broken, 10, Stop())).node is None
    # In the same pod, processes are asked to stop for that.
    asked = Stop()
    asked.request()
    for other, stop in ((beside, asked), (elsewhere, Stop())):
        said = failure(lambda other=other, stop=stop: other.answer(passes, 10, stop))  # type: ignore[misc]
        assert (said.reason, store.now) == (PEER_LOST, 0.0)
        assert said.message.endswith("worker 4 on node gpu-4: GPU: none")


def test_who_is_asked_to_leave_does_not_wait() -> None:
    stop = Stop()
    stop.request()
    _, (first, _) = rolls(2)
    assert failure(lambda: first.answer(passes, 10, stop)).reason == "Terminated"


@pytest.mark.parametrize(
    ("words", "reason", "node"),
    [
        ("[pair.cc] Connection closed by peer [10.0.0.1]", PEER_LOST, None),
        ("Timed out waiting 5000ms for recv operation", PREFLIGHT_FAILED, ""),
        ("NCCL error: unhandled system error\nmore", PREFLIGHT_FAILED, ""),
    ],
)
def test_a_network_that_carries_nothing_is_not_blamed_on_one_node(
    monkeypatch: pytest.MonkeyPatch, words: str, reason: str, node: str | None
) -> None:
    def all_reduce(*_: object, async_op: bool) -> None:
        raise RuntimeError(words)

    torch = SimpleNamespace(
        tensor=lambda *_, **__: None, float64=None, distributed=SimpleNamespace(all_reduce=all_reduce)
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    said = failure(lambda: preflight.collective(World(0, 2), 5))
    assert (said.reason, said.node) == (reason, node)
    assert "more" not in said.message


@pytest.mark.parametrize(("ray", "wanted"), [({"resourcesPerWorker": {"gpu": 0}}, 0), ({}, 4), (None, 4)])
def test_workers_that_are_to_train_on_cpus_miss_no_gpu(
    monkeypatch: pytest.MonkeyPatch, ray: dict[str, Any] | None, wanted: int
) -> None:
    monkeypatch.setenv("MODELWRIGHT_GPUS", "4")
    asked: list[int] = []
    monkeypatch.setattr(preflight, "gpu", lambda world, expected, *, shared: asked.append(expected))
    preflight.check(run_of(framework="Ray", ray=ray), World(), memory_store(FakeS3()), Stop())
    assert asked == [wanted]
