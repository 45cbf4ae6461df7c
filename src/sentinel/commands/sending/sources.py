"""What is sent: each source with a name that goes by its content, so that it is the same one wherever it lies."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sentinel.commands.live import Traffic, traffic
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.events.context_files import read_whole_history
from sentinel.events.files import History, history_of_frame
from sentinel.events.reading import Reading
from sentinel.simulate.payments import simulate_all

SIMULATOR = "simulator"
_OBJECT = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)")
_ENDINGS = (".csv", ".jsonl", ".ndjson", ".parquet", ".json")


class Source(NamedTuple):
    """A source: what people call it, the hash of its content, and its transactions by time.

    `keys` has for each the text of the schema's first key, and `left_out` the rows that cannot be used, by reason.
    """

    name: str
    content: str
    live: Traffic
    keys: list[str]
    left_out: dict[str, int]


def sources(
    settings: Settings, detector: Detector, source: str, reading: Reading, transactions: int, seed: int
) -> Iterator[Source]:
    """The files of SOURCE one after the other, by name. Raises DataProblem, InvalidDefinition."""
    if source == SIMULATOR:
        frame, _ = simulate_all(transactions, seed)
        history = history_of_frame(frame, detector.schema, reading, secrets=settings.secrets())
        yield _source(detector, f"{SIMULATOR}, {transactions} with seed {seed}", f"{transactions}-{seed}", history)
        return
    with _files_of(source) as files:
        for shown, path in files:
            content = _hash(path)
            history = read_whole_history(path, detector.schema, reading, secrets=settings.secrets())
            yield _source(detector, shown, content, _named_by_content(detector, history, content))


def _source(detector: Detector, name: str, content: str, history: History) -> Source:
    key = detector.schema.keys[0] if detector.schema.keys else detector.schema.id
    keys = history.frame[key].fill_null("").to_list()
    return Source(name, content, traffic(detector, history), keys, dict(history.skipped))


def _named_by_content(detector: Detector, history: History, content: str) -> History:
    """Rows that got their ids from their places in the file get one that no other file has."""
    schema = detector.schema
    if schema.id not in schema.optional:
        return history
    name = pl.col(schema.id)
    own = pl.when(name.str.contains(r"^row-\d+$")).then(pl.lit(f"{content[:12]}-") + name).otherwise(name)
    return History(history.frame.with_columns(own.alias(schema.id)), history.skipped, tables=history.tables)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _files_of(source: str) -> Iterator[list[tuple[str, Path]]]:
    """The files with what they are called; those of S3 are there for as long as the block runs."""
    found = _OBJECT.fullmatch(source)
    if found is not None:
        with tempfile.TemporaryDirectory(prefix="sentinel-send-") as folder:
            yield list(_fetched(found[1], found[2], Path(folder)))
        return
    path = Path(source)
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix in _ENDINGS)
    else:
        files = sorted(path.parent.glob(path.name)) if not path.exists() else [path]
    if not files:
        raise DataProblem(f"{source}: there is no such file, or none that ends in {', '.join(_ENDINGS)}")
    yield [(str(one), one) for one in files]


def _fetched(bucket: str, key: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The object of that key, or all below it. Endpoint and keys are those of the AWS_... variables.

    Raises DataProblem, InvalidDefinition.
    """
    try:
        import obstore  # only who reads from S3 needs the library
        from obstore.exceptions import BaseError

        from sentinel.objects.s3_objects import open_bucket
    except ModuleNotFoundError as error:
        raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[s3]'") from error
    try:
        store = open_bucket(bucket, None, os.environ)
        folder_of, inside = key.rpartition("/")[0], key.rstrip("/") + "/"
        there = [one["path"] for page in obstore.list(store, folder_of or None) for one in page]
        below = sorted(one for one in there if one.startswith(inside) and one.endswith(_ENDINGS))
        names = [key] if key in there else below
        for number, name in enumerate(names):
            path = folder / f"{number}{Path(name).suffix}"
            path.write_bytes(bytes(obstore.get(store, name).bytes()))
            yield f"s3://{bucket}/{name}", path
    except BaseError as error:
        raise DataProblem(f"s3://{bucket}/{key} cannot be read: {error}; see the AWS_... variables") from error
    if not names:
        raise DataProblem(f"s3://{bucket}/{key}: there is no such object, and none below it")
