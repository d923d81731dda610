"""What comes in from outside and waits for a plan: reports of gangs, alerts of Alertmanager. In memory only.

Losing a report costs nothing (what matters is on S3), and an alert is acknowledged only once a plan that saw it is
carried out, so Alertmanager sends again what this process forgot.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from modelwright.api.run import SweepReport, TrainingReport
from modelwright.kube.objects import Key
from modelwright.plan.observed import Alert

REPORT_SECONDS = 3.0
"""Reports lead to at most one look at an object in so long."""

Report = TrainingReport | SweepReport
_AlertId = tuple[str, str]


class Inbox:
    """The last report of every object, and the alerts that nobody has dealt with."""

    def __init__(self, wake: Callable[[Key, float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._wake = wake
        self._clock = clock
        self._reports: dict[str, Report] = {}
        self._looks: dict[str, float] = {}
        """When the last report leads, or led, to a look."""
        self._alerts: dict[Key, dict[_AlertId, Alert]] = {}
        self._waiting: dict[Key, list[tuple[frozenset[_AlertId], asyncio.Future[None]]]] = {}

    def report(self, key: Key, uid: str, report: Report) -> None:
        """Take in a report; one of an older attempt says nothing about the present."""
        known = self._reports.get(uid)
        if known is not None and known.attempt > report.attempt:
            return
        self._reports[uid] = report
        now, last = self._clock(), self._looks.get(uid, float("-inf"))
        # A look in the future may have been replaced by an earlier one for another reason: it is asked for again.
        look = self._looks[uid] = last if last > now else max(now, last + REPORT_SECONDS)
        self._wake(key, look - now)

    def last_report(self, uid: str) -> Report | None:
        """Return the last report about one life of an object."""
        return self._reports.get(uid)

    def submit(self, key: Key, alerts: Iterable[Alert]) -> asyncio.Future[None]:
        """Hand alerts to an object; the future is done when a plan that saw them was carried out."""
        entries = {(alert.fingerprint, alert.starts_at): alert for alert in alerts}
        self._alerts.setdefault(key, {}).update(entries)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append((frozenset(entries), future))
        self._wake(key, 0.0)
        return future

    def withdraw(self, key: Key, future: asyncio.Future[None]) -> None:
        """Stop waiting; alerts that nobody waits for any more are dropped, as their sender will come again."""
        waiting = [entry for entry in self._waiting.get(key, []) if entry[1] is not future]
        self._set_waiting(key, waiting)
        wanted = {identity for identities, _ in waiting for identity in identities}
        kept = {identity: alert for identity, alert in self._alerts.get(key, {}).items() if identity in wanted}
        self._set_alerts(key, kept)

    def alerts(self, key: Key) -> tuple[Alert, ...]:
        """Return the alerts that wait for an object's next plan."""
        return tuple(self._alerts.get(key, {}).values())

    def handled(self, key: Key, alerts: Iterable[Alert]) -> None:
        """A plan that saw these alerts has been carried out."""
        left = self._alerts.get(key, {})
        for alert in alerts:
            left.pop((alert.fingerprint, alert.starts_at), None)
        self._set_alerts(key, left)
        waiting = []
        for identities, future in self._waiting.get(key, []):
            if any(identity in left for identity in identities):
                waiting.append((identities, future))
            elif not future.done():
                future.set_result(None)
        self._set_waiting(key, waiting)

    def forget(self, key: Key, uid: str) -> None:
        """An object is gone: nobody will deal with its alerts, and that is all right."""
        self._reports.pop(uid, None)
        self._looks.pop(uid, None)
        self.handled(key, self.alerts(key))

    def _set_alerts(self, key: Key, alerts: dict[_AlertId, Alert]) -> None:
        if alerts:
            self._alerts[key] = alerts
        else:
            self._alerts.pop(key, None)

    def _set_waiting(self, key: Key, waiting: list[tuple[frozenset[_AlertId], "asyncio.Future[None]"]]) -> None:
        if waiting:
            self._waiting[key] = waiting
        else:
            self._waiting.pop(key, None)
