"""The search itself: Ray Tune places trials on the gang; what ends is written to S3 at once."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray import tune

from modelwright.api.recipe import TabularRecipe
from modelwright.api.run import Run
from modelwright.api.tuningsweep import TuningSweepSpec
from modelwright.registry.store import ObjectStore, open_store
from modelwright.runtime.failure import RunError
from modelwright.runtime.report import reporter_from_environment
from modelwright.runtime.train.data import find_source, read
from modelwright.runtime.train.problem import Split, prepare
from modelwright.runtime.tune.book import Book
from modelwright.runtime.tune.cluster import share_of, wait_for_nodes
from modelwright.runtime.tune.keeper import Keeper, earlier_trials
from modelwright.runtime.tune.searcher import AskAndTell
from modelwright.runtime.tune.trial import Task, trainable
from modelwright.runtime.tune.watch import Watch, scheduler

logger = logging.getLogger(__name__)

_LOST_PROCESSES = 2
"""How often a trial is started again when its process dies: that may be a node's fault. Errors of a trial are not."""


def search(run: Run) -> None:
    """Search until the trials of the budget have ended, those of earlier attempts included.

    Raises `RunError` and `StoreError`.
    """
    sweep = run.sweep
    recipe = run.training.recipe.tabular if run.training.recipe else None
    if sweep is None or recipe is None:
        raise RunError("RunInvalid", "the Run has no sweep, or no recipe to search", retryable=False)
    store = open_store(run.storage)
    book = Book(sweep.objective, run.attempt, earlier_trials(store, run))
    with reporter_from_environment() as reporter:
        keeper = Keeper(run, store, reporter, book)
        keeper.tell()
        if len(book.ended) < sweep.max_trials:
            split = _load(run, store, recipe)
            _search(sweep, Task(recipe.document(), sweep.objective.metric), split, book, keeper)
        keeper.finish()


def _search(sweep: TuningSweepSpec, task: Task, split: Split, book: Book, keeper: Keeper) -> None:
    # What Ray itself writes is not needed once the search is over, nor by another attempt.
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
        try:
            wait_for_nodes(sweep.workers.replicas)
            _tuner(sweep, task, ray.put(split), book, keeper, Path(scratch)).fit()
        finally:
            ray.shutdown()


def _tuner(sweep: TuningSweepSpec, task: Task, split: Any, book: Book, keeper: Keeper, scratch: Path) -> tune.Tuner:
    share, left = share_of(sweep.parallelism), sweep.max_trials - len(book.ended)
    logger.info("%d trials to go, %d at a time, each %s", left, sweep.parallelism, share)
    searcher = AskAndTell(sweep, book)
    stopping = scheduler(sweep.early_stopping, searcher.mode)
    return tune.Tuner(
        tune.with_resources(trainable(task, split), {"cpu": share.cpus, "gpu": share.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=stopping,
            num_samples=left,
            max_concurrent_trials=sweep.parallelism,
            # A new process for each trial would spend most of its time on imports.
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(scratch),
            callbacks=[Watch(book, keeper, stopping)],
            failure_config=tune.FailureConfig(max_failures=_LOST_PROCESSES),
            verbose=0,
        ),
    )


def _load(run: Run, store: ObjectStore, recipe: TabularRecipe) -> Split:
    """Read and check the data once, in the driver; the trials share it through Ray's object store."""
    if run.training.dataset is None:
        raise RunError("RunInvalid", "the template has no dataset", retryable=False)
    with tempfile.TemporaryDirectory(prefix="data-") as cache:
        table = read(find_source(store, run.training.dataset), Path(cache))
    return prepare(table, recipe, run.training.dataset, search=True)
