"""Two processes of a recipe, of which one is stopped: the other says where both are, and leaves."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from e2e.support.rows import parquet
from modelwright.api import layout
from modelwright.api.run import RUN_VARIABLE, Failure, Run
from modelwright.registry.store import ObjectStore
from modelwright.runtime import failure
from modelwright.runtime.train import main as process
from tests.integration.registry.conftest import CREDENTIALS
from tests.integration.runtime_train import members

_SECONDS = 120
# Processes that import torch, on a machine where others do so too.
pytestmark = pytest.mark.timeout(300)


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


def test_a_gang_of_which_one_process_is_stopped_is_left_with_its_stacks(
    run: Run, store: ObjectStore, tmp_path: Path
) -> None:
    workers = members.start(_work, 2, run, tmp_path)
    try:
        _wait_for_a_checkpoint(store)
        os.kill(workers[1].pid or 0, signal.SIGSTOP)
        stopped = time.monotonic()
        workers[0].join(_SECONDS)
        assert workers[0].exitcode == 1
        assert 10 <= time.monotonic() - stopped <= 60
    finally:
        members.end(workers)
    said = Failure.model_validate_json((tmp_path / "message-0").read_text())
    assert (said.reason, said.failure_class) == ("Hang", "Hang")
    assert said.step
    assert said.message.startswith("no step for 1")
    stacks = store.read_bytes(layout.stack_key("ns", "a", 1, 0))
    assert stacks is not None
    assert b"in advance" in stacks
    assert f"after step {said.step}".encode() in stacks
    assert not (tmp_path / "message-1").exists()


def _work(run: Run, folder: Path) -> None:
    os.environ["AWS_ACCESS_KEY_ID"] = CREDENTIALS.access_key_id
    os.environ["AWS_SECRET_ACCESS_KEY"] = CREDENTIALS.secret_access_key
    os.environ[RUN_VARIABLE] = run.model_dump_json(by_alias=True)
    message = str(folder / f"message-{os.environ['RANK']}")
    setattr(failure, "TERMINATION_MESSAGE_FILE", message)  # noqa: B010 (imported there, not defined)
    process.main()


def _wait_for_a_checkpoint(store: ObjectStore) -> None:
    deadline = time.monotonic() + _SECONDS
    while not store.folders(layout.checkpoint_prefix("ns", "a")):
        assert time.monotonic() < deadline, "no step was made"
        time.sleep(0.5)
