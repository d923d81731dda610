"""What the last output of a container tells of its end, through what its launcher says about it."""

import re
from dataclasses import dataclass

_FAILED = re.compile(r"^.*torch/distributed/elastic/\S+\] failed \(exitcode: (-?\d{1,5})\)", re.MULTILINE)
_ROOT = re.compile(r"Root Cause.*?exitcode\s*: (-?\d{1,5})\b", re.DOTALL)
_RULED_LINE = re.compile(r"^[=\-_*#]+$")
# When it was said is not part of what was said: the same end in two attempts is told in the same words.
_TIME = re.compile(r"^\[?(\d{4}-\d{2}-\d{2}[T ])?\d{2}:\d{2}:\d{2}([.,]\d+)?(Z|[+-]\d{2}:?\d{2})?\]?:?\s+")
_SIGNALLED = 128
_LINE = 300


@dataclass(frozen=True)
class Output:
    """The end of a program, as it and its launcher told it."""

    last_line: str
    """The program's own, as long as a message may quote it; empty where it said nothing."""
    exit_code: int | None
    """The program's own where torchrun tells it, whose code is always 1; 128 and more for a signal, as in a shell."""


def read(text: str, exit_code: int | None) -> Output:
    """Return what a text, the end of a container's log, tells of a container that ended with a code."""
    noise = _FAILED.search(text)
    if noise is None:
        return Output(_last_line(text), exit_code)
    root = _ROOT.search(text, noise.end()) or noise
    code = int(root[1])
    return Output(_last_line(text[: noise.start()]), code if code >= 0 else _SIGNALLED - code)


def _last_line(text: str) -> str:
    lines = [_TIME.sub("", line.strip()) for line in text.splitlines()]
    return next((line[:_LINE] for line in reversed(lines) if line and not _RULED_LINE.match(line)), "")
