"""Where a loop finds itself: in a pod of a TrainingJob, in a worker of Ray Train, or on somebody's desk."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from modelwright.api.hang import Hang
from modelwright.api.run import RUN_VARIABLE, ResolvedStorage, Run
from modelwright.api.trainingjob import TrainingJobSpec
from modelwright.registry.folder import FolderStore
from modelwright.registry.store import ObjectStore, open_store
from modelwright.runtime.hang import COLLECTIVE_TIMEOUT, watching
from modelwright.runtime.report import reporter_from_environment
from modelwright.runtime.train.phases import of_this_process
from modelwright.runtime.train.stop import Stop, withdraw
from modelwright.runtime.train.world import PLAIN_PEER_WORDS, joined, lost_peers
from modelwright.runtime.watchdog import START_SECONDS
from modelwright.train._session import Session

# Whoever stands at a breakpoint on a desk is not to be ended for it.
_NOBODY_WATCHES = TrainingJobSpec(hang=Hang(enabled=False))


@contextmanager
def begin(folder: Path) -> Iterator[Session]:
    """Make the session of this process, and end it as the loop ends."""
    run, store = _place(folder)
    patience = COLLECTIVE_TIMEOUT if run.training.hang.enabled else None
    with (
        _signals(),
        # Nobody knows what a loop does between two steps: a pass over other rows takes far longer than either.
        watching(run, START_SECONDS) as watchdog,
        joined(patience) as world,
        reporter_from_environment() as reporter,
    ):
        session = Session(run, world, store, reporter, Stop(), watchdog=watchdog, phases=of_this_process())
        try:
            # Who trains alone has no peer to lose, whatever its own errors say.
            with lost_peers(PLAIN_PEER_WORDS) if world.size > 1 else nullcontext():
                yield session
            session.close()
        except Exception as error:
            session.fail(error)
            raise
        finally:
            session.abandon()
            withdraw()


def _place(folder: Path) -> tuple[Run, ObjectStore]:
    text = os.environ.get(RUN_VARIABLE)
    if text is not None:
        run = Run.model_validate_json(text)
        return run, open_store(run.storage)
    # A run needs a place on S3, and this one has no use for it.
    nowhere = ResolvedStorage(uri="s3://unused")
    run = Run(namespace="local", name=folder.name, uid="desk", attempt=1, storage=nowhere, training=_NOBODY_WATCHES)
    return run, FolderStore(folder)


@contextmanager
def _signals() -> Iterator[None]:
    """Give SIGTERM back to whoever had it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
