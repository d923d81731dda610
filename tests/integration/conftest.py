from collections.abc import Iterator

import pytest

from tests.integration.plane import Plane, running


@pytest.fixture(scope="session")
def plane() -> Iterator[Plane]:
    with running() as plane:
        yield plane
