"""The plain side's own checkpoint."""

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import ray.train
import torch

from e2e.bench.peer import Plain, Reported, load, place, tensors


class Store:
    """Objects as boto3 has them."""

    class NoSuchKeyError(Exception):
        pass

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.exceptions = SimpleNamespace(NoSuchKey=self.NoSuchKeyError)

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803
        self.kept[f"{Bucket}/{Key}"] = Body

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        try:
            return {"Body": io.BytesIO(self.kept[f"{Bucket}/{Key}"])}
        except KeyError as error:
            raise self.NoSuchKeyError from error


def keeper(store: Store, rank: int = 0, every: float = 0.0) -> Plain:
    return Plain(store, "s3://bucket/a/latest.pt", every, rank, 2)


def test_a_training_goes_on_where_its_checkpoint_was_made() -> None:
    store, model = Store(), torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    assert keeper(store).resume(model=model, optimizer=optimizer) == 0
    keeper(store).after(6, None, model=model, optimizer=optimizer)
    other = torch.nn.Linear(2, 1)
    assert keeper(store, rank=1).resume(model=other, optimizer=torch.optim.AdamW(other.parameters())) == 7
    assert torch.equal(other.weight, model.weight)


@pytest.mark.parametrize(("rank", "every"), [(1, 0.0), (0, 60.0)])
def test_only_rank_0_saves_and_only_when_it_is_time(rank: int, every: float) -> None:
    store, model = Store(), torch.nn.Linear(2, 1)
    keeper(store, rank, every).after(6, None, model=model)
    assert store.kept == {}


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class Reports:
    """What Ray Train is told, and what it has kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.steps: list[int | None] = []
        self._folder = folder
        monkeypatch.setattr(ray.train, "report", self._report)
        monkeypatch.setattr(ray.train, "get_checkpoint", self._checkpoint)

    def _report(self, metrics: dict[str, Any], checkpoint: "ray.train.Checkpoint | None" = None) -> None:
        self.steps.append(None)
        if checkpoint is not None:
            checkpoint.to_directory(self._folder)
            with (self._folder / "state.pt").open("rb") as file:
                self.steps[-1] = load(file, {})

    def _checkpoint(self) -> "ray.train.Checkpoint | None":
        return ray.train.Checkpoint.from_directory(self._folder) if any(self.steps) else None


@pytest.mark.usefixtures("group")
def test_under_ray_train_rank_0_hands_over_what_the_next_ones_begin_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reports, model = Reports(monkeypatch, tmp_path), torch.nn.Linear(2, 1)
    first, other = (Reported(Store(), "s3://bucket/a", 0.0, rank, 2) for rank in (0, 1))
    assert first.resume(model=model) == 0
    first.after(6, None, model=model)
    other.after(6, None, model=model)
    assert reports.steps == [7, None]
    fresh = torch.nn.Linear(2, 1)
    assert other.resume(model=fresh) == 7
    assert torch.equal(fresh.weight, model.weight)
    Reported(Store(), "s3://bucket/a", 60.0, 0, 2).after(7, None, model=model)
    assert reports.steps == [7, None], "it is not time yet"


def test_rows_are_shared_out_evenly() -> None:
    store, buffer = Store(), io.BytesIO()
    pd.DataFrame({"x": range(5)}).to_parquet(buffer)
    store.kept["bucket/rows.parquet"] = buffer.getvalue()
    shares = [[*keeper(store, rank).rows("s3://bucket/rows.parquet")["x"]] for rank in (0, 1)]
    assert shares == [[0, 2], [1, 3]]
    assert place("s3://bucket/a/b") == ("bucket", "a/b")


def test_what_is_missing_is_no_obstacle_to_learning() -> None:
    columns = ("hour", "distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
    frame = pd.DataFrame({**{name: [1.0, None, 3.0] for name in columns}, "arrival": ["late", "on-time", "late"]})
    features, target = tensors(frame)
    assert features.shape == (3, len(columns))
    assert bool(torch.isfinite(features).all())
    assert target.tolist() == [1.0, 0.0, 1.0]
