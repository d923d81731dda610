"""Whole runs in this process, against a real S3 server: what they leave behind, and what a second one does with it."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from e2e.support.rows import parquet
from modelwright.api import layout
from modelwright.api.artifacts import Lineage, Signature
from modelwright.api.run import Run, TrainingResult
from modelwright.registry.aliases import move_alias
from modelwright.registry.errors import StoreError, Superseded
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import Writer, list_versions, read_manifest, take_number
from modelwright.runtime.failure import DataError, RunError
from modelwright.runtime.train import main as process
from modelwright.runtime.train.main import execute
from tests.integration.registry.conftest import CREDENTIALS

FILES = {
    "model.onnx",
    "model.txt",
    "signature.json",
    "metrics.json",
    "reference.json",
    "lineage.json",
    "card.html",
}
AT = "2026-11-23T10:00:00Z"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", CREDENTIALS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CREDENTIALS.secret_access_key)
    monkeypatch.delenv("RANK", raising=False)


@pytest.fixture
def dataset(store: ObjectStore) -> str:
    generator = np.random.default_rng(0)
    size = generator.normal(size=600)
    colour = generator.choice(["red", "green", "blue"], 600)
    noise = generator.normal(scale=0.7, size=600)
    frame = pd.DataFrame({"size": size, "the colour": colour})
    frame["ripe"] = np.where(size + (colour == "red") + noise > 0.3, "yes", "no")
    store.write("data/fruit.parquet", parquet(frame))
    return store.locate("data/fruit.parquet")


@pytest.fixture
def make_run(endpoint: str, store: ObjectStore, dataset: str) -> Any:
    def make(uid: str, attempt: int = 1, trees: int = 40, unconfirmed: int = 0, **spec: Any) -> Run:
        recipe = {
            "task": "Classification",
            "target": "ripe",
            "algorithm": "LightGBM",
            "lightGBM": {"numTrees": trees, "learningRate": 0.1},
        }
        training = {
            "recipe": {"tabular": recipe},
            "dataset": {"uri": dataset},
            "model": {"name": "fruit", "promotion": {"metric": "log_loss"}},
        } | spec
        storage = {"uri": store.uri, "endpoint": endpoint}
        document = {"namespace": "ns", "name": "job", "uid": uid, "attempt": attempt, "storage": storage}
        return Run.model_validate(document | {"training": training, "unconfirmed": unconfirmed})

    return make


def result(store: ObjectStore, uid: str) -> TrainingResult | None:
    return store.read_document(layout.result_key("ns", uid), TrainingResult)


def test_a_run_leaves_a_whole_version_and_its_result(store: ObjectStore, make_run: Any, dataset: str) -> None:
    execute(make_run("a"))
    told = result(store, "a")
    assert told is not None
    assert told.model is not None
    assert (told.model.name, told.model.version, told.comparison) == ("fruit", 1, None)
    assert {metric.name for metric in told.metrics} == {
        "accuracy",
        "precision",
        "recall",
        "f1",
        "roc_auc",
        "log_loss",
    }
    assert {m.name: m.value for m in told.metrics}["accuracy"] > 0.7
    manifest = read_manifest(store, "fruit", 1)
    assert manifest is not None
    assert set(manifest.files) == FILES
    prefix = layout.version_prefix("fruit", 1)
    lineage = store.read_document(prefix + "lineage.json", Lineage)
    assert lineage is not None
    assert (lineage.job, lineage.dataset.uri, lineage.parent_version) == ("ns/job", dataset, None)
    assert lineage.dataset.rows == 600
    assert lineage.spent is not None
    assert lineage.spent.starting > 0
    signature = store.read_document(prefix + "signature.json", Signature)
    assert signature is not None
    assert [column.name for column in signature.inputs] == ["size", "the colour"]


def test_an_attempt_after_registration_finishes_without_training(store: ObjectStore, make_run: Any) -> None:
    execute(make_run("a"))
    first = result(store, "a")
    store.delete(layout.result_key("ns", "a"))
    store.delete_prefix("data/")  # training again would fail
    execute(make_run("a", attempt=2))
    again = result(store, "a")
    assert first is not None
    assert again == first.model_copy(update={"attempt": 2})
    assert list_versions(store, "fruit") == (1,)


def test_an_attempt_shares_no_number_with_one_that_may_live_on(store: ObjectStore, make_run: Any) -> None:
    assert take_number(store, "fruit", "ns", "a", Writer(1)) == 1
    execute(make_run("a", attempt=2, unconfirmed=1))
    told = result(store, "a")
    assert told is not None
    assert told.model is not None
    assert (told.attempt, told.model.version) == (2, 2)
    store.delete(layout.manifest_key("fruit", 2))
    with pytest.raises(Superseded, match="attempt 2 of this job registers version 2"):
        execute(make_run("a", attempt=1))
    assert list_versions(store, "fruit") == (1, 2)


def test_a_new_version_is_compared_with_the_holder_of_the_alias(store: ObjectStore, make_run: Any) -> None:
    execute(make_run("a", trees=1))
    move_alias(store, "fruit", "champion", 1, None, "test", "first", AT)
    execute(make_run("b", trees=40))
    told = result(store, "b")
    assert told is not None
    assert told.comparison is not None
    assert told.comparison.incumbent_version == 1
    assert told.comparison.improvement == pytest.approx(told.comparison.incumbent - told.comparison.candidate)
    assert 0 < told.comparison.lower_bound < told.comparison.improvement
    assert told.comparison.candidate == {m.name: m.value for m in told.metrics}["log_loss"]
    assert result(store, "a").metrics[-1].value == pytest.approx(told.comparison.incumbent)  # type: ignore[union-attr]
    manifest = read_manifest(store, "fruit", 2)
    assert manifest is not None
    assert set(manifest.files) == FILES | {"comparison.json"}
    lineage = store.read_document(layout.version_prefix("fruit", 2) + "lineage.json", Lineage)
    assert lineage is not None
    assert lineage.parent_version == 1
    store.delete(layout.result_key("ns", "b"))
    execute(make_run("b", attempt=2))
    assert result(store, "b") == told.model_copy(update={"attempt": 2})


def test_an_attempt_after_the_last_tree_registers_what_was_learnt(
    store: ObjectStore, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise StoreError("The S3 server cannot be reached")

    with monkeypatch.context() as outage:
        outage.setattr(process, "register", unreachable)
        with pytest.raises(StoreError):
            execute(make_run("a"))
    assert read_manifest(store, "fruit", 1) is None
    execute(make_run("a", attempt=2))
    told = result(store, "a")
    assert told is not None
    assert (told.attempt, told.model and told.model.version) == (2, 1)
    assert list_versions(store, "fruit") == (1,)


@pytest.mark.parametrize("damage", ["model.onnx", "lineage.json", "manifest.json"])
def test_a_damaged_holder_stops_a_comparison_and_the_rule_always_goes_past_it(
    store: ObjectStore, make_run: Any, damage: str
) -> None:
    execute(make_run("a"))
    move_alias(store, "fruit", "champion", 1, None, "test", "first", AT)
    store.write(layout.version_prefix("fruit", 1) + damage, b"{}")
    with pytest.raises(
        DataError, match=r"Version 1, which holds alias champion, is damaged: .*rule to Always"
    ) as caught:
        execute(make_run("b"))
    assert caught.value.reason == "IncumbentNotComparable"
    assert store.folders(layout.checkpoint_prefix("ns", "b")) == ()
    always = {"name": "fruit", "promotion": {"rule": "Always", "metric": "accuracy"}}
    execute(make_run("c", model=always))
    told = result(store, "c")
    assert told is not None
    assert told.comparison is None
    card = store.read_bytes(layout.version_prefix("fruit", 2) + "card.html")
    assert card is not None
    assert b"There is no comparison. Version 1, which holds alias champion, is damaged" in card


def test_a_holder_without_its_lineage_is_damaged_too(store: ObjectStore, make_run: Any) -> None:
    execute(make_run("a"))
    move_alias(store, "fruit", "champion", 1, None, "test", "first", AT)
    manifest = read_manifest(store, "fruit", 1)
    assert manifest is not None
    fewer = {name: file for name, file in manifest.files.items() if name != "lineage.json"}
    store.write_json(layout.manifest_key("fruit", 1), manifest.model_copy(update={"files": fewer}).document())
    with pytest.raises(DataError, match=r"is damaged: it has no lineage\.json"):
        execute(make_run("b"))


def test_a_model_below_its_threshold_is_not_registered(store: ObjectStore, make_run: Any) -> None:
    bound = {"thresholds": [{"metric": "accuracy", "min": 0.999}]}
    with pytest.raises(RunError, match=r"accuracy is 0\.\d+, below the minimum 0\.999"):
        execute(make_run("a", evaluation=bound))
    assert list_versions(store, "fruit") == ()
    assert result(store, "a") is None


def test_a_holder_that_reads_other_columns_stops_the_run_before_it_trains(store: ObjectStore, make_run: Any) -> None:
    execute(make_run("a"))
    move_alias(store, "fruit", "champion", 1, None, "test", "first", AT)
    frame = pd.DataFrame({"weight": np.arange(100.0), "ripe": ["yes", "no"] * 50})
    store.write("data/other.csv", frame.to_csv(index=False).encode())
    other = {"uri": store.locate("data/other.csv")}
    with pytest.raises(DataError, match="Version 1, which holds alias champion, reads columns that the data does not"):
        execute(make_run("b", dataset=other))
    always = {"name": "fruit", "promotion": {"rule": "Always", "metric": "accuracy"}}
    execute(make_run("c", dataset=other, model=always))
    told = result(store, "c")
    assert told is not None
    assert told.comparison is None


def test_a_changed_recipe_does_not_resume_old_checkpoints(store: ObjectStore, make_run: Any) -> None:
    with pytest.raises(RunError):
        execute(make_run("a", trees=5, evaluation={"thresholds": [{"metric": "accuracy", "min": 1.1}]}))
    assert store.folders(layout.checkpoint_prefix("ns", "a")) == (f"{5:012d}",)
    execute(make_run("a", trees=3))
    assert store.folders(layout.checkpoint_prefix("ns", "a")) == (f"{3:012d}",)


def test_missing_data_is_named(make_run: Any, store: ObjectStore) -> None:
    with pytest.raises(DataError, match="nothing to read at"):
        execute(make_run("a", dataset={"uri": store.locate("data/none.csv")}))
    document = json.loads(make_run("a").model_dump_json(by_alias=True))
    document["training"]["recipe"]["tabular"]["target"] = "sweet"
    with pytest.raises(DataError, match="There is no column sweet: the data has size, the colour, ripe"):
        execute(Run.model_validate(document))
