"""How much memory a JSON document takes: told from its text, before it is parsed."""

HEAVIEST = 4 * 2**20
"""Bytes of an alias, a result or a manifest, parsed: that of a checkpoint of two thousand ranks fits."""
HEAVIEST_REFERENCE = 32 * 2**20
"""Of what has an entry for every column: 2,000 columns with all their bins fit."""
HEAVIEST_AT_ONCE = 192 * 2**20
"""Of what must be read alone: a sweep of 10,000 trials, or 32 MiB of windows as servers write them."""

_BYTES = {b",": 40, b":": 48, b'"': 32, b"[": 100, b"{": 240}
"""What CPython takes for a value, an entry, a string, a list and a dict, beside the text."""


def weigh(data: bytes) -> int:
    """Return so many bytes that the parsed document takes no more."""
    # One character beyond ASCII may make four bytes of every other one in its string.
    text = len(data) if data.isascii() else 4 * len(data)
    return text + sum(size * data.count(mark) for mark, size in _BYTES.items())
