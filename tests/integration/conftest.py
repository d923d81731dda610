from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.cluster.standalone import control_plane
from tests.integration.plane import Plane

_DEFINITIONS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def plane() -> Iterator[Plane]:
    with control_plane(controller_manager=True) as kubeconfig:
        running = Plane(kubeconfig)
        running.kubectl.apply([yaml.safe_load(path.read_text()) for path in sorted(_DEFINITIONS.glob("*.yaml"))])
        running.kubectl.run("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
        yield running
