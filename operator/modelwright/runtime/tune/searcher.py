"""Which point is tried next: Optuna's samplers, asked and told by Ray Tune.

Ray's own bridge to Optuna keeps a trial without a number open for ever, and remembers a search in a pickle; this one
tells Optuna of failures, and begins with the trials that earlier attempts left on S3.
"""

import itertools
import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState as OptunaState
from ray.tune.search import Searcher

from modelwright.api.tuningsweep import (
    ParameterValue,
    SearchAlgorithm,
    SearchParameter,
    Trial,
    TrialState,
    TuningSweepSpec,
)
from modelwright.runtime.tune.book import Book, direction

OBJECTIVE, FAILURE, FINISHED, EPOCH = "objective", "failure", "finished", "epoch"
"""What a trial reports: the objective at an epoch; that it ran to its end; or why it broke."""
_SEEDS = 2**32
_PATIENCE = 50
"""How often the sampler is asked for another point when it repeats itself."""
_FEW = 20_000
"""Points of a space that may be gone through for one that is left."""

logger = logging.getLogger(__name__)


class AskAndTell(Searcher):  # type: ignore[misc]
    """Chooses trials for Ray Tune. A suggestion is `{number, parameters}`, with all values as text."""

    def __init__(self, sweep: TuningSweepSpec, book: Book) -> None:
        goal = direction(sweep.objective)
        super().__init__(metric=OBJECTIVE, mode="min" if goal == "minimize" else "max")
        self._space = space(sweep.search_space)
        self._book = book
        self._open: dict[str, optuna.trial.Trial] = {}
        self._next = book.next_number()
        self._tried = {_point(trial) for trial in book.ended}
        self._random = random.Random(_seed(sweep, len(book.ended)))  # noqa: S311 (a search has nothing to hide)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(direction=goal, sampler=_sampler(sweep, len(book.ended)))
        for trial in book.ended:
            self._remember(trial)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next point to try; `FINISHED` when a space of finitely many points has been tried in full."""
        if len(self._tried) >= size(self._space):
            return str(self.FINISHED)
        asked = self._ask()
        parameters = {name: str(asked.params[name]) for name in self._space}
        self._open[trial_id] = asked
        self._tried.add(frozenset(parameters.items()))
        number, self._next = self._next, self._next + 1
        return {"number": number, "parameters": parameters}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take note of nothing: early stopping is Ray's, and Optuna learns from how trials end."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Learn how a trial ended; one that broke must not be proposed again, nor block the others."""
        asked = self._open.pop(trial_id, None)
        value = (result or {}).get(OBJECTIVE)
        if asked is None:
            return
        if error or value is None or FAILURE in (result or {}):
            self._study.tell(asked, state=OptunaState.FAIL)
        else:
            self._study.tell(asked, value)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the memory of a search is its document on S3."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing, for the same reason."""

    def _ask(self) -> optuna.trial.Trial:
        """Return a point that has not been tried: a trial is repeatable, so to repeat one tells nothing."""
        for _ in range(_PATIENCE):
            asked = self._study.ask(self._space)
            if _marks(asked.params) not in self._tried:
                return asked
            self._study.tell(asked, state=OptunaState.FAIL)
        if left := [point for point in points(self._space) if _marks(point) not in self._tried]:
            self._study.enqueue_trial(self._random.choice(left))
        return self._study.ask(self._space)

    def _remember(self, trial: Trial) -> None:
        try:
            params = {entry.name: read_value(self._space[entry.name], entry.value) for entry in trial.parameters}
            failed = trial.state is TrialState.FAILED or trial.value is None
            known = optuna.trial.create_trial(
                state=OptunaState.FAIL if failed else OptunaState.COMPLETE,
                value=None if failed else trial.value,
                params=params,
                distributions={name: self._space[name] for name in params},
            )
        except (KeyError, ValueError) as error:
            logger.warning("trial %d of an earlier attempt does not fit the search space: %s", trial.number, error)
            return
        self._study.add_trial(known)


def space(parameters: Sequence[SearchParameter]) -> dict[str, BaseDistribution]:
    """Return the search space in Optuna's terms; both ends of every range are included."""
    return {parameter.name: _distribution(parameter) for parameter in parameters}


def points(distributions: Mapping[str, BaseDistribution]) -> Iterator[dict[str, Any]]:
    """Yield the points of a small space of whole numbers and choices; none of another one."""
    if size(distributions) > _FEW:
        return
    values = [
        range(each.low, each.high + 1, each.step) if isinstance(each, IntDistribution) else each.choices
        for each in distributions.values()
    ]
    for chosen in itertools.product(*values):
        yield dict(zip(distributions, chosen, strict=True))


def _marks(point: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    return frozenset((name, str(value)) for name, value in point.items())


def size(distributions: Mapping[str, BaseDistribution]) -> float:
    """Return how many points a search space has; infinity where a dimension is continuous."""
    return math.prod(map(_values, distributions.values()))


def read_value(distribution: BaseDistribution, text: str) -> str | int | float:
    """Return a value from the text that it was kept as. Raises ValueError."""
    if isinstance(distribution, IntDistribution):
        return int(text)
    return float(text) if isinstance(distribution, FloatDistribution) else text


def parameter_values(suggested: Mapping[str, str]) -> tuple[ParameterValue, ...]:
    """Return a suggestion as a trial keeps it."""
    return tuple(ParameterValue(name=name, value=value) for name, value in suggested.items())


def _values(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return len(range(distribution.low, distribution.high + 1, distribution.step))
    return math.inf


def _point(trial: Trial) -> frozenset[tuple[str, str]]:
    return frozenset((entry.name, entry.value) for entry in trial.parameters)


def _distribution(parameter: SearchParameter) -> BaseDistribution:
    if (real := parameter.float_) is not None:
        return FloatDistribution(real.min, real.max, log=bool(real.log))
    if (whole := parameter.int_) is not None:
        step = whole.step or 1
        # Optuna warns of a range that its step does not divide, and then does just this.
        highest = whole.max if whole.log else whole.max - (whole.max - whole.min) % step
        return IntDistribution(whole.min, highest, log=bool(whole.log), step=step)
    if parameter.choice is not None:
        return CategoricalDistribution(parameter.choice.values)
    raise ValueError(f"search parameter {parameter.name} has neither float, int nor choice")


def _seed(sweep: TuningSweepSpec, ended: int) -> int:
    # A new attempt must go on where the last one was, and not propose its first points again.
    return (sweep.seed + ended) % _SEEDS


def _sampler(sweep: TuningSweepSpec, ended: int) -> BaseSampler:
    seed = _seed(sweep, ended)
    return RandomSampler(seed=seed) if sweep.algorithm is SearchAlgorithm.RANDOM else TPESampler(seed=seed)
