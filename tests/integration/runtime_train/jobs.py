"""The job that gangs of these tests train, and what they tell of it."""

from typing import Any

from e2e.support.rows import noisy, parquet
from modelwright.api.run import Run, TrainingReport
from modelwright.registry.store import ObjectStore
from tests.integration.registry.conftest import CREDENTIALS

ENV = {"AWS_ACCESS_KEY_ID": CREDENTIALS.access_key_id, "AWS_SECRET_ACCESS_KEY": CREDENTIALS.secret_access_key}


def run_of(endpoint: str, store: ObjectStore, *, epochs: int, rows: int = 400, **spec: Any) -> Run:
    """Return a run over rows that are written for it, which saves every second."""
    store.write("data/rows.parquet", parquet(noisy(rows)))
    tabular = {"task": "Classification", "target": "y", "neuralNetwork": {"epochs": epochs}}
    training = {
        "recipe": {"tabular": tabular},
        "dataset": {"uri": store.locate("data/rows.parquet")},
        "model": {"name": "m"},
        "checkpoint": {"everySeconds": 1},
        **spec,
    }
    place = {"uri": store.uri, "endpoint": endpoint}
    document = {"namespace": "ns", "name": "job", "uid": "a", "attempt": 1, "storage": place, "training": training}
    return Run.model_validate(document)


def saved(report: TrainingReport, restarts: int) -> bool:
    """Tell whether there is a checkpoint, after so many restarts in place."""
    return report.restarts == restarts and report.checkpoint is not None


def trains(report: TrainingReport, restarts: int) -> bool:
    """Tell whether steps are made, after so many restarts in place."""
    return report.restarts == restarts and report.progress is not None
