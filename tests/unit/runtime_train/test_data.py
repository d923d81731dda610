from pathlib import Path

import pytest

from modelwright.api.trainingjob import DataFormat, Dataset
from modelwright.registry.store import ObjectStore
from modelwright.runtime.failure import DataError
from modelwright.runtime.train.data import find_source, read
from tests.unit.registry.fake_s3 import memory_store
from tests.unit.runtime_train.tables import as_csv, as_parquet, mixed


@pytest.fixture
def store() -> ObjectStore:
    """Storage below `s3://bucket/base`; the data lies beside it, in `s3://bucket/data`."""
    return memory_store()


def put(store: ObjectStore, key: str, data: bytes) -> None:
    store.at("s3://bucket/data").write(key, data)


@pytest.mark.parametrize(
    ("name", "encode"), [("rows.csv", as_csv), ("rows.parquet", as_parquet), ("rows.pq", as_parquet)]
)
def test_one_file_is_read_by_its_ending(store: ObjectStore, tmp_path: Path, name: str, encode: object) -> None:
    put(store, name, encode(mixed(30)))  # type: ignore[operator]
    table = read(find_source(store, Dataset(uri=f"s3://bucket/data/{name}")), tmp_path)
    assert table.rows == 30
    assert list(table.frame) == ["n", "text", "target"]
    assert table.frame["text"].tolist() == mixed(30)["text"].tolist()
    assert not list(tmp_path.iterdir())


def test_a_folder_is_every_file_of_its_format_in_name_order(store: ObjectStore, tmp_path: Path) -> None:
    frame = mixed(30)
    put(store, "part/2.csv", as_csv(frame[20:]))
    put(store, "part/1.csv", as_csv(frame[:20]))
    put(store, "part/deeper/3.csv", as_csv(frame[:5]))
    put(store, "part/readme.txt", b"not rows")
    put(store, "part/_SUCCESS", b"")
    table = read(find_source(store, Dataset(uri="s3://bucket/data/part/")), tmp_path)
    assert table.frame["text"].tolist() == [*frame["text"], *frame["text"][:5]]


def test_two_formats_in_a_folder_need_a_word(store: ObjectStore) -> None:
    put(store, "part/1.csv", as_csv(mixed(30)))
    put(store, "part/1.parquet", as_parquet(mixed(30)))
    with pytest.raises(DataError, match=r"set dataset\.format"):
        find_source(store, Dataset(uri="s3://bucket/data/part/"))
    chosen = find_source(store, Dataset(uri="s3://bucket/data/part/", format=DataFormat.PARQUET))
    assert [entry.key for entry in chosen.entries] == ["1.parquet"]


def test_a_named_format_reads_a_file_of_any_name(store: ObjectStore, tmp_path: Path) -> None:
    put(store, "rows", as_csv(mixed(30)))
    assert read(find_source(store, Dataset(uri="s3://bucket/data/rows", format=DataFormat.CSV)), tmp_path).rows == 30


@pytest.mark.parametrize("uri", ["s3://bucket/data/none.csv", "s3://bucket/data/none/", "s3://bucket/rows.csv"])
def test_nothing_there_is_not_worth_a_retry(store: ObjectStore, uri: str) -> None:
    with pytest.raises(DataError, match=f"nothing to read at {uri}") as caught:
        find_source(store, Dataset(uri=uri))
    assert caught.value.reason == "DatasetNotFound"


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("x.csv", b"a,b\n1,2\n3,secret,5\n", r"Expected 2 columns, got 3$"),
        ("x.csv", b"", "Empty CSV file"),
        ("x.parquet", b"no parquet", "cannot be read as Parquet"),
        ("x.csv", b"a,a\n1,2\n", "more than one column named a"),
        ("x.csv", "a,stadt\n1,Nürnberg secret\n2,Bonn\n".encode("latin-1"), r"is not UTF-8 \(column stadt\): save"),
        ("x.csv", "größe,y\n1,secret\n".encode("latin-1"), r"is not UTF-8 \(the names of its columns\): save"),
    ],
)
def test_a_broken_file_is_named_and_its_rows_are_not_shown(
    store: ObjectStore, tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    put(store, name, data)
    with pytest.raises(DataError, match=sentence) as caught:
        read(find_source(store, Dataset(uri=f"s3://bucket/data/{name}")), tmp_path)
    assert f"s3://bucket/data/{name}" in caught.value.message
    assert "secret" not in caught.value.message


def test_the_numbers_that_pandas_gives_to_rows_are_no_column(store: ObjectStore, tmp_path: Path) -> None:
    frame = mixed(30).sample(frac=1, random_state=0)
    for name, data in (("x.parquet", frame.to_parquet()), ("x.csv", frame.to_csv().encode())):
        put(store, name, data)
        table = read(find_source(store, Dataset(uri=f"s3://bucket/data/{name}")), tmp_path)
        assert list(table.frame) == ["n", "text", "target"]


def test_quoted_line_breaks_belong_to_their_field(store: ObjectStore, tmp_path: Path) -> None:
    put(store, "x.csv", b'a,b\n"one\ntwo",1\n')
    table = read(find_source(store, Dataset(uri="s3://bucket/data/x.csv")), tmp_path)
    assert table.frame["a"].tolist() == ["one\ntwo"]


def test_the_digest_changes_with_any_object(store: ObjectStore) -> None:
    dataset = Dataset(uri="s3://bucket/data/part/")
    put(store, "part/1.csv", b"a\n1\n")
    first = find_source(store, dataset).digest
    assert find_source(store, dataset).digest == first
    put(store, "part/1.csv", b"a\n2\n")
    second = find_source(store, dataset).digest
    put(store, "part/2.csv", b"a\n1\n")
    assert len({first, second, find_source(store, dataset).digest}) == 3


@pytest.mark.parametrize(
    ("words", "other"),
    [
        (("True", "False"), "Unknown"),
        (("17:30", "04:00"), "never"),
        (("2024-01-31T17:30:00Z", "2024-02-01T00:00:00Z"), "never"),
        (("01234", "99999"), "none"),
    ],
)
def test_a_word_is_one_value_whatever_else_is_in_its_file(
    store: ObjectStore, tmp_path: Path, words: tuple[str, str], other: str
) -> None:
    rows = "\n".join(f"{number},{words[number % 2]}" for number in range(6))
    put(store, "part/1.csv", f"n,word\n{rows}\n".encode())
    put(store, "part/2.csv", f"n,word\n{rows}\n7,{other}\n".encode())
    table = read(find_source(store, Dataset(uri="s3://bucket/data/part/")), tmp_path)
    assert set(table.frame["word"]) == {*words, other}
    assert table.frame["n"].tolist() == [*range(6), *range(6), 7]
    assert not list(tmp_path.iterdir())
