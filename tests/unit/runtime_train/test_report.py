import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelwright.api.run import TrainingReport
from modelwright.api.trainingjob import Progress
from modelwright.runtime.report import Reporter


class Listener(HTTPServer):
    def __init__(self) -> None:
        self.received: list[tuple[str | None, Any]] = []
        self.status = 204
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/report"


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.headers["Authorization"], json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the test's output clean."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def at(step: int) -> TrainingReport:
    return TrainingReport(attempt=1, progress=Progress(step=step))


def test_reports_carry_the_token_of_the_moment(listener: Listener, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    with Reporter(listener.url, token, interval=0) as reporter:
        reporter.send(at(1))
    token.write_text("second\n")
    with Reporter(listener.url, token, interval=0) as reporter:
        reporter.send(at(2))
    assert [header for header, _ in listener.received] == ["Bearer first", "Bearer second"]
    said = {"attempt": 1, "progress": {"step": 1}, "stage": "Training", "longestStep": 0, "quiet": False, "restarts": 0}
    assert listener.received[0][1] == said


def test_many_reports_become_few_and_the_last_one_arrives(listener: Listener, tmp_path: Path) -> None:
    with Reporter(listener.url, tmp_path / "none", interval=60) as reporter:
        for step in range(1000):
            reporter.send(at(step))
    assert len(listener.received) <= 3
    assert listener.received[-1][1]["progress"]["step"] == 999


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1/", "file:///etc/passwd", "http://bad host/"])
def test_nobody_listening_disturbs_nobody(url: str | None, tmp_path: Path) -> None:
    with Reporter(url, tmp_path / "none", interval=0) as reporter:
        reporter.send(at(1))


def test_a_refusal_is_not_an_error(listener: Listener, tmp_path: Path) -> None:
    listener.status = 403
    with Reporter(listener.url, tmp_path / "none", interval=0) as reporter:
        reporter.send(at(1))
    assert len(listener.received) == 1
