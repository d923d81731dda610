"""ModelDeployment: whoever asks gets an answer, whatever is rolled out, breaks or dies."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.space import Space
from e2e.scenarios.waiting import eventually
from e2e.support.access import reach
from e2e.support.models import Models
from e2e.support.resources import Object, condition, is_ready, reason
from e2e.support.traffic import Steady, predict, rows_of

_DEPLOYMENTS, _NAME = "modeldeployments", "flights"
_GARBAGE = b"this is no graph"
# A port-forward is tied to the pod that it found first, and ends with it.
_OUTLIVES_A_SERVER = pytest.mark.local_only


@pytest.fixture(scope="module", autouse=True)
def served(space: Space, models: Models, champion: Object) -> None:
    """A deployment that follows the champion: version 1 of four, of which the third cannot be loaded."""
    version = champion["status"]["model"]["version"]
    for number in (1, 2, 4):
        models.copy(specs.MODEL, version, _NAME, number)
    models.copy(specs.MODEL, version, _NAME, 3, {"model.onnx": _GARBAGE})
    models.promote(_NAME, 1)
    space.apply(specs.deployment(_NAME, _NAME))
    space.journal.wait(_DEPLOYMENTS, _NAME, is_ready, timeout=60)


@pytest.fixture
def base(space: Space) -> Iterator[str]:
    with reach(space.installation.target, space.namespace, _NAME) as base:
        yield base


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10) as client:
        yield client


def _serves(version: int) -> Callable[[Object], bool]:
    return lambda found: is_ready(found) and bool(found["status"]["serving"]["version"] == version)


def _promote(space: Space, models: Models, version: int) -> None:
    models.promote(_NAME, version)
    space.poke("modeldeployment", _NAME)


def test_rows_and_tensors_get_the_same_answers(client: httpx.Client, base: str, data: Data) -> None:
    rows = rows_of(data.live_winter[:3])
    answer = predict(client, base, _NAME, rows)
    assert (answer["model"], answer["version"]) == (_NAME, "1")
    assert set(answer["predictions"]) <= {"late", "on-time"}
    assert [round(sum(entry.values()), 3) for entry in answer["probabilities"]] == [1.0] * 3

    described = client.get(f"{base}/v2/models/{_NAME}").raise_for_status().json()
    tensors = [
        {**entry, "shape": [3, 1], "data": [row[entry["name"]] for row in rows]} for entry in described["inputs"]
    ]
    inferred = client.post(f"{base}/v2/models/{_NAME}/infer", json={"inputs": tensors}).raise_for_status().json()
    outputs = {entry["name"]: entry["data"] for entry in inferred["outputs"]}
    assert outputs["prediction"] == answer["predictions"]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"carrier": ["UA"]}, "carrier"),
        ({"temp": "warm"}, "temp"),
        ({"wether": "fine"}, "wether"),
        ({"hour": ...}, "hour"),
    ],
)
def test_a_bad_request_is_told_its_column(
    client: httpx.Client, base: str, data: Data, change: Object, column: str
) -> None:
    (row,) = rows_of(data.live_winter[:1])
    row = {name: value for name, value in {**row, **change}.items() if value is not ...}
    answer = client.post(f"{base}/v1/models/{_NAME}:predict", json={"rows": [row]})
    assert answer.status_code == 400
    assert column in answer.json()["error"]


@_OUTLIVES_A_SERVER
def test_an_alias_moves_without_a_lost_request(space: Space, models: Models, base: str, data: Data) -> None:
    with Steady(base, _NAME, rows_of(data.live_winter[:5])) as steady:
        steady.await_answers(20)
        _promote(space, models, 2)
        found = space.journal.wait(_DEPLOYMENTS, _NAME, _serves(2), timeout=60)
        eventually(lambda: _versions(space, found) == {"2"}, "servers of the old version are still there")
        steady.await_answers(20)
    assert steady.failures == []
    assert steady.versions[0] == "1"
    assert set(steady.versions[-20:]) == {"2"}
    space.await_event(_NAME, "Normal", "Switched")


@_OUTLIVES_A_SERVER
def test_a_version_that_cannot_be_loaded_disturbs_nobody(space: Space, models: Models, base: str, data: Data) -> None:
    with Steady(base, _NAME, rows_of(data.live_winter[:5])) as steady:
        _promote(space, models, 3)
        told = space.journal.wait(
            _DEPLOYMENTS, _NAME, lambda found: reason(found) == "RolloutFailed", timeout=90, stop=lambda _: False
        )
        message = condition(told, "Ready")["message"]
        assert "version 3" in message
        assert "version 2 keeps serving" in message
        assert told["status"]["failed"]["version"] == 3
        assert condition(told, "Available")["status"] == "True"
        _promote(space, models, 4)
        space.journal.wait(_DEPLOYMENTS, _NAME, _serves(4), timeout=60, stop=lambda _: False)
    assert steady.failures == []
    assert set(steady.versions) <= {"2", "4"}


@_OUTLIVES_A_SERVER
def test_a_killed_server_is_replaced(space: Space, client: httpx.Client, base: str, data: Data) -> None:
    found = space.journal.wait(_DEPLOYMENTS, _NAME, is_ready, timeout=60)
    eventually(lambda: len(space.pods(found)) == 1, "servers of earlier versions are still there")
    (server,) = space.pods(found)
    space.delete("pod", server["metadata"]["name"], "--force", "--grace-period=0")
    space.journal.wait(_DEPLOYMENTS, _NAME, lambda found: not is_ready(found), timeout=30)
    space.journal.wait(_DEPLOYMENTS, _NAME, is_ready, timeout=60)
    # The node hears of the new server a moment later than the operator.
    answer = eventually(lambda: _answer(client, base, data), "the Service does not lead to the new server")
    assert answer is not None
    assert answer["version"] == str(found["status"]["serving"]["version"])


@pytest.mark.parametrize("replicas", [2, 1])
def test_servers_are_added_and_taken_away(space: Space, replicas: int) -> None:
    space.patch("modeldeployment", _NAME, {"spec": {"replicas": replicas}})

    def scaled(found: Object) -> bool:
        return is_ready(found) and bool(found["status"]["readyReplicas"] == replicas)

    found = space.journal.wait(_DEPLOYMENTS, _NAME, scaled, timeout=60)
    eventually(lambda: len(space.pods(found)) == replicas, "there are more servers than asked for")
    assert space.printed("mdep", _NAME)["READY"] == str(replicas)


def _answer(client: httpx.Client, base: str, data: Data) -> Object | None:
    try:
        return predict(client, base, _NAME, rows_of(data.live_winter[:1]))
    except httpx.ConnectError:
        return None


def _versions(space: Space, found: Object) -> set[str]:
    return {pod["metadata"]["labels"]["modelwright.dev/version"] for pod in space.pods(found)}
