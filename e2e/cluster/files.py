"""Writing files so that nobody ever reads half of one."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any


def write(path: Path, content: str | bytes, *, mode: int = 0o644) -> Path:
    """Replace a file in one move, and only if its content differs."""
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and path.read_bytes() == data:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.touch(mode=mode)
    fresh.chmod(mode)
    fresh.write_bytes(data)
    return fresh.replace(path)


def write_json(path: Path, content: Any, *, mode: int = 0o644) -> Path:
    """Write JSON; every component here that wants YAML reads JSON as well."""
    return write(path, json.dumps(content, indent=2, sort_keys=True) + "\n", mode=mode)


def embedded(path: Path) -> str:
    """What a file holds, as Kubernetes has it inside objects that hold any bytes."""
    return base64.b64encode(path.read_bytes()).decode()


def sha256(content: bytes) -> str:
    """The digest under which image formats name content."""
    return hashlib.sha256(content).hexdigest()
