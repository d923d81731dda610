import pytest

from modelwright.registry.store import ObjectStore
from tests.unit.registry.fake_s3 import FakeS3, memory_store


@pytest.fixture
def client() -> FakeS3:
    return FakeS3()


@pytest.fixture
def store(client: FakeS3) -> ObjectStore:
    return memory_store(client)
