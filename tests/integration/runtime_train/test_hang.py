"""Two processes of a recipe, of which one is stopped: the other says where both are, and leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from e2e.cluster import ports
from e2e.support.rows import parquet
from modelwright.api import layout
from modelwright.api.run import RUN_VARIABLE, Failure, Run
from modelwright.registry.store import ObjectStore
from tests.integration.registry.conftest import CREDENTIALS

_PROGRAM = """
import sys
from pathlib import Path
from modelwright.runtime import failure
failure.TERMINATION_MESSAGE_FILE = sys.argv[1]
from modelwright.runtime.train.main import main
main()
"""
_SECONDS = 120


@pytest.fixture
def run(endpoint: str, store: ObjectStore) -> Run:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"x": generator.normal(size=400)})
    frame["y"] = np.where(frame["x"] > 0, "yes", "no")
    store.write("data/rows.parquet", parquet(frame))
    training = {
        "workers": {"replicas": 2},
        "recipe": {"tabular": {"task": "Classification", "target": "y", "neuralNetwork": {"epochs": 10000}}},
        "dataset": {"uri": store.locate("data/rows.parquet")},
        "model": {"name": "m"},
        "checkpoint": {"everySeconds": 1},
        "hang": {"timeoutSeconds": 10},
    }
    place = {"uri": store.uri, "endpoint": endpoint}
    document = {"namespace": "ns", "name": "job", "uid": "a", "attempt": 1, "storage": place, "training": training}
    return Run.model_validate(document)


@pytest.mark.timeout(300)  # two processes, and each imports torch
def test_a_gang_of_which_one_process_is_stopped_is_left_with_its_stacks(
    run: Run, store: ObjectStore, tmp_path: Path
) -> None:
    (port,) = ports.free(1)
    workers = [_start(run, rank, port, tmp_path) for rank in range(2)]
    try:
        _wait_for_a_checkpoint(store)
        workers[1].send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        assert workers[0].wait(_SECONDS) == 1
        assert 10 <= time.monotonic() - stopped <= 60
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    failure = Failure.model_validate_json((tmp_path / "message-0").read_text())
    assert (failure.reason, failure.failure_class) == ("Hang", "Hang")
    assert failure.step
    assert failure.message.startswith("no step for 1")
    stacks = store.read_bytes(layout.stack_key("ns", "a", 1, 0))
    assert stacks is not None
    assert b"in advance" in stacks
    assert f"after step {failure.step}".encode() in stacks
    assert not (tmp_path / "message-1").exists()


def _start(run: Run, rank: int, port: int, folder: Path) -> "subprocess.Popen[bytes]":
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    keys = {
        "AWS_ACCESS_KEY_ID": CREDENTIALS.access_key_id,
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS.secret_access_key,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    env = {**os.environ, **place, **keys, RUN_VARIABLE: run.model_dump_json(by_alias=True)}
    return subprocess.Popen([sys.executable, "-c", _PROGRAM, str(folder / f"message-{rank}")], env=env)


def _wait_for_a_checkpoint(store: ObjectStore) -> None:
    deadline = time.monotonic() + _SECONDS
    while not store.folders(layout.checkpoint_prefix("ns", "a")):
        assert time.monotonic() < deadline, "no step was made"
        time.sleep(0.5)
