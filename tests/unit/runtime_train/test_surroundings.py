"""What a process finds out about the place that it runs in."""

import os
import signal

import pytest
import torch.distributed

from modelwright.api.run import PEER_LOST
from modelwright.runtime.failure import RunError
from modelwright.runtime.train.stop import Stop
from modelwright.runtime.train.world import World, joined, lost_peers


def test_sigterm_is_a_request() -> None:
    stop = Stop()
    before = signal.getsignal(signal.SIGTERM)
    try:
        stop.listen()
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "text", ["[../pair.cc:534] Connection closed by peer [10.0.0.1]:123", "NCCL error", "Broken pipe"]
)
def test_a_broken_connection_is_a_lost_peer(text: str) -> None:
    with pytest.raises(RunError) as caught, lost_peers():
        raise RuntimeError(text)
    assert caught.value.reason == PEER_LOST
    assert caught.value.retryable


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), lost_peers():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_group_that_the_program_has_made_is_the_gang(monkeypatch: pytest.MonkeyPatch) -> None:
    # As by torch.multiprocessing.spawn, which sets no RANK.
    monkeypatch.delenv("RANK", raising=False)
    for name, value in {"is_initialized": True, "get_rank": 1, "get_world_size": 2}.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    with joined() as world:
        assert (world.rank, world.size) == (1, 2)


def test_a_process_alone_agrees_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with joined() as world:
        assert world == World()
        assert world.leads
        assert world.sum([1.0, 2.0]) == [1.0, 2.0]
        assert world.agree({"step": 3}) == {"step": 3}
