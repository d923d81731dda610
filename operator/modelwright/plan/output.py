"""What the last output of a container tells of its end, through what its launcher says about it."""

import re
from dataclasses import dataclass

_FAILED = re.compile(r"^.*torch/distributed/elastic/\S+\] failed \(exitcode: (-?\d{1,5})\)", re.MULTILINE)
_ROOT = re.compile(r"Root Cause.*?exitcode\s*: (-?\d{1,5})\b", re.DOTALL)
# Ray has them in its logs, too.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RULED_LINE = re.compile(r"^[=\-_*#]+$")
# When it was said is not part of what was said: the same end in two attempts is told in the same words.
_TIME = re.compile(r"^\[?(\d{4}-\d{2}-\d{2}[T ])?\d{2}:\d{2}:\d{2}([.,]\d+)?(Z|[+-]\d{2}:?\d{2})?\]?:?\s+")
_STOOD_STILL = re.compile(
    r"^Timeout \(\d+:\d\d:\d\d[^)\n]*\)!\n(?:(?:(?:Current )?[Tt]hread |  File |  \.\.\.|  <)[^\n]*\n|\n)*\Z",
    re.MULTILINE,
)
"""What Python's faulthandler prints when its time is up, where nothing comes after it."""
_OUT_OF_MEMORY = re.compile(
    # In front of it, torchrun's and Ray's marks of who speaks.
    r"^(?:\([^)\n]*\) ?)?(?:\[rank\d+\]: ?)?([\w.]*(?:"
    r"(?:OutOfMemory|Memory)Error\b[^\n]*"
    r"|Error: [^\n]*(?:(?:CUDA|HIP|XPU)(?: error:)? out of memory|RESOURCE_EXHAUSTED: Out of memory"
    r"|OOM when allocating|DefaultCPUAllocator: [^\n]*memory)[^\n]*))",
    re.MULTILINE,
)
"""The last line of a traceback of Python's, of torch's and other frameworks' own errors for want of memory."""
_KILLED_BY_RAY = re.compile(
    r"(?:killed due to the node running low on memory"
    r"|Refer to the documentation on how to address the out of memory issue)[^\n]*\s*\Z"
)
"""The end of what Ray says of processes that its own watch over a pod's memory has killed, before the kernel would.

Its error comes first, then a table and a page of advice: of that, the kubelet keeps the end alone.
"""
_BY_RAY = "Ray killed a process before its pod hit its limit: raise it, or lower the batch size"
_SIGNALLED = 128
_LINE = 300


@dataclass(frozen=True)
class Output:
    """The end of a program, as it and its launcher told it."""

    last_line: str
    """The program's own, as long as a message may quote it; empty where it said nothing."""
    exit_code: int | None
    """The program's own where torchrun tells it, whose code is always 1; 128 and more for a signal, as in a shell."""
    stood_still: bool = False
    """Its last words are the stacks that Python's faulthandler prints for a program that is late."""
    out_of_memory: str = ""
    """The error with which it found no more memory, of its GPU or of its own; empty where it met none."""


def read(text: str, exit_code: int | None) -> Output:
    """Return what a text, the end of a container's log, tells of a container that ended with a code."""
    text = _COLOUR.sub("", text)
    noise = _FAILED.search(text)
    if noise is None:
        return Output(_last_line(text), exit_code, _stood_still(text), out_of_memory(text))
    root = _ROOT.search(text, noise.end()) or noise
    code = int(root[1])
    own = text[: noise.start()]
    code = code if code >= 0 else _SIGNALLED - code
    return Output(_last_line(own), code, _stood_still(own), out_of_memory(own))


def out_of_memory(text: str) -> str:
    """Return the error in a text that says that there was no more memory; empty where there is none.

    Only the error itself, at the beginning of a line, or what Ray says of it, at the end of all: a program that speaks
    of it may have coped with it.
    """
    if (found := _OUT_OF_MEMORY.search(text)) is not None:
        return found[1][:_LINE]
    return _BY_RAY if _KILLED_BY_RAY.search(text) else ""


def _stood_still(text: str) -> bool:
    # Most outputs have no such word, and need no look at every line.
    return "Timeout (" in text and _STOOD_STILL.search(text.rstrip() + "\n") is not None


def _last_line(text: str) -> str:
    lines = [_TIME.sub("", line.strip()) for line in text.splitlines()]
    return next((line[:_LINE] for line in reversed(lines) if line and not _RULED_LINE.match(line)), "")
