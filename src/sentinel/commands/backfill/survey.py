"""What has to be known of a whole history before its first row: what labels mean, and which categories have a code."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from sentinel.commands.backfill.parquet_rows import ParquetRows
from sentinel.commands.backfill.pieces import ArrowBatch, frame_of
from sentinel.detector import Detector
from sentinel.events.cells import label_words
from sentinel.events.files import NUMBER, RowReader
from sentinel.events.labels import meanings
from sentinel.events.reading import Reading
from sentinel.train.rows.vocabulary import COUNT, VALUE, counts_of, vocabulary_of


class Survey(NamedTuple):
    """What the words of the label mean, and the vocabulary of the plan."""

    meanings: dict[str, int | None]
    vocabulary: dict[str, tuple[str, ...]]


class Counts(NamedTuple):
    """How many usable rows have each word as their label; for each categorical field its values, VALUE and COUNT."""

    words: dict[str, int]
    values: dict[str, pl.DataFrame]

    def learned(self, detector: Detector, reading: Reading) -> Survey:
        """What follows from them. Raises DataProblem for words of a label that cannot be told apart."""
        schema = detector.schema
        known = meanings(self.words, schema.label, {**schema.labels, **reading.labels}) if self.words else {}
        return Survey(known, vocabulary_of(detector, self.values))


def survey(
    detector: Detector, reading: Reading, rows: ParquetRows, fields: Mapping[str, str], reader: RowReader
) -> Survey:
    """Go through the history once: through its label alone, where no feature is of a category.

    Where a category is, rows that cannot be used are left out by `reader`, which nobody else uses.
    """
    label = detector.schema.label
    if detector.categorical:
        return counted(rows.as_they_stand(), detector, reader).learned(detector, reading)
    words: dict[str, int] = {}
    for column in rows.column(label) if label in fields else ():
        _count(words, label_words(column, label))
    return Counts(words, {}).learned(detector, reading)


def counted(batches: Iterable[ArrowBatch], detector: Detector, reader: RowReader) -> Counts:
    """The counts of all rows that `reader` finds usable, in whatever order they come."""
    label = detector.schema.label
    found = Counts({}, {field: no_values() for field in detector.categorical})
    for batch in map(frame_of, batches):
        frame = reader.take_numbered(
            {name: batch[name] for name in batch.columns if name != NUMBER}, batch[NUMBER]
        ).frame
        for field, before in found.values.items():
            found.values[field] = added([before, counts_of(frame[field])])
        if label in frame.columns:
            _count(found.words, frame[label])
    return found


def no_values() -> pl.DataFrame:
    """The values of no row."""
    return pl.DataFrame(schema={VALUE: pl.String, COUNT: pl.UInt32})


def added(counts: list[pl.DataFrame]) -> pl.DataFrame:
    """Values that were counted apart, each once."""
    return pl.concat(counts, how="vertical_relaxed").group_by(VALUE).agg(pl.col(COUNT).sum())


def _count(words: dict[str, int], column: pl.Series) -> None:
    for word, n in column.drop_nulls().alias("word").value_counts().iter_rows():
        words[word] = words.get(word, 0) + n
