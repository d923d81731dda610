"""What the time of a TrainingJob was spent on, as its status keeps book of it; docs/goodput.md has the definitions.

Up to `asOf` every second is in one bucket, so the buckets always add up to the time that has passed, and a book that is
continued from any status that was ever written is whole: a lost report or an operator that was away costs accuracy, no
time. The book is brought up when something else in the status changes; time alone is no reason to write.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from modelwright.api.goodput import HELD, AcceleratorHours, Bucket, BucketSeconds, Counted, Goodput, Spent
from modelwright.api.processes import accelerators
from modelwright.api.run import TrainingReport
from modelwright.api.trainingjob import TrainingJobStatus, Workers
from modelwright.plan import history
from modelwright.plan.actions import Object
from modelwright.plan.attempts import JobState, View
from modelwright.plan.conditions import State, Verdict
from modelwright.plan.failures import Cause
from modelwright.plan.observed import Observed
from modelwright.plan.requests import worker_limits
from modelwright.plan.timeline import Turn, placed_at, present, ran_at, turns
from modelwright.plan.times import parse, stamp

_ON_NODES = frozenset({Bucket.STARTING, Bucket.TRAINING, Bucket.EVALUATING})
"""What `current` may be while the gang has its nodes; how that time is divided is for its reports to say."""
_TOLD = (Bucket.TRAINING, Bucket.SAVING, Bucket.EVALUATING)
"""What a program tells of itself, beside how it started."""
_HOUR = 3600


@dataclass(frozen=True)
class Look:
    """One look at a job: what was said of it, and what is about to be."""

    observed: Observed
    workers: Workers
    before: TrainingJobStatus
    after: TrainingJobStatus
    """All but the conditions and this book."""
    verdict: Verdict
    view: View
    now: datetime


def kept(look: Look) -> Goodput | None:
    """Return the book: as it was, unless something else has changed."""
    before = look.before
    if before.goodput is not None and _mark(before, history.reason(before)) == _mark(look.after, look.verdict.reason):
        return before.goodput
    book = _opened(look)
    completion = look.after.completion_time
    heard = turns(look.view, look.after.attempts, look.view.workers(look.workers.replicas))
    now = max(book.at, _seconds(completion) if completion else _at_least(look.now, heard))
    for turn in heard:
        # The end of an attempt that the book has left behind is stamped by a node whose clock is ahead.
        if book.at < turn.at <= now and turn.attempt >= book.attempt and not _is_for_the_pause(turn, book, look):
            book.turn(turn)
    current = _standing(look, book)
    if completion or current not in _ON_NODES or current is not book.current:
        book.turn(Turn(now, look.after.attempt or 0, current))
    else:
        book.account(now)
    return _written(book, look.workers, ended=completion is not None)


def accelerators_of(workers: Object) -> int:
    """Return how many GPUs and the like a whole gang holds; `workers` as in a spec, in their JSON form."""
    return int(workers.get("replicas", 1)) * accelerators(worker_limits(workers))


def accelerator_seconds_of(workers: Object, book: Object) -> dict[str, int]:
    """Return the seconds by bucket times the GPUs and the like that the gang held; empty where it has none.

    `workers` as in a spec and `book` as in a status, in their JSON forms.
    """
    weighted = book.get("workerSeconds")
    count = accelerators_of(workers) if weighted is None else accelerators(worker_limits(workers))
    counted = book.get("seconds") or {} if weighted is None else weighted
    return {bucket: count * int(counted.get(bucket, 0)) for bucket in HELD} if count else {}


@dataclass
class _Book:
    """The seconds by bucket, and what is needed to go on counting."""

    at: int
    """Up to when it is counted, in seconds since 1970."""
    current: Bucket
    attempt: int
    report: TrainingReport | None
    pods_ran_at: int | None
    """When the containers of the newest attempt ran, where that is known."""
    pods: bool
    """Whether pods of it are there to tell."""
    sizes: Mapping[int, int]
    """How many workers each attempt of an elastic gang has; empty where that is the same for all."""
    seconds: dict[Bucket, int] = field(default_factory=dict)
    worker_seconds: dict[Bucket, int] = field(default_factory=dict)
    furthest: int = 0
    counted: Counted | None = None

    def turn(self, turn: Turn) -> None:
        """Close what is current at a moment, and begin something else."""
        if self.current in _ON_NODES:
            self.account(turn.at)
            self._divide(turn.at)
        self._add(self.current, turn.at - self.at)
        self.current, self.attempt = turn.bucket, turn.attempt

    def account(self, end: int) -> None:
        """Count what the newest report tells, up to a moment. What came after it is not counted yet."""
        report, spent = self.report, self._spent()
        if report is None or spent is None or report.stage == "Starting":
            return
        told, base = _counted(report, spent), self.counted
        fresh = base is None or _life(told) > _life(base)
        if base is not None and fresh:
            self.furthest = max(self.furthest, base.step)
        if base is None or fresh:
            nothing = {"training": 0, "saving": 0, "evaluating": 0}
            base = told.model_copy(update={"step": report.resumed_from_step or 0, **nothing})
        left, parts = end - self.at, dict.fromkeys(_TOLD, 0)
        for bucket in _TOLD:
            parts[bucket] = min(left, max(0, getattr(told, bucket) - getattr(base, bucket)))
            left -= parts[bucket]
        again = round(parts[Bucket.TRAINING] * _repeated(base.step, told.step, self.furthest))
        parts[Bucket.TRAINING] -= again
        # What a process does not call steps is how it came to them, and what was before it.
        for bucket, amount in {**parts, Bucket.LOST: again, Bucket.STARTING: left if fresh else 0}.items():
            self._add(bucket, amount)
        self.counted = told
        self.current = Bucket.EVALUATING if report.stage == "Evaluating" else Bucket.TRAINING

    def _spent(self) -> Spent | None:
        """Return the account of the process that is at work; None where it has given none."""
        spent = self.report.spent if self.report is not None and self.report.attempt == self.attempt else None
        if spent is None or self.counted is None:
            return spent
        life, before = (self.attempt, spent.since), _life(self.counted)
        # What one says that has started no later than the one before is the last word of one that is gone.
        return spent if life > before or (life == before and self.current is not Bucket.STARTING) else None

    def _divide(self, end: int) -> None:
        """Count the end of a stretch, which no report has told of."""
        if self.current is Bucket.EVALUATING or (self.current is Bucket.STARTING and self._spent() is not None):
            self._add(self.current, end - self.at)
        elif self.current is Bucket.STARTING and self.pods:
            ran = end if self.pods_ran_at is None else self.pods_ran_at
            self._add(Bucket.STARTING, max(0, min(ran, end) - self.at))
        # Steps that nobody told of are made again, and would be counted twice if they were taken for training.
        self._add(Bucket.OTHER, end - self.at)

    def _add(self, bucket: Bucket, amount: int) -> None:
        self.seconds[bucket] = self.seconds.get(bucket, 0) + amount
        if bucket in HELD and self.attempt in self.sizes:
            weighted = amount * self.sizes[self.attempt]
            self.worker_seconds[bucket] = self.worker_seconds.get(bucket, 0) + weighted
        self.at += amount


def _opened(look: Look) -> _Book:
    """Return the book as the status has it; a job that is older than its book is counted from now on."""
    report = look.observed.report
    pods = look.view.attempt_pods
    known = look.before.goodput
    created = str(look.observed.object["metadata"]["creationTimestamp"])
    attempt = look.before.attempt or 0
    book = _Book(
        at=_seconds(created) if look.before.attempt is None else _epoch(look.now),
        current=Bucket.QUEUED if look.before.attempt is None else _standing(look),
        attempt=attempt,
        report=report if isinstance(report, TrainingReport) else None,
        pods_ran_at=ran_at(pods),
        pods=bool(pods),
        sizes=_sizes(look),
    )
    if known is not None:
        book.at, book.current = _seconds(known.as_of), known.current or Bucket.OTHER
        book.seconds = {bucket: getattr(known.seconds, bucket) for bucket in Bucket if bucket is not Bucket.SUSPENDED}
        book.seconds[Bucket.SUSPENDED] = known.suspended_seconds
        if known.worker_seconds is not None:
            book.worker_seconds = {bucket: getattr(known.worker_seconds, bucket) for bucket in HELD}
        book.counted = known.counted
        book.furthest = known.furthest_step
    reached = [entry.last_step or 0 for entry in look.after.attempts if entry.number < attempt]
    book.furthest = max(book.furthest, *reached, 0)
    return book


def _sizes(look: Look) -> dict[int, int]:
    if look.workers.elastic is None:
        return {}
    wished = look.workers.replicas
    return {entry.number: entry.workers or wished for entry in look.after.attempts}


def _written(book: _Book, workers: Workers, *, ended: bool) -> Goodput:
    seconds = BucketSeconds.model_validate(book.seconds)
    each = None if workers.elastic is None else BucketSeconds.model_validate(book.worker_seconds)
    count = accelerators_of(workers.document()) if each is None else accelerators(worker_limits(workers.document()))
    paid = each or seconds
    hours = AcceleratorHours(
        total=round(count * paid.held / _HOUR, 3), productive=round(count * paid.training / _HOUR, 3)
    )
    return Goodput(
        share=round(seconds.training / seconds.total, 3) if book.counted is not None and seconds.total else None,
        seconds=seconds,
        suspended_seconds=book.seconds.get(Bucket.SUSPENDED, 0),
        worker_seconds=each,
        accelerator_hours=hours if count else None,
        as_of=stamp(datetime.fromtimestamp(book.at, UTC)),
        current=None if ended else book.current,
        furthest_step=book.furthest,
        counted=book.counted,
    )


def _at_least(now: datetime, heard: Iterable[Turn]) -> int:
    """Return what time it is, by the clock of the control plane where that is ahead of the operator's own.

    What has begun is booked when it is heard of. If it were left for later, it would seem to begin in the middle of
    what it was the beginning of.
    """
    return max(_epoch(now), *(turn.at for turn in heard if turn.bucket in (Bucket.QUEUED, Bucket.STARTING)), 0)


def _is_for_the_pause(turn: Turn, book: "_Book", look: Look) -> bool:
    """Tell whether a Job is only said to be held now for a suspension that was booked as such when it was asked for."""
    return turn.bucket is Bucket.QUEUED and book.current is Bucket.SUSPENDED and look.view.state is JobState.HELD


def _standing(look: Look, book: _Book | None = None) -> Bucket:
    """Return what time goes to from now on."""
    view, after = look.view, look.after
    if look.verdict.state is State.SUSPENDED:
        return Bucket.SUSPENDED
    if (after.attempt or 0) != view.number or not view.number:
        return Bucket.QUEUED
    entry = next((entry for entry in after.attempts if entry.number == view.number), None)
    if entry is not None and entry.reason is not None:
        return Bucket.EVALUATING if entry.reason == Cause.COMPLETED else Bucket.RESTARTING
    if view.state is not JobState.LIVE:
        return Bucket.QUEUED
    if book is not None and book.attempt == view.number and book.current in _ON_NODES:
        # A pod that is gone from view does not put the others off their nodes.
        return book.current
    placed = placed_at(present(view.attempt_pods), view.workers(look.workers.replicas))
    return Bucket.QUEUED if placed is None else Bucket.STARTING


def _mark(status: TrainingJobStatus, reason: str | None) -> tuple[object, ...]:
    """Return what has to change for the book to be brought up."""
    step = status.progress.step if status.progress is not None else None
    return reason, status.attempt, step, status.completion_time


def _counted(report: TrainingReport, spent: Spent) -> Counted:
    return Counted(
        attempt=report.attempt,
        since=spent.since,
        step=report.progress.step if report.progress is not None else report.resumed_from_step or 0,
        training=round(spent.training),
        saving=round(spent.saving),
        evaluating=round(spent.evaluating),
    )


def _life(counted: Counted) -> tuple[int, str]:
    """Return which process an account is of, such that a later one is greater. Clocks of nodes may differ."""
    return counted.attempt, counted.since


def _repeated(first: int, last: int, furthest: int) -> float:
    """Return the share of the steps after `first` up to `last` that an earlier process had made before."""
    if last <= first:
        return 1.0 if first < furthest else 0.0
    return max(0, min(last, furthest) - first) / (last - first)


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())


def _seconds(text: str) -> int:
    return _epoch(parse(text))
