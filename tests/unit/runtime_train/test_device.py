"""Which GPU is a process's own."""

import sys
from types import SimpleNamespace

import pytest

from modelwright.runtime.train.world import _number


@pytest.mark.parametrize(
    ("started", "mine", "expected"),
    [
        # The fourth worker of a pod with two GPUs, of which each has half a one.
        (True, [1], 1),
        (True, ["1", "2"], 1),
        # A driver, and a program that merely imports Ray.
        (True, [], 3),
        (False, [1], 3),
        # Of a pod whose devices go by other names.
        (True, ["GPU-7"], 3),
    ],
)
def test_under_ray_it_is_the_one_that_ray_gave_which_may_be_shared(
    monkeypatch: pytest.MonkeyPatch, started: bool, mine: list[object], expected: int
) -> None:
    ray = SimpleNamespace(is_initialized=lambda: started, get_gpu_ids=lambda: mine)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert _number() == expected


def test_without_ray_it_is_the_one_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert _number() == 2


def test_a_program_that_started_its_processes_itself_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    assert _number() == 1


def test_a_program_that_an_actor_of_ray_has_started_is_told_which_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("MODELWRIGHT_DEVICE", "3")
    assert _number() == 3
