"""When processes start again in their pods, and what they share until all are done."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.distributed.elastic.agent.server import RunResult, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.run import PEER_LOST, TERMINATED
from modelwright.runtime import failure
from modelwright.runtime.failure import RunError, explain, said, write_failure
from modelwright.runtime.train import agent as module
from modelwright.runtime.train import together
from modelwright.runtime.train.agent import Agent, curable, last_words, memory_kills
from modelwright.runtime.train.stop import Stop

KILLED, ASKED = -signal.SIGKILL, -signal.SIGTERM


@pytest.mark.parametrize(
    ("reason", "codes", "again"),
    [
        (None, [KILLED], True),
        (None, [-signal.SIGSEGV], True),
        (None, [KILLED, ASKED], True),
        # It broke, and could not even say why.
        (None, [3], False),
        (None, [KILLED, 1], False),
        (PEER_LOST, [1], True),
        (PEER_LOST, [KILLED, 1], True),
        # The gang leaves because a peer was asked to.
        (TERMINATED, [143], False),
        (TERMINATED, [143, ASKED], False),
        # torchrun clears away what runs beside a process that was killed.
        (TERMINATED, [KILLED, 143], True),
        ("Diverged", [1], False),
        ("Hang", [KILLED, 1], False),
        ("ColumnNotFound", [1, 1], False),
    ],
)
def test_processes_start_again_where_a_signal_ended_one_and_none_has_said_why(
    reason: str | None, codes: list[int], *, again: bool
) -> None:
    assert curable(reason, codes) is again


@pytest.mark.parametrize(
    ("codes", "out_of_memory", "said"),
    [
        ([KILLED], True, ("OutOfMemory", FailureClass.OUT_OF_MEMORY)),
        ([KILLED], False, ("ProcessKilled", FailureClass.INFRASTRUCTURE)),
        ([KILLED, 1], False, ("ProcessKilled", FailureClass.INFRASTRUCTURE)),
        # Nobody sends a process that: it is a bug, of which the budget is smaller.
        ([-signal.SIGSEGV, KILLED], False, ("ProcessKilled", None)),
        ([1], False, None),
        ([ASKED], False, None),
    ],
)
def test_the_agent_speaks_for_a_process_that_a_signal_ended(
    codes: list[int], said: tuple[str, FailureClass | None] | None, *, out_of_memory: bool
) -> None:
    failure = last_words(codes, out_of_memory=out_of_memory)
    assert (failure and (failure.reason, failure.failure_class)) == said


def test_the_kernel_says_whom_it_killed_for_want_of_memory(tmp_path: Path) -> None:
    assert memory_kills(tmp_path / "none") == 0
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 7\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert memory_kills(events) == 2


class Group:
    """What an agent knows of its processes, as far as it matters here."""

    class spec:  # noqa: N801 (a name of torch's)
        max_restarts = 3

    state = WorkerState.HEALTHY
    master_addr, master_port = "pod-0", 29400
    workers = (SimpleNamespace(global_rank=3),)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """An agent of no processes, which notes what torch would be asked to do."""
    monkeypatch.setattr(failure, "TERMINATION_MESSAGE_FILE", str(tmp_path / "message"))
    found = object.__new__(Agent)
    found.asked = []
    found._met = lambda: found.asked.append("met")
    monkeypatch.setattr(LocalElasticAgent, "_shutdown", lambda self, *how: self.asked.append(how[0]))
    monkeypatch.setattr(LocalElasticAgent, "_restart_workers", lambda self, group: self.asked.append("restart"))
    monkeypatch.setattr(LocalElasticAgent, "_start_workers", lambda self, group: self.asked.append("start") or {})
    return found


def left(reason: str) -> None:
    write_failure(explain(RunError(reason, "words", retryable=True)))


def test_an_agent_that_others_ask_to_start_again_counts_as_they_do(agent: Agent) -> None:
    for count in (1, 2, 3):
        agent._restart_workers(Group)
        assert agent._remaining_restarts == 3 - count
    assert agent.asked == [signal.SIGKILL, "restart"] * 3


def test_who_waits_for_the_others_in_vain_has_lost_a_peer_and_who_finds_them_forgets_that(agent: Agent) -> None:
    agent._restart_workers(Group)
    assert said() == PEER_LOST
    agent._start_workers(Group)
    assert said() is None


def test_a_pod_whose_own_process_was_killed_puts_the_blame_on_nobody(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Group, "state", WorkerState.FAILED)
    agent._restart_workers(Group)
    assert said() is None


def test_what_a_process_says_while_others_start_again_is_the_last_word(agent: Agent) -> None:
    left("Diverged")
    with pytest.raises(RuntimeError, match="Diverged"):
        agent._restart_workers(Group)
    assert agent.asked == [signal.SIGKILL]
    agent._start_workers(Group)
    assert said() == "Diverged"


class Store:
    """torchrun's store."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def add(self, key: str, amount: int) -> int:
        self.keys.add(key)
        return amount

    def check(self, keys: list[str]) -> bool:
        return self.keys >= set(keys)


def test_all_stay_until_rank_0_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    store, looks = Store(), []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 5:
            together.leave(store)

    together.stay(store, Stop(), 7, sleep)
    assert looks == [0.05, 0.1, 0.2, 0.4, 0.5]
    # Those that have started again since do not take the word of the former rank 0.
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    stop = Stop()
    with pytest.raises(RunError) as caught:
        together.stay(store, stop, 7, lambda _: stop.request())
    assert caught.value.reason == TERMINATED


@pytest.fixture
def killed(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> Callable[[Store], RunResult]:
    """An agent that finds a process of its own killed, with the store of its gang."""

    class Failed:
        state = WorkerState.FAILED
        failures = {0: ProcessFailure(local_rank=0, pid=1, exitcode=KILLED, error_file="")}  # noqa: RUF012

    def look(store: Store) -> RunResult:
        monkeypatch.setattr(LocalElasticAgent, "_monitor_workers", lambda self, group: Failed)
        monkeypatch.setattr(module, "connect_to", lambda address, port, timeout: store)
        return agent._monitor_workers(Group)

    agent._memory_kills = memory_kills()
    agent._remaining_restarts = 0
    return look


def test_a_process_that_is_killed_when_nothing_is_left_to_do_fails_nothing(
    killed: Callable[[Store], RunResult],
) -> None:
    store = Store()
    together.leave(store)
    found = killed(store)
    assert found.state is WorkerState.SUCCEEDED
    assert found.return_values == {3: None}, "the launcher looks up what every process has returned"
    assert said() is None


def test_a_process_that_is_killed_once_too_often_is_spoken_for(killed: Callable[[Store], RunResult]) -> None:
    left(PEER_LOST)
    assert killed(Store()).state is WorkerState.FAILED
    assert said() == "ProcessKilled"
