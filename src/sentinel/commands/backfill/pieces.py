"""From batches of rows to frames of features, one after the other: memory holds the feature state and one batch."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.commands.backfill.parquet_rows import Batch
from sentinel.detector import Detector
from sentinel.events.cells import mapped
from sentinel.events.columns import NO_TEXT, EventColumns, concatenate, hash_text
from sentinel.events.files import RowReader
from sentinel.events.replay import columns_of_piece, text_hashes, with_outcomes
from sentinel.events.schema import Schema
from sentinel.features.store import MemoryStore


class Pieces:
    """Turns batches of a history, in the order of time, into their features.

    In whatever batches a history comes, the rows are the same to the bit. `meanings` says what each word of the label
    is. `told` are outcomes that no transaction has come after yet.
    """

    def __init__(
        self, detector: Detector, reader: RowReader, store: MemoryStore, meanings: Mapping[str, int | None]
    ) -> None:
        self.reader = reader
        self.store = store
        self.told: EventColumns | None = None
        self.words: dict[str, int] = {}
        self._meanings = meanings
        self._detector = detector

    @property
    def schema(self) -> Schema:
        """The fields of the rows."""
        return self._detector.schema

    def labels(self) -> tuple[int, int]:
        """How many rows have had a label, and how many of them were fraud."""
        meant = [(self._meanings[word], n) for word, n in self.words.items()]
        return sum(n for label, n in meant if label is not None), sum(n for label, n in meant if label == 1)

    def take(self, batch: Batch) -> pl.DataFrame:
        """The id and the features of each row that can be used; NaN is missing."""
        schema = self._detector.schema
        taken = self.reader.take_numbered(batch.columns, batch.numbers)
        frame = self._labelled(taken.frame)
        texts = {name: self._hashes(name, batch, taken.kept, frame) for name in schema.texts}
        has_outcomes = schema.outcome_time is not None and schema.outcome_time in frame.columns
        ids = text_hashes(frame[schema.id]) if has_outcomes else np.full(len(frame), NO_TEXT, np.uint64)
        events, told = columns_of_piece(schema, frame, ids, texts, self._detector.trusts)
        told = told if self.told is None else concatenate([self.told, told])
        events, self.told = with_outcomes(events, told)
        rows = self.store.advance(events).rows
        found = {schema.id: frame[schema.id]}
        for i, name in enumerate(self.store.plan.names):
            found[name] = pl.Series(name, np.ascontiguousarray(rows[:, i]))
        return pl.DataFrame(found)

    def _labelled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with its words of the label as what they mean, which are counted."""
        label = self._detector.schema.label
        if label not in frame.columns:
            return frame
        for word, n in frame[label].drop_nulls().alias("word").value_counts().iter_rows():
            self.words[word] = self.words.get(word, 0) + n
        meant = frame[label].replace_strict(self._meanings, default=None, return_dtype=pl.Int8)
        return frame.with_columns(meant.alias(label))

    def _hashes(self, name: str, batch: Batch, kept: pl.Series, frame: pl.DataFrame) -> NDArray[np.uint64]:
        """The hashes of a text; whole numbers are hashed as they are written, without being written."""
        raw = batch.columns.get(name)
        if raw is None or not raw.dtype.is_integer() or name in self._detector.schema.hidden:
            return text_hashes(frame[name])
        return mapped(raw.filter(kept), _hash_of_number, pl.UInt64).fill_null(NO_TEXT).to_numpy()


@lru_cache(maxsize=1 << 17)
def _hash_of_number(number: int) -> int:
    """The same keys come in every batch."""
    return hash_text(str(number))
