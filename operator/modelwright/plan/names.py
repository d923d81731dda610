"""Names of children: at most 63 characters, decided before the child is made, whatever the user typed."""

import hashlib
import re

LIMIT = 63
_DIGEST = 8


def child_name(owner: str, suffix: str, limit: int = LIMIT) -> str:
    """Return `<owner>-<suffix>` as a DNS-1035 label of at most `limit` characters.

    The owner's name is kept where it fits and needs no change; otherwise it is cut or cleaned, and a digest of the
    whole of it keeps two long names apart.
    """
    tail = f"-{suffix}" if suffix else ""
    room = limit - len(tail)
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", owner) and len(owner) <= room:
        return owner + tail
    digest = hashlib.sha256(owner.encode()).hexdigest()[:_DIGEST]
    clean = re.sub(r"[^a-z0-9-]", "-", owner)
    if not clean[:1].isalpha():
        clean = f"x{clean}"
    return f"{clean[: room - _DIGEST - 1].rstrip('-')}-{digest}{tail}"


def short_hash(*parts: str, length: int = 10) -> str:
    """Return a digest of some strings for use in a name; the order counts, and so does where one ends."""
    joined = "\0".join(parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:length]
