"""What all processes tell each other between two steps, and how long they wait for that."""

from typing import Any

import pytest
import torch.distributed as dist

from modelwright.runtime.hang import COLLECTIVE_TIMEOUT
from modelwright.runtime.train.world import World
from modelwright.train._control import Control
from tests.unit.registry.fake_s3 import memory_store
from tests.unit.runtime_train.runs import run_of
from tests.unit.train.loops import Loop


class Pair(World):
    """One of two processes, whose other one says the same."""

    def agree(self, value: Any) -> Any:
        return value


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What groups were made with."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(dist, "new_group", lambda **options: asked.append(options))
    return asked


def test_nobody_gives_a_peer_up_before_a_hang_is_told_as_one(made: list[dict[str, Any]]) -> None:
    Loop(memory_store(), run_of(), Pair(0, 2))
    assert made == [{"backend": "gloo", "timeout": COLLECTIVE_TIMEOUT}]


def test_where_nobody_watches_for_hangs_torch_does(made: list[dict[str, Any]]) -> None:
    Loop(memory_store(), run_of(hang={"enabled": False}), Pair(0, 2))
    assert made == [{"backend": "gloo", "timeout": None}]


def test_one_process_alone_hears_itself_at_once(made: list[dict[str, Any]]) -> None:
    assert Control(World()).exchange([1.0, 0.0]) == [1.0, 0.0]
    assert made == []
