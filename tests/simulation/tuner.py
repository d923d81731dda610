"""What the pods of a TuningSweep do: the driver tries points, keeps what ended on S3, reports, and ends the gang."""

import math
from dataclasses import dataclass, field

from modelwright.api.layout import sweep_key
from modelwright.api.run import Run, SweepReport, SweepResult
from modelwright.api.tuningsweep import ParameterValue, Trial, TrialState
from modelwright.plan.actions import Object
from modelwright.runtime.tune.book import Book
from tests.simulation.nodes import complete_gangs, finish
from tests.simulation.trainer import FAILURES, run_of
from tests.simulation.world import World

VALUES = (0.7, math.nan, 0.8, 0.9, 0.9, math.inf)
"""The objective of trials 1, 2 and so on, over and over. The best of four is neither the first nor the last to end."""


@dataclass
class Driver:
    """The process in pod 0."""

    run: Run
    book: Book
    running: list[int] = field(default_factory=list)
    told: SweepReport | None = None

    def end_one(self) -> None:
        """Let the trial that began last end: it is not always the first that ends first."""
        if self.running:
            number = self.running.pop()
            self.book.succeed(number, value_of(number), stopped=False)

    def begin_more(self, most: int, at_once: int) -> None:
        """Begin as many trials as the budget and the parallelism leave."""
        while len(self.running) < min(at_once, most - len(self.book.ended)):
            number = self.book.next_number()
            self.book.begin(Trial(number=number, state=TrialState.RUNNING, parameters=parameters_of(number)))
            self.running.append(number)


@dataclass
class Tuner:
    """Runs every gang of a sweep whose pods all run. Add it to the controllers of a world."""

    world: World
    reports_lost: bool = False
    careless: bool = False
    """Reports call a trial without a number the best."""
    dies_after_result: bool = False
    """The next driver to finish dies when it has left the complete result."""
    hangs_after: int | None = None
    """So many trials end; the others go on and on."""
    last_words: bool = False
    """A trial ends while its pods are told to stop."""
    drivers: dict[str, Driver] = field(default_factory=dict)
    """By the UID of the driver's pod: it forgets what it was told when that dies."""

    def step(self) -> None:
        """Let every complete gang do one round of work."""
        for job, pods in complete_gangs(self.world.kubelets, "TuningSweep"):
            # boto3 tries for a while: a short outage only makes it slow.
            uid = pods[0]["metadata"]["uid"]
            if uid in self.drivers:
                self._search(self.drivers[uid], job, pods)
            elif not self.world.bucket.down:
                self.drivers[uid] = self._new_driver(run_of(job))

    def _new_driver(self, run: Run) -> Driver:
        assert run.sweep is not None
        known = self.world.bucket.documents.get(sweep_key(run.namespace, run.uid))
        earlier = SweepResult.model_validate_json(known).trials if known else ()
        return Driver(run, Book(run.sweep.objective, run.attempt, earlier))

    def _search(self, driver: Driver, job: Object, pods: list[Object]) -> None:
        sweep, book = driver.run.sweep, driver.book
        assert sweep is not None
        hangs = self.hangs_after is not None and len(book.ended) >= self.hangs_after
        if not hangs or (self.last_words and "deletionTimestamp" in job["metadata"]):
            driver.end_one()
            self._keep(driver, finished=False)
        driver.begin_more(sweep.max_trials, sweep.parallelism)
        self._report(driver)
        if len(book.ended) == sweep.max_trials and self._keep(driver, finished=True):
            # The others end when the Job controller sees that the driver has.
            finish(self.world.cluster, pods[0], **(FAILURES["killed"] if self.dies_after_result else {}))
            self.dies_after_result = False

    def _keep(self, driver: Driver, *, finished: bool) -> bool:
        """Write down what has ended; return whether that could be done."""
        if self.world.bucket.down:
            return False
        key = sweep_key(driver.run.namespace, driver.run.uid)
        self.world.bucket.write(key, driver.book.result(finished=finished).document())
        return True

    def _report(self, driver: Driver) -> None:
        if self.reports_lost:
            return
        uid, report = driver.run.uid, driver.book.report()
        if report == driver.told:
            return
        driver.told = report
        self.world.operator.report(uid, _carelessly(report) if self.careless else report)


def value_of(number: int) -> float:
    """Return what comes of a trial."""
    return VALUES[(number - 1) % len(VALUES)]


def parameters_of(number: int) -> tuple[ParameterValue, ...]:
    """Return the point of a trial: every trial has its own."""
    return (ParameterValue(name="neuralNetwork.learningRate", value=str(number / 1000)),)


def _carelessly(report: SweepReport) -> SweepReport:
    nothing = Trial(number=1, state=TrialState.SUCCEEDED, value=math.nan, parameters=parameters_of(1))
    return report.model_copy(update={"best_trial": nothing, "history": (nothing, *report.history[1:])})
