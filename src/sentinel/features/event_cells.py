"""One event as a row of eight-byte cells: what the kernel reads of it, and what is known of it so far.

An engine that keeps profiles hands an event from the keeper of one key to the keeper of the next: as bytes. The kernel
reads and writes the same memory, through the views that are made here once.
"""

import operator
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import (
    LABEL_UNKNOWN,
    MISSING,
    NO_TEXT,
    TRANSACTION,
    EventColumns,
    Outcome,
    columns_of_events,
    hash_text,
)
from sentinel.events.times import duration_us
from sentinel.events.wire import Transaction
from sentinel.features.plan import FeaturePlan
from sentinel.features.rows import fill_rows
from sentinel.features.store import MemoryStore

_HEAD = 7  # cells: happened, counted, received, id, kind, label, late and known
_RECEIVED = 2
_NAN = float("nan")


class EventCells:
    """The cells of one event at a time of a plan; every array has one row, and keeps its place when another is read.

    `late` is set once a newer event of one of its keys had come before, `known` once an outcome has found its
    transaction. One thread may use it at a time.
    """

    def __init__(self, plan: FeaturePlan, store: MemoryStore) -> None:
        """`store` is an empty one of the plan: it knows the derived columns."""
        schema, self._compiled = plan.schema, store.compiled
        self._store, self._columns_of = store, columns_of_events(schema)
        self._max_ahead_us = duration_us(schema.max_ahead)
        exact, texts, _ = store.columns_of(self._columns_of((), 0))
        self._n_exact, self._n_texts, self._n_plain = exact.shape[1], texts.shape[1], len(schema.plain_numbers)
        ends = np.cumsum([_HEAD, self._n_exact, self._n_texts, self._n_plain, self._compiled.width]).tolist()
        self.cells = np.zeros(ends[-1], np.int64)
        parts = [self.cells[begin:end].reshape(1, -1) for begin, end in zip([0, *ends], ends, strict=False)]
        self.time_us, self.counted_us, self.received_us = (self.cells[n : n + 1] for n in range(3))
        self.ids: NDArray[np.uint64] = self.cells[3:4].view(np.uint64)
        self.kinds: NDArray[np.uint8] = self.cells[4:5].view(np.uint8)[:1]
        self.labels: NDArray[np.int8] = self.cells[5:6].view(np.int8)[:1]
        marks: NDArray[np.uint8] = self.cells[6:7].view(np.uint8)
        self.late, self.known = marks[:1], marks[1:2]
        self.exact, self.texts = parts[1], parts[2].view(np.uint64)
        self.plain, self.out = parts[3].view(np.float64), parts[4].view(np.float64)
        self.former = np.empty((0, self._n_texts), np.uint64)
        self._packed = struct.Struct(f"<3qQqqq{self._n_exact}q{self._n_texts}Q{self._n_plain}d{self._compiled.width}d")
        self._transaction = schema.wire_type
        self._values_of: Callable[[Any], tuple[Any, ...]] = operator.attrgetter(*schema.kept)
        self._scales = [10.0**digits for digits in schema.whole_numbers.values()]
        self._ends = 2 + len(self._scales), 2 + len(self._scales) + self._n_plain
        self._unknown = (_NAN,) * self._compiled.width

    def read(self, packed: bytes) -> None:
        """Take over an event."""
        self.cells[:] = np.frombuffer(packed, np.int64)

    def packed(self) -> bytes:
        """The event at hand."""
        return self.cells.tobytes()

    @property
    def received(self) -> int:
        """When the event at hand was received, in microseconds since 1970."""
        return int(self.cells[_RECEIVED])

    @property
    def is_transaction(self) -> bool:
        """Whether the event at hand is a transaction: it has features."""
        return int(self.kinds[0]) == TRANSACTION

    def key_hash(self, packed: bytes, column: int) -> int:
        """The text column of a packed event, without reading the rest of it."""
        return int.from_bytes(packed[8 * (_HEAD + self._n_exact + column) :][:8], "little")

    def id_hash(self, packed: bytes) -> int:
        """The hash of the id of a packed event's transaction."""
        return int.from_bytes(packed[24:32], "little")

    def text_hashes(self, packed: bytes) -> bytes:
        """The text columns of a packed event, keys among them: what an outcome needs to find it by."""
        begin = 8 * (_HEAD + self._n_exact)
        return packed[begin : begin + 8 * self._n_texts]

    def with_text_hashes(self, packed: bytes, texts: bytes) -> bytes:
        """A packed event with other text columns."""
        begin = 8 * (_HEAD + self._n_exact)
        return packed[:begin] + texts + packed[begin + len(texts) :]

    def pack(self, event: Transaction | Outcome, received_us: int) -> bytes:
        """An event that was read from outside, with nothing known of it yet."""
        if self._compiled.derived is not None or type(event) is not self._transaction:
            return self.pack_columns(self._columns_of([event], received_us))
        values, (first_plain, first_text) = self._values_of(event), self._ends
        time_us: int = values[1]
        exact = [
            MISSING if value is None else round(float(value) * scale)
            for value, scale in zip(values[2:first_plain], self._scales, strict=True)
        ]
        texts = [NO_TEXT if value is None else hash_text(value) for value in values[first_text:]]
        plain = [_NAN if value is None else float(value) for value in values[first_plain:first_text]]
        return self._packed.pack(
            time_us, min(time_us, received_us + self._max_ahead_us), received_us, hash_text(values[0]), TRANSACTION,
            LABEL_UNKNOWN, 0, *exact, *texts, *plain, *self._unknown,
        )  # fmt: skip

    def pack_columns(self, one: EventColumns) -> bytes:
        """The same of columns with one row."""
        exact, texts, _ = self._store.columns_of(one)
        time_us, received_us = int(one.time_us[0]), int(one.received_us[0])
        return self._packed.pack(
            time_us, min(time_us, received_us + self._max_ahead_us), received_us, int(one.ids[0]), int(one.kinds[0]),
            int(one.labels[0]), 0, *exact[0].tolist(), *texts[0].tolist(), *one.plain[0].tolist(), *self._unknown,
        )  # fmt: skip

    def features(self) -> NDArray[np.float64]:
        """The features (1, features) of the transaction at hand, once every group has written what it knows."""
        fill_rows(
            self._compiled.rows, self.kinds, self.time_us, self.exact, self.plain, self.texts, self.former, self.out
        )
        return self.out[:, : self._compiled.outputs]
