import pytest

from modelwright.registry.errors import StoreError
from modelwright.registry.probe import require_conditional_writes, supports_conditional_writes
from tests.unit.registry.fake_s3 import FakeS3, memory_store


def test_a_store_with_conditional_writes_passes_and_is_left_clean() -> None:
    client = FakeS3()
    assert supports_conditional_writes(memory_store(client))
    assert not client.objects


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
def test_a_store_without_one_is_refused_by_name(condition: str) -> None:
    store = memory_store(FakeS3(ignores=condition))
    assert not supports_conditional_writes(store)
    with pytest.raises(StoreError, match=f"does not honour {condition} on writes") as caught:
        require_conditional_writes(store)
    assert not caught.value.retryable
