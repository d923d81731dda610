"""The data set, shared out: which files or rows are this process's."""

import tempfile
from pathlib import Path
from typing import Any

from modelwright.api.run import Run
from modelwright.registry.folder import FolderStore
from modelwright.registry.store import ObjectStore
from modelwright.runtime.failure import DataError
from modelwright.runtime.train.world import World


class Rows:
    """The part of `Session` that knows `spec.dataset`."""

    def __init__(self, run: Run, world: World, store: ObjectStore) -> None:
        self._run = run
        self._world = world
        self._storage = store

    def files(self, local: str | None = None) -> list[str]:
        """Return the URIs of this process's share of the files of `spec.dataset`, for a reader of your own.

        `local` is the file or folder to use where there is no `spec.dataset`: on your desk. Shares differ by one file
        at most. Raises `DataError` DatasetNotFound or DataInvalid.
        """
        source = self._source(local)
        mine = source.entries[self._world.rank :: self._world.size]
        return [source.store.locate(entry.key) for entry in mine]

    def rows(self, local: str | None = None) -> Any:
        """Return this process's share of the rows of `spec.dataset` as a pandas DataFrame.

        Numbers are float32, everything else is text. Every process gets the same number of rows, so that all make the
        same number of steps; the last few, fewer than there are processes, are left out. `local` as in `files`.
        """
        from modelwright.runtime.train import data

        with tempfile.TemporaryDirectory(prefix="modelwright-data-") as scratch:
            frame = data.read(self._source(local), Path(scratch)).frame
        share = len(frame) // self._world.size
        mine = frame.iloc[self._world.rank :: self._world.size][:share]
        return mine.reset_index(drop=True)

    def _source(self, local: str | None) -> Any:
        from modelwright.runtime.train import data

        dataset = self._run.training.dataset
        if dataset is not None:
            return data.find_source(self._storage, dataset)
        if local is None:
            raise DataError("DatasetNotFound", "There is no spec.dataset: give one, or a local file to rows()")
        path = Path(local)
        folder, name = (path, "") if path.is_dir() else (path.parent, path.name)
        return data.source_at(FolderStore(folder), name, local, None)
