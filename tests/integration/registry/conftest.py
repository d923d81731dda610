"""A real S3 server on a free loopback port."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from e2e.cluster import ports
from e2e.cluster.standalone import find
from modelwright.api.run import ResolvedStorage
from modelwright.registry.store import Credentials, ObjectStore, open_store

CREDENTIALS = Credentials("modelwright", "integration-secret")


def wait_for(port: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    buckets = tmp_path_factory.mktemp("buckets")
    (buckets / "bucket").mkdir()
    (port,) = ports.free(1)
    account = {"ROOT_ACCESS_KEY": CREDENTIALS.access_key_id, "ROOT_SECRET_KEY": CREDENTIALS.secret_access_key}
    argv = [str(find("versitygw")), "--quiet", "--keep-alive", "--port", f"127.0.0.1:{port}", "posix", str(buckets)]
    server = subprocess.Popen(argv, env=os.environ | account, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.fixture
def store(endpoint: str, request: pytest.FixtureRequest) -> ObjectStore:
    """A prefix of its own for every test."""
    storage = ResolvedStorage(uri=f"s3://bucket/{request.node.name}", endpoint=endpoint)
    return open_store(storage, CREDENTIALS)
