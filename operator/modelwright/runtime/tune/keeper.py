"""Keeps the record of a search where the operator and the next attempt find it."""

import logging

from modelwright.api.layout import sweep_key
from modelwright.api.run import Run, SweepResult
from modelwright.api.tuningsweep import Trial
from modelwright.registry.errors import StoreError
from modelwright.registry.store import ObjectStore
from modelwright.runtime.report import Reporter
from modelwright.runtime.tune.book import Book

logger = logging.getLogger(__name__)


class Keeper:
    """Writes a book to S3 and reports it."""

    def __init__(self, run: Run, store: ObjectStore, reporter: Reporter, book: Book) -> None:
        self._key = sweep_key(run.namespace, run.uid)
        self._store = store
        self._reporter = reporter
        self._book = book

    def tell(self) -> None:
        """Report how things stand."""
        self._reporter.send(self._book.report())

    def keep(self) -> None:
        """Write the trials that have ended, and report. While the store is down, the next write catches up."""
        try:
            self._write(finished=False)
        except StoreError as error:
            logger.warning("the trials could not be written, the search goes on: %s", error)
        self.tell()

    def finish(self) -> None:
        """Write the complete result. Raises `StoreError`: a result that nobody can read is none."""
        self._write(finished=True)
        self.tell()

    def _write(self, *, finished: bool) -> None:
        self._store.write_json(self._key, self._book.result(finished=finished).document())


def earlier_trials(store: ObjectStore, run: Run) -> tuple[Trial, ...]:
    """Return the trials that earlier attempts of this sweep have ended. Raises `StoreError`."""
    known = store.read_document(sweep_key(run.namespace, run.uid), SweepResult)
    return known.trials if known else ()
