"""Quantities mean here what they mean to Kubernetes."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.plan.quantity import amount, words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        (4, "4"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("100k", "100000"),
        ("1e3", "1000"),
        ("12E2", "1200"),
        ("1E", "1000000000000000000"),
        ("250u", "0.00025"),
        ("1e9999999", "1e30"),
        ("1e-9999999", "1e-30"),
    ],
)
def test_a_quantity_is_a_number(text: str | int, value: str) -> None:
    assert amount(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", "Gi", "1 Gi", "1KI", "1gi", "four", "1e", "--1", "1_000", "9" * 65, "9" * 1_200_000]
)
def test_what_is_no_quantity_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        amount(text)


@given(st.integers(-(10**12), 10**12))
def test_words_are_read_back(number: int) -> None:
    assert amount(words(Decimal(number) / 1000)) == Decimal(number) / 1000
