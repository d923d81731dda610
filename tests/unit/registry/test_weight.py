"""What a document takes in memory is known before it is parsed, and what honest ones take is not refused."""

import json
import tracemalloc
from typing import Any

import pytest

from modelwright.api.artifacts import CheckpointManifest, ColumnKind, File, Reference, ReferenceColumn
from modelwright.api.run import SweepResult
from modelwright.api.tuningsweep import Trial, TrialState
from modelwright.registry.errors import UnreadableDocument
from modelwright.registry.store import ObjectStore
from modelwright.registry.weight import HEAVIEST, HEAVIEST_AT_ONCE, HEAVIEST_REFERENCE, weigh

MANY = 50_000
SHAPES = {
    "lists": "[]",
    "dicts": "{}",
    "lists of one": "[0]",
    "dicts of one": '{"":0}',
    "deep lists": "[[[[[[[[[[]]]]]]]]]]",
    "deep dicts": '{"":{"":{"":{"":0}}}}',
    "numbers": "1234",
    "floats": "0.5",
    "words": '"ab"',
    "wide words": '"ā"',
}


def shaped(shape: str) -> bytes:
    return f'{{"a": [{",".join([shape] * MANY)}]}}'.encode()


def keyed(length: int) -> bytes:
    return f"{{{','.join(f'{chr(34)}{number:0{length}x}{chr(34)}:0' for number in range(MANY))}}}".encode()


@pytest.mark.parametrize(
    "data", [*map(shaped, SHAPES.values()), keyed(4), keyed(8), ('{"a": "' + "a" * MANY + '\U0001f600"}').encode()]
)
def test_no_document_takes_more_than_it_weighs(data: bytes) -> None:
    tracemalloc.start()
    try:
        document = json.loads(data)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert document
    assert taken <= weigh(data)


def test_what_was_made_to_fill_the_memory_is_left_where_it_is(store: ObjectStore) -> None:
    store.write("a.json", shaped("[]"))
    with pytest.raises(UnreadableDocument, match=r"a\.json would take more than 4,194,304 bytes of memory") as error:
        store.read_json("a.json")
    assert not error.value.retryable
    store.write_json("w/1.json", {"n": 1})
    store.write("w/2.json", shaped("[[[[[[[[]]]]]]]]"))
    assert store.fetch_jsons("w/")() == ({"n": 1},)


def test_many_documents_are_weighed_together(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("w/1.json", b'{"a": [[], []]}')
    store.write("w/2.json", b'{"a": [[], []]}')
    weight = 2 * weigh(b'{"a": [[], []]}')
    for most, fits in ((weight, True), (weight - 1, False)):
        monkeypatch.setattr("modelwright.registry.store.HEAVIEST_AT_ONCE", most)
        if fits:
            assert len(store.fetch_jsons("w/")()) == 2
            continue
        with pytest.raises(Exception, match=f"more than {most:,} bytes of memory below s3://bucket/base/w/"):
            store.fetch_jsons("w/")()


def test_a_document_that_grows_after_it_was_counted_is_left_out(store: ObjectStore, client: Any) -> None:
    store.write_json("w/1.json", {})
    store.write_json("w/2.json", {})
    listed, grown = client.paginate, {"base/w/2.json": b'{"a": 1}'}

    def paginate(*args: Any, **request: Any) -> Any:
        pages = list(listed(*args, **request))
        client.objects.update(grown)
        return pages

    client.paginate = paginate
    assert store.fetch_jsons("w/")() == ({},)


def test_what_honest_work_leaves_is_not_refused() -> None:
    column = ReferenceColumn(
        name="a column with a long name of its own",
        kind=ColumnKind.CATEGORICAL,
        categories=tuple(f"a category of many words {number}" for number in range(20)),
        counts=(123_456,) * 22,
    )
    reference = Reference(rows=10**9, columns=(column,) * 2000, prediction=column)
    trial = Trial.model_validate(
        {
            "number": 1,
            "state": TrialState.SUCCEEDED,
            "value": 0.123456789012345,
            "parameters": [{"name": f"parameter{number}", "value": "0.123456789012345"} for number in range(8)],
        }
    )
    sweep = SweepResult(attempt=1, finished=True, trials=(trial,) * 10_000)
    file = File(sha256="0" * 64, size=10**12)
    files = {f"{kind}-{rank}.safetensors": file for kind in ("rank", "optimizer") for rank in range(2000)}
    checkpoint = CheckpointManifest(step=1, attempt=1, time="2026-01-01T00:00:00Z", files=files)
    window = {"columns": {f"a column with a long name {n}": [1234] * 12 for n in range(50)}, "prediction": [1234] * 12}
    for document, most in ((reference, HEAVIEST_REFERENCE), (sweep, HEAVIEST_AT_ONCE), (checkpoint, HEAVIEST)):
        assert weigh(document.model_dump_json(by_alias=True, indent=1).encode()) <= most
    text = json.dumps(window, indent=1).encode()
    assert 32 * 2**20 // len(text) * weigh(text) <= HEAVIEST_AT_ONCE
