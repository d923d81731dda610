from hypothesis import given
from hypothesis import strategies as st

from modelwright.runtime.logs.tail import Tail


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30))
def test_it_keeps_the_end_in_bounded_memory(chunks: list[bytes], kept: int) -> None:
    tail = Tail(kept)
    for chunk in chunks:
        tail.add(chunk)
        assert len(tail._held) <= 2 * kept + len(chunk)
    end, total = tail.read()
    whole = b"".join(chunks)
    assert total == len(whole)
    assert whole.endswith(end)
    assert len(end) <= kept


def test_what_fits_is_whole_and_what_does_not_begins_with_a_line() -> None:
    tail = Tail(10)
    tail.add(b"ab\ncd\n")
    assert tail.read() == (b"ab\ncd\n", 6)
    tail.add(b"efgh\nij")
    assert tail.read() == (b"efgh\nij", 13)


def test_a_line_that_is_longer_than_all_that_is_kept_stays_as_far_as_it_goes() -> None:
    tail = Tail(4)
    tail.add(b"abcdefgh")
    assert tail.read() == (b"efgh", 8)
