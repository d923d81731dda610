"""A loop of a user's own around a session, with everything outside it replaced."""

from typing import Any

import torch

from modelwright.api.run import Run
from modelwright.registry.store import ObjectStore
from modelwright.runtime.report import Reporter
from modelwright.runtime.train.stop import Stop
from modelwright.runtime.train.world import World
from modelwright.runtime.watchdog import Watchdog
from modelwright.train import Session
from tests.unit.runtime_train.runs import run_of


class Collected(Reporter):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(None)
        self.reports: list[Any] = []

    def send(self, report: Any) -> None:
        self.reports.append(report)


class Watch:
    """A clock that somebody moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Loop:
    """Trains one weight, a second a step."""

    def __init__(
        self,
        store: ObjectStore,
        run: Run | None = None,
        world: World | None = None,
        watchdog: Watchdog | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.stop = Stop()
        self.reporter = Collected()
        self.watch = watch or Watch()
        outside = (run or run_of(), world or World(), store, self.reporter, self.stop, self.watch)
        self.session = Session(*outside, watchdog=watchdog)
        torch.manual_seed(0)
        self.model = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)

    @property
    def state(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}

    def train(self, total: int, *, metrics: dict[int, float] | None = None, **options: Any) -> list[int]:
        """Train to a step and return the steps that were saved, in steps done."""
        saved = []
        for step in range(self.session.resume(**self.state), total):
            self.watch.seconds += 1
            loss = (self.model(torch.ones(2, 3)) - 1).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            extra = {"score": metrics[step + 1]} if metrics else {}
            self.session.report(step, loss=loss, total_steps=total, **extra)
            if self.session.checkpoint(step, **self.state, **options):
                saved.append(step + 1)
                self.session._saver.wait()  # so that no save waits for another
        self.session.close()
        return saved
