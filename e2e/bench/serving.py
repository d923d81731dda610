"""What a prediction costs: `python -m e2e.bench.serving http://127.0.0.1:8080 --pid 4711`.

Asks a running server for its own example row, sends it in several forms over keep-alive connections, and prints the
CPU time of the server process (user and system, from /proc) and the time that callers waited. CPU time is what can be
compared between machines that do other things as well; throughput cannot.
"""

import argparse
import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

_CONNECTIONS = 8
_SECONDS = 4.0


@dataclass(frozen=True)
class Load:
    """One kind of request."""

    name: str
    path: str
    body: bytes
    header: str = ""

    def message(self, host: str) -> bytes:
        """Return the request as it goes over the wire."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(self.body)}\r\n{self.header}\r\n"
        return head.encode() + self.body


def main() -> None:
    """Measure and print one line for each kind of request."""
    parser = argparse.ArgumentParser(description="What a prediction costs.")
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, help="the server process, for its CPU time")
    parser.add_argument("--seconds", type=float, default=_SECONDS)
    arguments = parser.parse_args()
    with urlopen(arguments.url) as answer:  # noqa: S310 (the caller's own server)
        page = json.load(answer)
    with urlopen(f"{arguments.url}/v2/models/{page['model']}") as answer:  # noqa: S310
        metadata = json.load(answer)
    print(f"{page['model']} version {page['version']}, {len(page['columns'])} columns")
    for load in _loads(page, metadata):
        print(measure(load, arguments.url, arguments.pid, arguments.seconds))


def measure(load: Load, url: str, pid: int | None, seconds: float) -> str:
    """Send one kind of request for some seconds and return a line about it."""
    waited: list[float] = []
    before = _cpu_seconds(pid)
    stop = time.monotonic() + seconds
    threads = [threading.Thread(target=_call, args=(load, url, stop, waited)) for _ in range(_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu = (_cpu_seconds(pid) - before) / len(waited) * 1e6
    percentiles = statistics.quantiles(waited, n=100)
    latency = f"waited p50 {percentiles[49] * 1e3:.2f} ms, p99 {percentiles[98] * 1e3:.2f} ms"
    return f"{load.name:>28}: {cpu:7.0f} µs CPU a request, {latency}, {len(waited) / seconds:.0f} requests a second"


def _loads(page: dict[str, Any], metadata: dict[str, Any]) -> list[Load]:
    row = page["predict"]["body"]["rows"][0]
    rows, infer = page["predict"]["path"], f"{page['open_inference_protocol']}/infer"
    return [
        Load("rows, 1 row", rows, json.dumps({"rows": [row]}).encode()),
        Load("Open Inference, 1 row", infer, json.dumps(_tensors(metadata, row, 1)).encode()),
        Load("rows, 100 rows", rows, json.dumps({"rows": [row] * 100}).encode()),
        Load("Open Inference, 100 rows", infer, json.dumps(_tensors(metadata, row, 100)).encode()),
    ]


def _tensors(metadata: dict[str, Any], row: dict[str, Any], rows: int) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": entry["name"], "datatype": entry["datatype"], "shape": [rows], "data": [row[entry["name"]]] * rows}
            for entry in metadata["inputs"]
        ]
    }


def _call(load: Load, url: str, stop: float, waited: list[float]) -> None:
    parts = urlsplit(url)
    message = load.message(parts.netloc)
    with socket.create_connection((parts.hostname or "", parts.port or 80)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (start := time.monotonic()) < stop:
            connection.sendall(message)
            read_answer(connection.recv)
            waited.append(time.monotonic() - start)


def read_answer(receive: Callable[[int], bytes]) -> None:
    """Read one answer to its end. Raises RuntimeError: it is no 200, or the connection ended within it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(receive)
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the server answered {head.splitlines()[0].decode()}: {rest[:200].decode()}")
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length"))
    missing = length - len(rest)
    while missing > 0:
        missing -= len(_some(receive))


def _some(receive: Callable[[int], bytes]) -> bytes:
    data = receive(65536)
    if not data:
        raise RuntimeError("the server closed the connection within an answer")
    return data


def _cpu_seconds(pid: int | None) -> float:
    if pid is None:
        return float("nan")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
