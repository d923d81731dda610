"""Reading a data set from S3: which objects it is made of, and what is in them."""

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from modelwright.api.trainingjob import DataFormat, Dataset
from modelwright.registry.store import Entry, ObjectStore
from modelwright.runtime.failure import DataError
from modelwright.runtime.train.columns import Table, gather, unlike

_INDEX = re.compile(r"__index_level_\d+__")
_IN_UTF_8 = "save it in that encoding"
_ENDINGS = {DataFormat.CSV: (".csv", ".csv.gz"), DataFormat.PARQUET: (".parquet", ".pq")}


@dataclass(frozen=True)
class Source:
    """The objects of a data set, as they lie there now."""

    store: ObjectStore
    entries: tuple[Entry, ...]
    format: DataFormat

    @property
    def digest(self) -> str:
        """SHA-256 over names and ETags: it changes when any object changes."""
        lines = "".join(f"{entry.key}\t{entry.etag}\n" for entry in self.entries)
        return hashlib.sha256(lines.encode()).hexdigest()


def find_source(storage: ObjectStore, dataset: Dataset) -> Source:
    """Return the objects that a data set names. Raises `DataError` DatasetNotFound or DataInvalid."""
    folder, _, name = dataset.uri.rpartition("/")
    if name and folder.count("/") < 2:
        folder, name = dataset.uri, ""
    return source_at(storage.at(folder), name, dataset.uri, dataset.format)


def source_at(store: ObjectStore, name: str, uri: str, format_: DataFormat | None) -> Source:
    """Return one object of a store, or every one that holds rows where no name is given; errors as in `find_source`."""
    if name:
        found = tuple(entry for entry in store.list(name) if entry.key == name)
    else:
        found = tuple(entry for entry in store.list("") if entry.size and _format_of(entry.key))
    if not found:
        raise DataError("DatasetNotFound", f"There is nothing to read at {uri}: check dataset.uri")
    chosen = format_ or _guess(uri, found)
    kept = found if name else tuple(entry for entry in found if _format_of(entry.key) is chosen)
    if not kept:
        raise DataError("DatasetNotFound", f"There are no {chosen} files below {uri}")
    return Source(store, kept, chosen)


def read(source: Source, cache: Path) -> Table:
    """Download the objects of a data set and return their rows, in the order of their names.

    Raises `DataError` DataInvalid when a file cannot be read.
    """
    tables, kept = [], list[tuple[Path, str]]()
    for number, entry in enumerate(source.entries):
        path, uri = cache / f"{number:06d}-{Path(entry.key).name}", source.store.locate(entry.key)
        source.store.download(entry.key, path)
        tables.append(_read_file(path, source.format, uri))
        if source.format is DataFormat.CSV:
            kept.append((path, uri))
        else:
            path.unlink()
    if texts := unlike(tables) if kept else ():
        # Each file was asked alone what its columns are: the same word must not become two values for that.
        tables = [_read_file(path, source.format, uri, texts) for path, uri in kept]
    for path, _ in kept:
        path.unlink()
    return gather(tables, source.digest)


def _read_file(path: Path, format_: DataFormat, uri: str, texts: Collection[str] = ()) -> Any:
    reader: Callable[[Path], Any] = pyarrow.parquet.read_table
    if format_ is DataFormat.CSV:
        reader = partial(_read_csv, texts=texts)
    try:
        table = reader(path)
        names = table.column_names
    except UnicodeDecodeError as error:
        raise DataError("DataInvalid", f"{uri} is not UTF-8 (the names of its columns): {_IN_UTF_8}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError("DataInvalid", f"{uri} cannot be read as {format_}: {_without_values(error)}") from error
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise DataError("DataInvalid", f"{uri} has more than one column named {min(repeated)}")
    for name in names if format_ is DataFormat.CSV else ():
        # What Arrow takes for bytes is text in another encoding.
        if pa.types.is_binary(table.schema.field(name).type):
            raise DataError("DataInvalid", f"{uri} is not UTF-8 (column {name}): {_IN_UTF_8}")
    return table.drop_columns([name for name in names if _numbers_rows(name, format_)])


def _numbers_rows(name: str, format_: DataFormat) -> bool:
    """Tell whether a column is the index that pandas has written beside the columns: it says where a row once stood."""
    return not name if format_ is DataFormat.CSV else bool(_INDEX.fullmatch(name))


def _read_csv(path: Path, texts: Collection[str]) -> Any:
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    converting = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
    return pyarrow.csv.read_csv(path, parse_options=parsing, convert_options=converting)


def _without_values(error: Exception) -> str:
    """Return what a parser complains of without the row that it quotes: rows do not belong in a status."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r"(Expected \d+ columns, got \d+).*", r"\1", text)[:200]


def _format_of(key: str) -> DataFormat | None:
    return next((format_ for format_, endings in _ENDINGS.items() if key.lower().endswith(endings)), None)


def _guess(uri: str, entries: tuple[Entry, ...]) -> DataFormat:
    formats = {_format_of(entry.key) for entry in entries}
    only = next(iter(formats))
    if len(formats) > 1 or only is None:
        raise DataError("DataInvalid", f"The format of {uri} cannot be told from the file names: set dataset.format")
    return only
