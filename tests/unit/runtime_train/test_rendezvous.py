"""Agents that look more often than torch's whether the others are there."""

import pytest
from torch.distributed import HashStore
from torch.distributed.elastic.rendezvous import RendezvousParameters, dynamic_rendezvous
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend

from modelwright.runtime.train.rendezvous import look_often, seconds_between_looks


@pytest.mark.parametrize(("agents", "seconds"), [(2, 0.1), (5, 0.1), (25, 0.5), (50, 1.0), (4000, 1.0)])
def test_few_agents_look_often_and_many_as_torch_does(agents: int, seconds: float) -> None:
    assert seconds_between_looks(agents) == seconds


def test_torchs_own_rendezvous_takes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    # Taken back in the end.
    for name in ("_delay", "_BackendRendezvousStateHolder"):
        monkeypatch.setattr(dynamic_rendezvous, name, getattr(dynamic_rendezvous, name))
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    look_often(2)
    dynamic_rendezvous._delay(seconds=1)
    dynamic_rendezvous._delay(seconds=(0.3, 0.3))
    assert slept == [0.1, 0.3]
    store = HashStore()
    parameters = RendezvousParameters("c10d", "localhost:0", "run", 2, 2)
    handler = dynamic_rendezvous.create_handler(store, C10dRendezvousBackend(store, "run"), parameters)
    assert handler._state_holder._cache_duration == 0.1
