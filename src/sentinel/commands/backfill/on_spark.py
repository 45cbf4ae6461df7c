"""The engine of many machines: Spark deals rows out by the keys of the features, one after the other, and sorts them.

Each pass has all rows of its keys in the order of time, as `pieces` wants them. It is imported where PySpark is.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple
from urllib.parse import unquote, urlparse

import polars as pl
import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sql
from pyspark.sql.types import DoubleType, LongType, StringType, StructField, StructType

from sentinel.commands.backfill.build import facts_of
from sentinel.commands.backfill.history_files import ROWS_AT_ONCE, HistoryFiles, goes_in_pieces
from sentinel.commands.backfill.parquet_rows import moments
from sentinel.commands.backfill.pieces import (
    ArrowBatch,
    Pieces,
    features_of,
    frame_of,
    known_name,
    last_pass_of,
    pass_of,
)
from sentinel.commands.backfill.survey_shares import Share, add_shares, survey_share
from sentinel.commands.declared_events import check_events_given
from sentinel.commands.given_history import tell_labels, tell_skipped
from sentinel.config import Settings, read_settings
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.durable import sync_folder
from sentinel.errors import DataProblem
from sentinel.events.files import NUMBER, Example, RowReader
from sentinel.events.reading import Reading
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

_AT, _FOUND = "#at", "found"
_ROWS_OF_SHARE = 2_000_000


class Task(NamedTuple):
    """What every worker needs. Its secrets it reads from its own environment."""

    plan: FeaturePlan
    reading: Reading
    meanings: dict[str, int | None]
    now_us: int

    def reader(self) -> RowReader:
        """Reads rows as the server would have."""
        return RowReader(self.plan.schema, self.reading, read_settings({}, os.environ).secrets(), self.now_us)

    def begin(self) -> Pieces:
        """Pieces that have seen no row."""
        return Pieces(self.reader(), MemoryStore(self.plan), self.meanings)


class Built(NamedTuple):
    """How many transactions and features there are, what was left out, and how many are labelled, and fraud."""

    transactions: int
    features: int
    skipped: dict[str, int]
    examples: dict[str, Example]
    labels: tuple[int, int] | None


def build_features_on_spark(
    settings: Settings, name: str, data: Path, out: Path, reading: Reading, master: str
) -> dict[str, object]:
    """Write a folder of Parquet files of the id and every feature, as `build_features` writes a file."""
    detector = load_detector(name)
    check_events_given(detector, reading)
    if not goes_in_pieces(detector, data, reading):
        raise DataProblem(
            "Spark builds from Parquet files with times, and nothing beside them: no context events, tables or rows "
            "exported from a log; leave out --engine spark"
        )
    built = build_on_spark(HistoryFiles.of(settings, detector, data, reading), out, master)
    tell_skipped(built.skipped, built.examples)
    tell_labels(detector, built.transactions, built.labels)
    return facts_of(built.transactions, built.features, built.skipped, out)


def build_on_spark(history: HistoryFiles, out: Path, master: str) -> Built:
    """Write the features of a history as a folder of Parquet files.

    Raises DataProblem for a history that cannot be used, or an output that is there.
    """
    if out.exists():
        raise DataProblem(f"{out} is there; Spark writes a folder of that name: remove it, or name another one")
    session = _session(master)
    try:
        return _built(session, history, out)
    except PySparkException as error:
        raise DataProblem(f"Spark could not do it: {str(error).strip().splitlines()[-1]}") from error
    finally:
        session.stop()


def _built(session: SparkSession, history: HistoryFiles, out: Path) -> Built:
    detector, now_us = history.detector, time.time_ns() // 1_000
    rows = _rows(session, history)
    task = Task(detector.plan({}), history.reading, {}, now_us)
    found = _survey(rows, detector, task)
    if history.reading.strict and found.skipped:
        raise DataProblem(f"rows that cannot be used ({found.said}); mend them, or leave out --strict")
    if found.usable == 0:
        raise DataProblem(f"no usable row: {found.said}")
    known = found.counts().learned(detector, history.reading)
    task = Task(detector.plan(known.vocabulary), history.reading, known.meanings, now_us)
    shares = max(2 * session.sparkContext.defaultParallelism, -(-found.usable // _ROWS_OF_SHARE))
    keyed = _mapped(rows, partial(_with_keys, task), _keyed_schema(rows, task))
    _check_ids(keyed, detector.schema.id, found.usable)
    _write(_passes(keyed, task, shares), out)
    labels = None
    if detector.schema.label in history.fields:
        meant = [(known.meanings[word], n) for word, n in found.words.items()]
        labels = sum(n for label, n in meant if label is not None), sum(n for label, n in meant if label == 1)
    return Built(found.usable, len(task.plan.names), found.skipped, found.first_examples, labels)


def _session(master: str) -> SparkSession:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    options = {
        "spark.ui.enabled": "false",
        "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ROWS_AT_ONCE),
        "spark.sql.adaptive.enabled": "false",
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    }
    if master.startswith("local"):
        options |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    builder = SparkSession.builder.master(master).appName("sentinel features build")
    for name, value in options.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _rows(session: SparkSession, history: HistoryFiles) -> DataFrame:
    """The columns of fields, and NUMBER: the row's number in the files, one after the other."""
    files = [one.absolute() for one in history.files]
    read = session.read.option("mergeSchema", "true").parquet(*map(str, files))
    begins = dict(zip(map(str, files), accumulate([0, *history.rows_of_files()]), strict=False))
    columns = [sql.col(_quoted(column)).alias(field) for field, column in history.fields.items()]
    number = sql.col("_metadata.row_index") + _begin_of(read, begins) + 1
    return read.select(*columns, number.cast("long").alias(NUMBER))


