"""Kubernetes quantities as numbers."""

import re
from decimal import Decimal

from modelwright.api.schema import LONGEST_QUANTITY

_FORM = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i))?$")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_MOST_EXPONENT = 30
"""Far more than the API server keeps of a quantity; a number of a million digits would keep the process busy."""
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def amount(quantity: str | int) -> Decimal:
    """Return what a quantity stands for, in units: `500m` of cpu is 0.5, `1Ki` of memory 1024 bytes.

    Raises `ValueError` for what is no quantity. The form is that of k8s.io/apimachinery/pkg/api/resource.
    """
    text = str(quantity)
    found = _FORM.match(text) if len(text) <= LONGEST_QUANTITY else None
    if found is None:
        raise ValueError(f"{text[:LONGEST_QUANTITY]!r} is no quantity: 500m, 4, 16Gi are some")
    number, exponent, suffix = found.groups()
    if exponent:
        return Decimal(number).scaleb(max(-_MOST_EXPONENT, min(int(exponent[1:]), _MOST_EXPONENT)))
    if suffix in _BINARY:
        return Decimal(number) * Decimal(1024 ** _BINARY[suffix])
    return Decimal(number).scaleb(_DECIMAL.get(suffix or "", 0))


def words(value: Decimal) -> str:
    """Return an amount as people write it: `8`, `0.5`."""
    return f"{value.normalize():f}"
