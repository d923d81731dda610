import pytest

from modelwright.kube import discovery, errors
from modelwright.kube.resources import POD_GROUPS
from tests.unit.kube.fake_api import FakeApi

V1BETA1, V1ALPHA3, V1ALPHA2 = POD_GROUPS
KINDS = frozenset({"Workload", "PodGroup"})


async def test_the_newest_version_that_is_known_and_served_is_taken() -> None:
    api = FakeApi()
    api.served = {V1ALPHA2.api_version: KINDS}
    assert await discovery.pod_groups(api, (None,)) == V1ALPHA2
    api.served |= {V1ALPHA3.api_version: KINDS, V1BETA1.api_version: KINDS, "scheduling.k8s.io/v9": KINDS}
    assert await discovery.pod_groups(api, (None,)) == V1BETA1


async def test_a_cluster_that_has_none_is_asked_for_nothing_else() -> None:
    api = FakeApi()
    api.served = {"scheduling.k8s.io/v1alpha1": KINDS, V1ALPHA2.api_version: frozenset({"PriorityClass"})}
    assert await discovery.pod_groups(api, (None,)) is None
    assert api.calls == []


@pytest.mark.parametrize("refused", ["kinds", "list"])
async def test_what_may_not_be_read_is_not_used(refused: str) -> None:
    api = FakeApi()
    api.served = {V1ALPHA2.api_version: KINDS}
    api.fail = lambda verb, kind, name: errors.Rejected("not for you", 403) if verb == refused else None
    assert await discovery.pod_groups(api, ("team",)) is None


@pytest.mark.parametrize("silent", ["kinds", "list"])
async def test_silence_is_no_answer(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    monkeypatch.setattr(discovery, "RETRY_SECONDS", 0.0)
    api, failures = FakeApi(), [errors.Unavailable("later"), errors.Unavailable("later")]
    api.served = {V1ALPHA2.api_version: KINDS}
    api.fail = lambda verb, kind, name: failures.pop() if verb == silent and failures else None
    assert await discovery.pod_groups(api, (None,)) == V1ALPHA2
    assert failures == []


@pytest.mark.parametrize("shut", [{"a"}, {"b"}, {"a", "b"}])
async def test_a_namespace_that_is_shut_does_not_speak_for_the_others(shut: set[str]) -> None:
    api = FakeApi()
    api.served = {V1ALPHA2.api_version: KINDS}
    api.shut = frozenset(shut)
    assert await discovery.pod_groups(api, ("a", "b")) == (V1ALPHA2 if len(shut) < 2 else None)
