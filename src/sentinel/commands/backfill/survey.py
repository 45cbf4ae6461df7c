"""What has to be known of a whole history before its first row: what labels mean, and which categories have a code."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from sentinel.commands.backfill.parquet_rows import ParquetRows
from sentinel.detector import Detector
from sentinel.events.cells import label_words
from sentinel.events.files import RowReader
from sentinel.events.labels import meanings
from sentinel.events.reading import Reading
from sentinel.train.rows.vocabulary import COUNT, VALUE, counts_of, vocabulary_of


class Survey(NamedTuple):
    """What the words of the label mean, and the vocabulary of the plan."""

    meanings: dict[str, int | None]
    vocabulary: dict[str, tuple[str, ...]]


def survey(
    detector: Detector, reading: Reading, rows: ParquetRows, fields: Mapping[str, str], reader: RowReader
) -> Survey:
    """Go through the history once: through its label alone, where no feature is of a category.

    Where a category is, rows that cannot be used are left out by `reader`, which nobody else uses.
    """
    schema = detector.schema
    words: dict[str, int] = {}
    counted: dict[str, list[pl.DataFrame]] = {field: [] for field in detector.categorical}
    if counted:
        for batch in rows.as_they_stand():
            frame = reader.take_numbered(batch.columns, batch.numbers).frame
            for field, counts in counted.items():
                counts[:] = [_added([*counts, counts_of(frame[field])])]
            if schema.label in frame.columns:
                _count(words, frame[schema.label])
    elif schema.label in fields:
        for column in rows.column(schema.label):
            _count(words, label_words(column, schema.label))
    known = meanings(words, schema.label, {**schema.labels, **reading.labels}) if words else {}
    return Survey(known, vocabulary_of(detector, {field: counts[0] for field, counts in counted.items()}))


def _count(words: dict[str, int], column: pl.Series) -> None:
    for word, n in column.drop_nulls().alias("word").value_counts().iter_rows():
        words[word] = words.get(word, 0) + n


def _added(counts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(counts).group_by(VALUE).agg(pl.col(COUNT).sum())
