"""What the launcher of a recipe waits for before its agent looks for the others."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from modelwright.runtime import preflight
from modelwright.runtime.train import agent, main, spare, torchrun

HOSTS = "job-{}.gang"


class Left(BaseException):
    """The launcher ended its process."""


class Pod:
    """A pod whose DNS knows what it is told, and in which a pause brings the next of some events."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.events: list[Callable[[], None]] = []
        self.did: list[str] = []
        self.codes: list[int] = []
        self.ended = threading.Event()

    def absent(self, patience: float, met: threading.Event | None = None) -> list[int]:
        self.did.append("looked")
        wanted = [0, 1] if preflight.leads() else [0]
        while left := [index for index in wanted if HOSTS.format(index) not in self.known]:
            if not self.events:
                return left
            self.events.pop(0)()
        return left

    def launch(self, arguments: Any, work: Any, met: Callable[[], None]) -> int:
        self.did.append(f"launched {' '.join(arguments)}")
        if preflight.leads():
            self.ended.wait(5)
        return 0

    def leave(self, code: int) -> None:
        self.codes.append(code)
        self.ended.set()
        if threading.current_thread() is threading.main_thread():
            raise Left


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> Pod:
    pod = Pod()
    monkeypatch.setattr(torchrun, "NEEDED", ())
    monkeypatch.setattr(spare, "start", lambda: None)
    monkeypatch.setattr(agent, "launch", pod.launch)
    monkeypatch.setattr(main, "leave", pod.leave)
    monkeypatch.setattr(preflight, "absent", pod.absent)
    monkeypatch.setattr(preflight, "_give_up", lambda message, **_: pod.did.append(message))
    monkeypatch.setenv("MODELWRIGHT_HOSTS", HOSTS)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.delenv("MODELWRIGHT_NODE", raising=False)
    return pod


def launch(*arguments: str) -> None:
    with pytest.raises(Left):
        torchrun.launch(arguments)


@pytest.mark.parametrize("names", [("--names=9",), ()])
def test_a_worker_does_not_knock_before_worker_0_has_an_address(pod: Pod, names: tuple[str, ...]) -> None:
    pod.events = [lambda: pod.did.append("a day later"), lambda: pod.known.add("job-0.gang")]
    launch(*names, "--nnodes=2")
    assert pod.did == ["looked", "a day later", "launched --nnodes=2"]
    assert pod.codes == [0]


def test_a_worker_whose_dns_does_not_work_says_so_and_ends(pod: Pod) -> None:
    launch("--names=9", "--nnodes=2")
    assert pod.did == ["looked", "worker 1: there is no address for worker 0 (job-0.gang)"]
    assert pod.codes == [1]


def test_without_a_preflight_torchrun_finds_out_itself(pod: Pod) -> None:
    launch("--nnodes=2")
    assert pod.did == ["looked", "launched --nnodes=2"]


def test_worker_0_looks_for_the_others_beside_torchrun_and_ends_where_its_dns_does_not_work(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    pod.known = {"job-0.gang"}
    launch("--names=9", "--nnodes=2")
    assert "worker 0: there is no address for worker 1 (job-1.gang)" in pod.did
    assert "launched --nnodes=2" in pod.did
    assert pod.codes[0] == 1


def test_worker_0_looks_for_nobody_without_a_preflight(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    pod.ended.set()
    launch("--nnodes=2")
    assert pod.did == ["launched --nnodes=2"]
