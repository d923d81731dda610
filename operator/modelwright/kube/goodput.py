"""What the time of TrainingJobs is spent on, as counters that are read off their statuses when Prometheus asks.

Nothing is kept in this process, so a restart or another leader goes on where the last one was. A series belongs to one
job, because a sum over the jobs of a namespace falls when one is deleted, and a counter must not.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from modelwright.api.goodput import BucketSeconds
from modelwright.kube.clock import utc_now
from modelwright.kube.objects import Objects
from modelwright.plan.actions import Object
from modelwright.plan.goodput import accelerator_seconds_of
from modelwright.plan.times import is_stamp, parse

LINGER = timedelta(hours=1)
"""A job that has ended is shown for so long: every Prometheus has seen its last word by then."""
_BUCKETS = tuple(BucketSeconds.model_fields)
_JOB = ("namespace", "name")

log = logging.getLogger(__name__)


class GoodputMetrics:
    """Reads the statuses of all TrainingJobs that run, or have ended lately."""

    def __init__(self, objects: Objects, now: Callable[[], datetime] = utc_now) -> None:
        self._objects = objects
        self._now = now
        self._past: set[tuple[str, int]] = set()
        """UID and resource version of jobs that are not shown: they ended long ago, and to read one takes a while."""

    def metrics(self) -> list[Metric]:
        """Return the counters of each job and its share."""
        seconds = CounterMetricFamily(
            "modelwright_trainingjob_seconds",
            "Time of a TrainingJob by what it was spent on.",
            labels=(*_JOB, "bucket"),
        )
        accelerator_seconds = CounterMetricFamily(
            "modelwright_trainingjob_accelerator_seconds",
            "Time of a TrainingJob while its gang had its nodes, times the GPUs and the like that it held.",
            labels=(*_JOB, "bucket"),
        )
        ratio = GaugeMetricFamily(
            "modelwright_trainingjob_goodput_ratio",
            "The share of a TrainingJob's time that was spent on steps that count.",
            labels=_JOB,
        )
        since = self._now() - LINGER
        known, self._past = self._past, set()
        for key in self._objects.keys("TrainingJob"):
            record = self._objects.record(key)
            life = (record.uid, record.version) if record is not None else ("", 0)
            job = None if life in known else self._objects.get(key)
            status = (job or {}).get("status") or {}
            ended = status.get("completionTime")
            if job is None or (is_stamp(ended) and parse(ended) < since):
                self._past.add(life)
                continue
            try:
                _add(job, status.get("goodput") or {}, seconds, accelerator_seconds, ratio)
            except Exception:
                # The others are to be seen all the same, and whatever else this process has to tell.
                log.exception("TrainingJob %s/%s cannot be measured", key.namespace, key.name)
                self._past.add(life)
        return [seconds, accelerator_seconds, ratio]


def _add(
    job: Object,
    goodput: Object,
    seconds: CounterMetricFamily,
    accelerator_seconds: CounterMetricFamily,
    ratio: GaugeMetricFamily,
) -> None:
    place = (job["metadata"]["namespace"], job["metadata"]["name"])
    told = goodput.get("seconds") or {}
    # Zeros too: what a series first shows, increase() does not count.
    spent = {bucket: float(told.get(bucket, 0)) for bucket in _BUCKETS}
    held = accelerator_seconds_of(job["spec"].get("workers") or {}, goodput)
    for bucket, value in spent.items():
        seconds.add_metric((*place, bucket), value)
    for bucket, count in held.items():
        accelerator_seconds.add_metric((*place, bucket), float(count))
    if (share := goodput.get("share")) is not None:
        ratio.add_metric(place, float(share))