def _begin_of(read: DataFrame, begins: dict[str, int]) -> Column:
    """How many rows stand in the files before the row's own, which Spark names in its own way."""
    if len(begins) == 1:
        return sql.lit(0)
    names = [row[0] for row in read.select("_metadata.file_path").distinct().collect()]
    pairs = [(name, begins[unquote(urlparse(name).path)]) for name in names]
    table = sql.create_map(*(sql.lit(one) for pair in pairs for one in pair))
    return table[sql.col("_metadata.file_path")]


def _survey(rows: DataFrame, detector: Detector, task: Task) -> Share:
    """What all rows are, each share counted by itself. Raises DataProblem."""
    schema = StructType([StructField(_FOUND, StringType())])
    counted = _mapped(rows, partial(_surveyed, detector, task), schema)
    return add_shares(row[0] for row in counted.collect())


def _surveyed(detector: Detector, task: Task, batches: Iterable[ArrowBatch]) -> Iterator[pl.DataFrame]:
    yield pl.DataFrame({_FOUND: [survey_share(batches, detector, task.reader())]})


def _with_keys(task: Task, batches: Iterable[ArrowBatch]) -> Iterator[pl.DataFrame]:
    """The rows that can be used, with their moment, and the key that each group deals them out by."""
    pieces, form = task.begin(), task.reading.time_form(task.plan.schema)
    for batch in map(frame_of, batches):
        kept, keys = pieces.keys_of(batch)
        rows = batch.filter(kept)
        at = moments(rows[task.plan.schema.time], task.plan.schema.time, form)
        yield rows.with_columns(at.alias(_AT), *(pl.Series(_key_name(by), bits) for by, bits in keys.items()))


def _keyed_schema(rows: DataFrame, task: Task) -> StructType:
    names = [_AT, *map(_key_name, task.plan.compiled.names)]
    return StructType([*rows.schema.fields, *(StructField(name, LongType()) for name in names)])


def _passes(rows: DataFrame, task: Task, shares: int) -> DataFrame:
    """A pass for each group of features, the last of which gives the features."""
    *groups, last = task.plan.compiled.names or (None,)
    features = StructType([
        StructField(task.plan.schema.id, StringType()),
        *(StructField(name, DoubleType()) for name in task.plan.names),
    ])  # fmt: skip
    store = MemoryStore(task.plan)
    for by in groups:
        made = [StructField(known_name(n), LongType()) for n in store.written_by(by).tolist()]
        schema = StructType([*rows.schema.fields, *made])
        rows = _mapped(_dealt(rows, by, shares), partial(_run_pass, pass_of, by, task), schema)
    if last is None:
        return _mapped(rows, partial(_run_all, task), features)
    return _mapped(_dealt(rows, last, shares), partial(_run_pass, last_pass_of, last, task), features)


def _dealt(rows: DataFrame, by: str, shares: int) -> DataFrame:
    """All rows of a key in one share, in the order of time; those without one anywhere."""
    key = sql.col(_quoted(_key_name(by)))
    dealt = rows.repartition(shares, sql.when(key == 0, sql.col(_quoted(NUMBER))).otherwise(key))
    return dealt.sortWithinPartitions(_quoted(_AT), _quoted(NUMBER))


def _run_pass(one_pass: Any, by: str, task: Task, batches: Iterable[ArrowBatch]) -> Iterator[pl.DataFrame]:
    frames: Iterator[pl.DataFrame] = one_pass(by, batches, task.begin())
    return frames


def _run_all(task: Task, batches: Iterable[ArrowBatch]) -> Iterator[pl.DataFrame]:
    return features_of(batches, task.begin())


def _mapped(rows: DataFrame, change: Any, schema: StructType) -> DataFrame:
    """The rows after a function from an iterator of batches to an iterator of frames."""
    return rows.mapInArrow(partial(_in_arrow, change, schema), schema)


def _in_arrow(change: Any, schema: StructType, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    from pyspark.sql.pandas.types import to_arrow_schema

    wanted = to_arrow_schema(schema)
    for frame in change(batches):
        yield from frame.to_arrow(compat_level=pl.CompatLevel.oldest()).select(wanted.names).cast(wanted).to_batches()


def _check_ids(rows: DataFrame, name: str, usable: int) -> None:
    if name not in rows.columns:
        return
    ids = rows.select(sql.coalesce(sql.col(_quoted(name)).cast("string"), sql.col(_quoted(NUMBER)).cast("string")))
    if ids.distinct().count() < usable:
        raise DataProblem(
            f"{name} has the same value twice: which row counts is only known of a history that is read as a whole; "
            "leave out --engine spark"
        )


def _write(features: DataFrame, out: Path) -> None:
    """A folder of Parquet files that appears when it is whole, durable on this machine's disk."""
    draft = out.absolute().with_name(f".{out.name}.{token_hex(4)}")
    try:
        features.write.parquet(str(draft))
        for one in draft.iterdir():
            if one.suffix == ".crc":
                one.unlink()
            else:
                _sync(one)
        sync_folder(draft)
        draft.rename(out)
        sync_folder(out.absolute().parent)
    except OSError as error:
        raise DataProblem(f"{out} cannot be written: {error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key_name(by: str) -> str:
    return f"#key {by}"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
