"""Every worker of a gang has an address, or it is said whose is missing."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelwright.api.run import Failure
from modelwright.runtime import failure, preflight

HOSTS = "job-{}.gang"


class World:
    """A DNS that learns a name at a time, and a clock that sleeping moves."""

    def __init__(self, **known_since: float) -> None:
        self.known_since = known_since
        self.now = 0.0
        self.asked: list[str] = []

    def has_address(self, host: str) -> bool:
        self.asked.append(host)
        return self.known_since.get(host.partition("-")[2].partition(".")[0].replace("0", "zero"), 1e9) <= self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, patience: float, *indexes: int) -> list[int]:
        return preflight.wait_for(HOSTS, indexes, patience, self.has_address, now=lambda: self.now, sleep=self.sleep)


class Working(World):
    """A DNS that knows the gang's Service, but for some time."""

    def __init__(self, down: tuple[float, float] = (0.0, 0.0), **known_since: float) -> None:
        super().__init__(**known_since)
        self.down = down

    def has_address(self, host: str) -> bool:
        begin, end = self.down
        return not begin <= self.now < end if host == "gang" else super().has_address(host)


def test_names_that_are_known_are_not_asked_for_again() -> None:
    world = World(zero=0.0, **{"1": 3.0})
    assert world.wait(10, 0, 1) == []
    assert world.asked == ["job-0.gang", *["job-1.gang"] * 4]


def test_who_has_no_address_in_time_is_named() -> None:
    world = World(zero=0.0)
    assert world.wait(5, 0, 1, 2) == [1, 2]
    assert world.now == 5


def test_a_long_wait_says_what_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        World().wait(70, 0, 3)
    assert [record.message for record in caplog.records] == [
        "waiting for the address of worker 0 (job-0.gang), worker 3 (job-3.gang)"
    ] * 2


def test_who_has_no_node_yet_is_waited_for_without_end_while_dns_works(caplog: pytest.LogCaptureFixture) -> None:
    world = Working(zero=0.0, **{"1": 5 * 86400.0})
    with caplog.at_level("INFO"):
        assert world.wait(1740, 0, 1) == []
    assert world.now == pytest.approx(5 * 86400, abs=5)
    assert caplog.records[-1].message == "waiting for the address of worker 1 (job-1.gang)"


def test_the_longer_a_wait_the_less_often_dns_is_asked() -> None:
    world = Working(**{"1": 3600.0})
    assert world.wait(1740, 1) == []
    assert world.asked.count("job-1.gang") < 800


def test_dns_that_breaks_during_a_long_wait_is_told_when_it_was_broken_for_the_whole_time() -> None:
    assert Working((40000.0, 41500.0), zero=50000.0).wait(1740, 0) == [], "it came back"
    world = Working((40000.0, 1e9), zero=50000.0)
    assert world.wait(1740, 0) == [0]
    assert world.now == pytest.approx(41740, abs=35)


@pytest.fixture
def message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "message"
    write = failure.write_failure
    monkeypatch.setattr(failure, "write_failure", lambda found: write(found, path))
    monkeypatch.setattr(preflight, "_has_address", lambda host: host == "job-1.gang")
    monkeypatch.setenv("MODELWRIGHT_HOSTS", HOSTS)
    monkeypatch.setenv("MODELWRIGHT_WORKERS", "8")
    monkeypatch.setenv("MODELWRIGHT_NODE", "gpu-17")
    return path


def test_worker_0_asks_for_all_and_blames_no_node(message: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    assert preflight.main(["0"]) == 1
    said = Failure.model_validate_json(message.read_text())
    assert (said.reason, said.failure_class, said.retryable, said.node) == (
        "PreflightFailed",
        "Infrastructure",
        True,
        "",
    )
    assert said.message.startswith("worker 0 on node gpu-17: there is no address for worker 0 (job-0.gang), worker 2 (")
    assert said.message.endswith("worker 5 (job-5.gang) and 2 more")


def test_another_worker_asks_for_worker_0_and_its_own_node_is_to_blame(
    message: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    assert preflight.main(["0"]) == 1
    said = json.loads(message.read_text())
    assert said["message"] == "worker 3 on node gpu-17: there is no address for worker 0 (job-0.gang)"
    assert said.get("node") is None


def test_all_is_well_with_names_that_are_known(message: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_has_address", lambda host: True)
    assert preflight.main([]) == 0
    monkeypatch.setattr(preflight, "_has_address", lambda host: False)
    monkeypatch.setenv("MODELWRIGHT_WORKERS", "1")
    assert preflight.main([]) == 0
    assert not message.exists()


@pytest.mark.parametrize(
    ("known", "expected"),
    [({"gang", "job-0.gang", "job-1.gang"}, True), ({"gang", "job-0.gang"}, False), (set[str](), True)],
)
def test_a_pod_without_an_address_waits_for_a_node_unless_dns_knows_nothing_at_all(
    monkeypatch: pytest.MonkeyPatch, known: set[str], expected: bool
) -> None:
    monkeypatch.setattr(preflight, "_has_address", known.__contains__)
    monkeypatch.setenv("MODELWRIGHT_HOSTS", HOSTS)
    monkeypatch.setenv("MODELWRIGHT_WORKERS", "2")
    assert preflight.all_placed() is expected
    monkeypatch.delenv("MODELWRIGHT_HOSTS")
    assert preflight.all_placed()


def test_it_runs_as_a_program_without_anything_that_takes_long_to_import() -> None:
    wanted = "import sys, modelwright.runtime.preflight; print(sorted({n.partition('.')[0] for n in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", wanted], capture_output=True, text=True, check=True).stdout
    assert not {"pydantic", "boto3", "torch", "numpy"} & set(json.loads(loaded.replace("'", '"')))
    begun = time.monotonic()
    run = [sys.executable, "-m", "modelwright.runtime.preflight", "0"]
    environment = {"PYTHONPATH": ":".join(sys.path), "MODELWRIGHT_HOSTS": "localhost", "MODELWRIGHT_WORKERS": "2"}
    assert subprocess.run(run, env=environment, check=False).returncode == 0
    assert time.monotonic() - begun < 30
