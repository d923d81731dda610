"""Telling the operator how things stand: the newest report wins, and one that is lost costs nothing."""

import http.client
import logging
import os
import threading
import urllib.request
from pathlib import Path
from types import TracebackType

from modelwright.api.run import REPORT_URL_VARIABLE, TOKEN_FILE
from modelwright.api.schema import ApiModel

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 2.0
_TIMEOUT_SECONDS = 5.0


class Reporter:
    """Posts reports from a thread of its own, at most one an interval; between two posts only the newest is kept.

    Use it as a context manager: on leaving, the last report is still posted.
    """

    def __init__(
        self, url: str | None, token_file: Path = Path(TOKEN_FILE), interval: float = _INTERVAL_SECONDS
    ) -> None:
        self._url = url
        self._token_file = token_file
        self._interval = interval
        self._wake = threading.Condition()
        self._next: ApiModel | None = None
        self._closing = threading.Event()
        self._reachable = True
        self._thread = threading.Thread(target=self._post_all, name="reporter", daemon=True)
        if url is not None:
            self._thread.start()

    def send(self, report: ApiModel) -> None:
        """Hand a report over; it never blocks and never fails."""
        with self._wake:
            self._next = report
            self._wake.notify()

    def close(self) -> None:
        """Post what is left, if it can be done in one go, and end the thread."""
        self._closing.set()
        with self._wake:
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(2 * _TIMEOUT_SECONDS)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post_all(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._next is not None or self._closing.is_set())
                report, self._next = self._next, None
            if report is None:
                return
            self._post(report)
            self._closing.wait(self._interval)

    def _post(self, report: ApiModel) -> None:
        try:
            with urllib.request.urlopen(self._request(report), timeout=_TIMEOUT_SECONDS):  # noqa: S310 (http or https)
                self._reachable = True
        except (OSError, ValueError, http.client.HTTPException) as error:
            # Once for every outage: an operator that is being upgraded is no news for the training log.
            if self._reachable:
                logger.warning("progress could not be reported, training goes on: %s", error)
            self._reachable = False

    def _request(self, report: ApiModel) -> urllib.request.Request:
        if self._url is None or not self._url.startswith(("http://", "https://")):
            raise ValueError("the report URL is not http or https")
        headers = {"Content-Type": "application/json"}
        if self._token_file.exists():
            # Read anew each time: the kubelet rotates it.
            headers["Authorization"] = f"Bearer {self._token_file.read_text().strip()}"
        body = report.model_dump_json(by_alias=True, exclude_none=True).encode()
        return urllib.request.Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310 (checked)


def reporter_from_environment() -> Reporter:
    """Return the reporter that the pod's environment asks for; a silent one when nobody listens."""
    return Reporter(os.environ.get(REPORT_URL_VARIABLE))
