"""From an iterator of Arrow batches to one of Arrow batches: the features of rows that come in the order of time.

`features_of` is the whole of it where one process sees all rows. Where rows are dealt out by a key, so that a share has
all rows of its keys, in the order of time, each group of features has a pass of its own: `pass_of`, and for the last
one `last_pass_of`. Whichever way a history goes, the features are the same to the bit: those of a key follow from the
events of that key alone, in their order.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.events.cells import mapped
from sentinel.events.columns import NO_TEXT, EventColumns, concatenate, hash_text
from sentinel.events.files import NUMBER, RowReader
from sentinel.events.replay import columns_of_piece, text_hashes, with_outcomes
from sentinel.events.schema import Schema
from sentinel.features.store import MemoryStore


class ArrowBatch(Protocol):
    """A batch of rows of any library that speaks Arrow's C interface.

    A column a field, as the file has it, and NUMBER (Int64), the row's number in the files from 1 on.
    """

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The stream of Arrow that the batch is."""


def features_of(batches: Iterable[ArrowBatch], pieces: "Pieces") -> Iterator[pl.DataFrame]:
    """For each batch the id and the features of the rows that can be used; NaN is missing.

    The rows come in the order of time, those of one moment by their numbers; `pieces` has seen all rows before.
    """
    return (pieces.take(frame_of(batch)) for batch in batches)


def pass_of(by: str, batches: Iterable[ArrowBatch], pieces: "Pieces") -> Iterator[pl.DataFrame]:
    """For each batch its rows that can be used, and what the group `by` knows of each, for `last_pass_of`.

    The same order as for `features_of`, of all rows that have one of some keys of the group.
    """
    return (pieces.take_for(by, frame_of(batch)) for batch in batches)


def last_pass_of(by: str, batches: Iterable[ArrowBatch], pieces: "Pieces") -> Iterator[pl.DataFrame]:
    """What `features_of` gives, of rows that every group but `by` has had a pass over."""
    return (pieces.take_last(by, frame_of(batch)) for batch in batches)


def frame_of(batch: ArrowBatch) -> pl.DataFrame:
    """The batch as a frame; one that is a frame already stays what it is."""
    return batch if isinstance(batch, pl.DataFrame) else pl.DataFrame(batch)


def known_name(column: int) -> str:
    """What a column of the work area is called between two passes: the bits of its numbers, as Int64."""
    return f"#known {column}"


class Progress(NamedTuple):
    """What pieces know beside the feature state: outcomes that no transaction has come after yet, and label words."""

    told: EventColumns | None
    words: dict[str, int]


class _Taken(NamedTuple):
    """Rows of a batch that can be used, their events, and what of the batch they are."""

    frame: pl.DataFrame
    events: EventColumns
    kept: pl.Series


