"""One measurement that fails leaves the others alone."""

import pytest

from e2e.bench import ground
from e2e.cluster.errors import ClusterError
from e2e.support.resources import WaitedInVainError


def test_a_measurement_that_works_gives_what_it_found() -> None:
    assert ground.attempt("a start", lambda: 3.5) == 3.5


@pytest.mark.parametrize("error", [WaitedInVainError("no step"), ClusterError("no step")])
def test_one_that_fails_says_why_and_gives_nothing(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> float:
        raise error

    assert ground.attempt("a start", fail) is None
    assert "a start: failed: no step" in capsys.readouterr().err


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        ground.attempt("a start", lambda: {}["step"])


def test_without_a_cluster_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ClusterError("not running: etcd; run `python -m e2e.cluster up`")

    monkeypatch.setattr(ground, "resolve", missing)
    monkeypatch.setattr(ground.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit, match="run `python -m e2e"), ground.opened(0):
        raise AssertionError("it was opened")
