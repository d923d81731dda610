import pytest

from modelwright.registry.errors import StoreError
from modelwright.registry.probe import missing_condition, require_conditional_writes
from tests.unit.registry.fake_s3 import FakeS3, memory_store


def test_a_store_with_conditional_writes_passes_and_is_left_clean() -> None:
    client = FakeS3()
    store = memory_store(client)
    require_conditional_writes(store)
    assert missing_condition(store) is None
    assert not client.objects


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
def test_a_store_without_one_is_refused_by_name(condition: str) -> None:
    store = memory_store(FakeS3(ignores=condition))
    assert missing_condition(store) == condition
    with pytest.raises(StoreError, match=f"does not honour {condition} on writes") as caught:
        require_conditional_writes(store)
    assert not caught.value.retryable
