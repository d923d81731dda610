"""A server in this process, for tests that speak HTTP to it."""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from modelwright.api.recipe import Task
from modelwright.runtime.monitor.counters import Counters
from modelwright.runtime.serve.app import App
from modelwright.runtime.serve.metrics import Metrics
from modelwright.runtime.serve.model import Model
from tests.unit.serve.models import small_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small_model(tmp_path_factory.mktemp("classification"))


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small_model(tmp_path_factory.mktemp("regression"), Task.REGRESSION)


@pytest.fixture
def counters(model: Model) -> Counters:
    return Counters(model.reference, ["age", "yearly income"], ["city"])


@pytest.fixture
def make_app() -> Iterator[Callable[..., App]]:
    with ThreadPoolExecutor(2) as executor:

        def make(model: Model, counters: Counters | None = None) -> App:
            return App(model, Metrics(model.name, model.version), counters, executor)

        yield make


@pytest.fixture
def app(model: Model, counters: Counters, make_app: Callable[..., App]) -> App:
    return make_app(model, counters)


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(app) as found:
        yield found


def connect(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


@pytest.fixture
def version_directory(tmp_path: Path) -> Path:
    return tmp_path / "version"
