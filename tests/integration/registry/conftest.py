"""A real S3 server on a free loopback port."""

from collections.abc import Iterator

import pytest

from e2e.cluster import storage
from e2e.cluster.standalone import s3_server
from modelwright.api.run import ResolvedStorage
from modelwright.registry.store import Credentials, ObjectStore, open_store

CREDENTIALS = Credentials("modelwright", "integration-secret")


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    account = storage.Credentials(CREDENTIALS.access_key_id, CREDENTIALS.secret_access_key)
    with s3_server(account, "bucket") as url:
        yield url


@pytest.fixture
def store(endpoint: str, request: pytest.FixtureRequest) -> ObjectStore:
    """A prefix of its own for every test."""
    place = ResolvedStorage(uri=f"s3://bucket/{request.node.name}", endpoint=endpoint)
    return open_store(place, CREDENTIALS)
