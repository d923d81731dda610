from pathlib import Path

import pytest

from modelwright.registry.aliases import move_alias, read_alias
from modelwright.registry.errors import AliasMoved, IncompleteVersion
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import register
from tests.unit.registry.fake_s3 import FakeS3

AT = "2026-11-23T10:00:00Z"
KEY = "base/models/m/aliases/champion.json"


@pytest.fixture
def versions(store: ObjectStore, tmp_path: Path) -> tuple[int, ...]:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    return tuple(
        register(store, model="m", namespace="ns", job_uid=uid, directory=tmp_path, created=AT).version
        for uid in ("a", "b", "c")
    )


def move(store: ObjectStore, version: int, expected: int | None) -> None:
    move_alias(store, "m", "champion", version, expected, moved_by="tj/a", reason="better", at=AT)


def holder(store: ObjectStore) -> int | None:
    found = read_alias(store, "m", "champion")
    return found[0].version if found else None


@pytest.mark.usefixtures("versions")
def test_the_first_holder_takes_it_and_the_next_takes_it_over(store: ObjectStore) -> None:
    assert holder(store) is None
    move(store, 1, expected=None)
    move(store, 2, expected=1)
    found = read_alias(store, "m", "champion")
    assert found is not None
    assert (found[0].version, found[0].moved_by, found[0].reason, found[0].at) == (2, "tj/a", "better", AT)


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize("expected", [None, 3])
def test_it_does_not_move_from_where_it_was_not_expected(store: ObjectStore, expected: int | None) -> None:
    move(store, 1, expected=None)
    with pytest.raises(AliasMoved, match="points at version 1"):
        move(store, 2, expected=expected)
    assert holder(store) == 1


@pytest.mark.usefixtures("versions")
def test_moving_to_where_it_points_writes_nothing(client: FakeS3, store: ObjectStore) -> None:
    move(store, 1, expected=None)
    before = len(client.puts)
    move(store, 1, expected=None)
    assert len(client.puts) == before


def test_it_never_points_at_a_version_that_is_not_complete(store: ObjectStore) -> None:
    with pytest.raises(IncompleteVersion):
        move(store, 7, expected=None)
    assert holder(store) is None


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize("held", [True, False])
def test_of_two_movers_at_once_one_wins(client: FakeS3, store: ObjectStore, held: bool) -> None:
    expected = 1 if held else None
    if held:
        move(store, 1, expected=None)
    client.before_put[KEY] = lambda: move(store, 3, expected=expected)
    with pytest.raises(AliasMoved, match="points at version 3"):
        move(store, 2, expected=expected)
    assert holder(store) == 3


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize("held", [True, False])
def test_a_lost_answer_is_a_success(client: FakeS3, store: ObjectStore, held: bool) -> None:
    if held:
        move(store, 1, expected=None)
    client.lose_answer_of.add(KEY)
    move(store, 2, expected=1 if held else None)
    assert holder(store) == 2