class Pieces:
    """Turns batches of a history, in the order of time, into their features.

    In whatever batches a history comes, the rows are the same to the bit. `meanings` says what each word of the label
    is. `progress` grows with the batches.
    """

    def __init__(self, reader: RowReader, store: MemoryStore, meanings: Mapping[str, int | None]) -> None:
        self.reader = reader
        self.store = store
        self.progress = Progress(None, {})
        self._meanings = meanings
        self._trusts = store.plan.trusted_sources

    @property
    def schema(self) -> Schema:
        """The fields of the rows."""
        return self.store.plan.schema

    def labels(self) -> tuple[int, int]:
        """How many rows have had a label, and how many of them were fraud."""
        meant = [(self._meanings[word], n) for word, n in self.progress.words.items()]
        return sum(n for label, n in meant if label is not None), sum(n for label, n in meant if label == 1)

    def take(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The id and the features of each row that can be used; NaN is missing."""
        taken = self._read(batch)
        return self._features(taken.frame, self.store.advance(taken.events).rows)

    def take_for(self, by: str, batch: pl.DataFrame) -> pl.DataFrame:
        """The rows that can be used, as they came, and what the group `by` knows of each."""
        taken = self._read(batch)
        out = self.store.room_for(taken.events)
        self.store.advance_some([by], taken.events, self.store.columns_of(taken.events), out)
        known = {known_name(n): out[:, n].copy().view(np.int64) for n in self.store.written_by(by).tolist()}
        return batch.filter(taken.kept).with_columns(**{name: pl.Series(bits) for name, bits in known.items()})

    def take_last(self, by: str, batch: pl.DataFrame) -> pl.DataFrame:
        """The id and the features of each row, of which all groups but `by` have said what they know."""
        taken, store = self._read(batch), self.store
        columns, out = store.columns_of(taken.events), store.room_for(taken.events)
        store.advance_some([by], taken.events, columns, out)
        for other in store.groups:
            for n in [] if other == by else store.written_by(other).tolist():
                out[:, n] = batch[known_name(n)].filter(taken.kept).to_numpy().view(np.float64)
        return self._features(taken.frame, store.filled(taken.events, columns, out))

    def keys_of(self, batch: pl.DataFrame) -> tuple[pl.Series, dict[str, NDArray[np.int64]]]:
        """Which rows can be used (n,), and for each group their keys (usable,), as the bits of hashes; 0 is none.

        No feature state is asked or changed.
        """
        taken, _ = self._rows(batch)
        texts = self.store.columns_of(taken.events)[1]
        groups = zip(self.store.groups, self.store.compiled.groups, strict=True)
        return taken.kept, {by: texts[:, group.key].astype(np.uint64).view(np.int64) for by, group in groups}

    def _read(self, batch: pl.DataFrame) -> _Taken:
        """The rows that can be used, with the outcomes that belong before them."""
        taken, told = self._rows(batch)
        before = self.progress.told
        events, told = with_outcomes(taken.events, told if before is None else concatenate([before, told]))
        self.progress = Progress(told, self.progress.words)
        return taken._replace(events=events)

    def _rows(self, batch: pl.DataFrame) -> tuple[_Taken, EventColumns]:
        """The rows that can be used, as events, and the outcomes that they tell."""
        schema = self.schema
        fields = {name: batch[name] for name in batch.columns if not name.startswith("#")}
        frame, kept = self.reader.take_numbered(fields, batch[NUMBER])
        frame = self._labelled(frame)
        texts = {name: self._hashes(name, fields, kept, frame) for name in schema.texts}
        has_outcomes = schema.outcome_time is not None and schema.outcome_time in frame.columns
        ids = text_hashes(frame[schema.id]) if has_outcomes else np.full(len(frame), NO_TEXT, np.uint64)
        events, told = columns_of_piece(schema, frame, ids, texts, self._trusts)
        return _Taken(frame, events, kept), told

    def _features(self, frame: pl.DataFrame, rows: NDArray[np.float64]) -> pl.DataFrame:
        found = {self.schema.id: frame[self.schema.id]}
        for i, name in enumerate(self.store.plan.names):
            found[name] = pl.Series(name, np.ascontiguousarray(rows[:, i]))
        return pl.DataFrame(found)

    def _labelled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with its words of the label as what they mean, which are counted."""
        label = self.schema.label
        if label not in frame.columns:
            return frame
        for word, n in frame[label].drop_nulls().alias("word").value_counts().iter_rows():
            self.progress.words[word] = self.progress.words.get(word, 0) + n
        meant = frame[label].replace_strict(self._meanings, default=None, return_dtype=pl.Int8)
        return frame.with_columns(meant.alias(label))

    def _hashes(
        self, name: str, fields: Mapping[str, pl.Series], kept: pl.Series, frame: pl.DataFrame
    ) -> NDArray[np.uint64]:
        """The hashes of a text; whole numbers are hashed as they are written, without being written."""
        raw = fields.get(name)
        if raw is None or not raw.dtype.is_integer() or name in self.schema.hidden:
            return text_hashes(frame[name])
        return mapped(raw.filter(kept), _hash_of_number, pl.UInt64).fill_null(NO_TEXT).to_numpy()


@lru_cache(maxsize=1 << 17)
def _hash_of_number(number: int) -> int:
    """The same keys come in every batch."""
    return hash_text(str(number))
