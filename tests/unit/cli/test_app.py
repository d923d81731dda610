"""`modelwright` in a terminal, over a registry in memory."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelwright.api.artifacts import Metrics
from modelwright.api.trainingjob import MetricValue
from modelwright.cli.app import app
from modelwright.registry.aliases import move_alias, read_alias
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import register
from tests.unit.registry.fake_s3 import FakeS3, memory_store

_MOMENT = "2026-11-23T10:00:00Z"


@pytest.fixture
def client() -> FakeS3:
    return FakeS3()


@pytest.fixture
def store(client: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Two versions of the model `churn`; version 1 is champion."""
    store = memory_store(client)
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"graph" * number)
        metrics = Metrics(rows=100, values=(MetricValue(name="accuracy", value=0.9 + number / 100),))
        (folder / "metrics.json").write_text(metrics.model_dump_json(by_alias=True))
        register(store, model="churn", namespace="ns", job_uid=f"job-{number}", directory=folder, created=_MOMENT)
    move_alias(store, "churn", "champion", 1, None, "test", "first", _MOMENT)
    monkeypatch.setattr("modelwright.cli.app.open_store", lambda _: store)
    return store


def run(*words: str) -> tuple[int, str]:
    answer = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--storage", "s3://bucket/base"])
    return answer.exit_code, answer.output


def test_models_are_listed_with_their_newest_version_and_aliases(store: ObjectStore) -> None:
    code, printed = run("models")
    assert code == 0
    assert printed.splitlines()[1].split() == ["churn", "2", "champion=1"]


def test_versions_show_who_holds_which_alias_and_how_good_they_are(store: ObjectStore) -> None:
    _, printed = run("versions", "churn")
    first, second = printed.splitlines()[1:3]
    assert "champion" in first
    assert "accuracy 0.91" in first
    assert "champion" not in second
    assert "accuracy 0.92" in second


def test_a_version_is_fetched_whole(store: ObjectStore, tmp_path: Path) -> None:
    code, _ = run("get", "churn", "2", str(tmp_path / "out"))
    assert code == 0
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"graphgraph"


def test_promote_moves_the_alias_and_says_where_it_came_from(store: ObjectStore) -> None:
    code, printed = run("promote", "churn", "2", "--reason", "v1 answers too slowly")
    assert code == 0
    assert "it came from version 1" in printed
    found = read_alias(store, "churn", "champion")
    assert found is not None
    assert (found[0].version, found[0].reason) == (2, "v1 answers too slowly")


def test_an_alias_cannot_be_moved_to_what_does_not_exist(store: ObjectStore) -> None:
    code, printed = run("promote", "churn", "7")
    assert code == 1
    assert "no complete version 7 of model churn" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("promote", "churn", "2", "--alias", "../Up/1"), "../Up/1 is not the name of an alias"),
        (("promote", "churn", "2", "--alias", "7"), "7 is not the name of an alias"),
        (("promote", "../churn", "2"), "../churn is not the name of a model"),
        (("versions", "a/b"), "a/b is not the name of a model"),
        (("get", "a/../churn", "1", "out"), "a/../churn is not the name of a model"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_written(
    client: FakeS3, store: ObjectStore, words: tuple[str, ...], said: str
) -> None:
    before = dict(client.objects)
    code, printed = run(*words)
    assert code == 2
    assert said in " ".join(printed.split())
    assert client.objects == before


def test_promote_needs_a_server_that_honours_conditions(client: FakeS3, store: ObjectStore) -> None:
    client.ignores = "If-Match"
    code, printed = run("promote", "churn", "2")
    assert code == 1
    assert "does not honour If-Match on writes" in printed
    found = read_alias(store, "churn", "champion")
    assert found is not None
    assert found[0].version == 1


@pytest.mark.parametrize("trouble", [KeyError("uid not found: 4711"), OSError("no user")])
def test_who_has_no_name_promotes_by_number(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def nobody() -> str:
        raise trouble

    monkeypatch.setattr("getpass.getuser", nobody)
    code, _ = run("promote", "churn", "2")
    found = read_alias(store, "churn", "champion")
    assert code == 0
    assert found is not None
    assert found[0].moved_by == f"uid {os.getuid()}"


def test_a_folder_that_cannot_be_made_is_one_sentence(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, printed = run("get", "churn", "2", str(tmp_path / "file" / "out"))
    assert (code, printed.splitlines()) == (1, [f"{tmp_path / 'file' / 'out'}: Not a directory"])


def test_a_storage_that_is_no_uri_is_one_sentence() -> None:
    answer = CliRunner().invoke(app, ["models", "--storage", "bucket/base"])
    assert answer.exit_code == 1
    assert "is not of the form s3://bucket/prefix" in answer.output.replace("\n", "")


def test_logs_of_an_attempt_are_printed_with_the_stacks_where_it_hung(store: ObjectStore) -> None:
    for key, text in {"logs/worker-1.log": b"two", "logs/worker-0.log": b"one\n", "stacks/rank-0.txt": b"here"}.items():
        store.write(key, text)
    answer = CliRunner().invoke(app, ["logs", "s3://bucket/base"])
    assert answer.exit_code == 0
    assert answer.output.split("\n")[:-1] == [
        *("==> logs/worker-0.log <==", "one", ""),
        *("==> logs/worker-1.log <==", "two"),
        *("==> stacks/rank-0.txt <==", "here"),
    ]
    assert CliRunner().invoke(app, ["logs", "s3://bucket/base", "--worker", "1"]).output == "two\n"


@pytest.mark.parametrize("words", [["s3://bucket/base"], ["s3://bucket/base", "--worker", "0"], ["nonsense"]])
def test_where_no_logs_are_it_is_said(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelwright.cli.app.open_store", lambda _: memory_store(FakeS3()))
    answer = CliRunner().invoke(app, ["logs", *words])
    assert answer.exit_code == 1
    assert words[0] in answer.output
