"""What comes in from outside and waits for a plan: reports of gangs, alerts of Alertmanager. In memory only.

Losing a report costs nothing (what matters is on S3), and an alert is acknowledged only once a plan that saw it is
carried out, so Alertmanager sends again what this process forgot.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from modelwright.api.run import SweepReport, TrainingReport
from modelwright.kube.objects import Key
from modelwright.plan.observed import Alert

REPORT_SECONDS = 3.0
"""Reports lead to at most one look at an object in so long."""
LOOKS_PER_SECOND = 20.0
"""And all reports together to so many: each look at a gang that makes steps writes a status, and the API server is for
others too. The status of each of a thousand gangs tells of its steps every 50 s then."""

Report = TrainingReport | SweepReport
_AlertId = tuple[str, str]


@dataclass(frozen=True)
class _Reported:
    """The last report about an object, and about which life of it."""

    uid: str
    report: Report
    look: float
    """When it leads, or led, to a look."""


class Inbox:
    """The last report of every object, and the alerts that nobody has dealt with."""

    def __init__(self, wake: Callable[[Key, float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._wake = wake
        self._clock = clock
        self._reports: dict[Key, _Reported] = {}
        self._free = float("-inf")
        """When the next look may be that is only for progress."""
        self._alerts: dict[Key, dict[_AlertId, Alert]] = {}
        self._waiting: dict[Key, list[tuple[frozenset[_AlertId], asyncio.Future[None]]]] = {}

    def report(self, key: Key, uid: str, report: Report) -> None:
        """Take in a report; one of an older attempt says nothing about the present."""
        known = self._of_life(key, uid)
        if known is not None and known.report.attempt > report.attempt:
            return
        now, last = self._clock(), known.look if known is not None else float("-inf")
        if known is None or _stage(known.report) != _stage(report):
            look = max(now, last + REPORT_SECONDS) if last <= now else min(last, now + REPORT_SECONDS)
        elif last > now:
            # It may have been replaced by an earlier look for another reason: it is asked for again.
            look = last
        else:
            look = max(last + REPORT_SECONDS, self._slot(now))
        self._reports[key] = _Reported(uid, report, look)
        self._wake(key, look - now)

    def _slot(self, now: float) -> float:
        """Return when there is time for one more look."""
        slot = max(now, self._free)
        self._free = slot + 1 / LOOKS_PER_SECOND
        return slot

    def last_report(self, key: Key, uid: str) -> Report | None:
        """Return the last report about one life of an object."""
        known = self._of_life(key, uid)
        return None if known is None else known.report

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

    def forget(self, key: Key) -> None:
        """An object is gone: nobody will deal with its alerts, and that is all right."""
        self._reports.pop(key, None)
        self.handled(key, self.alerts(key))

    def _of_life(self, key: Key, uid: str) -> "_Reported | None":
        known = self._reports.get(key)
        return known if known is not None and known.uid == uid else None

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


def _stage(report: Report) -> tuple[int, str]:
    """Return what a report says that people wait for: which attempt it is, and what that does."""
    return report.attempt, report.stage if isinstance(report, TrainingReport) else ""
