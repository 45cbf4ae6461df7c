"""Which transactions the journal holds: the newest in memory, all others in a table that is filled in order.

Ids come in no order. A unique index over them takes up a page of 4 KiB for every transaction, which costs four times
as much as all the rest of storing it. Here some hundred thousand are gathered first, and go to the table side by side.
A sieve in memory knows most of those that the table does not hold, so that it is not asked for what is new.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from sentinel.events.log import hash_texts
from sentinel.features.jit import entry
from sentinel.record.id_table import IdTable

GENERATION = 1 << 17
"""Transactions that are gathered before they begin to go to the table."""

_SLOTS = 2 * GENERATION
_PACE = 4  # slots that are emptied for every new transaction: a generation is gone before the next one is complete
_AT_ONCE = 256  # new transactions after which some of the last generation moves: neighbours together
_ROWS = 64
_INSERT = "INSERT OR IGNORE INTO decision_ids (id_hash, seq) VALUES (?, ?)"
_INSERT_ROWS = _INSERT + ", (?, ?)" * (_ROWS - 1)
_LEAST_BITS = 1 << 27
_BITS_FOR_ONE = 8
_PAGE = 10_000
_DONE = "INSERT INTO decision_ids_upto (seq) VALUES (?)"
_log = logging.getLogger(__name__)


class _Sieve:
    """One bit for every hash that begins alike, set where the table holds one of them."""

    def __init__(self, most: int) -> None:
        self._bits = np.zeros(max(1 << (_BITS_FOR_ONE * most).bit_length(), _LEAST_BITS) // 8, np.uint8)
        self._bits.fill(0)  # has the system hand over the memory now, or the first to use it would wait 0.05 s
        self._shift = np.uint64(65 - (8 * len(self._bits)).bit_length())
        self.is_complete = most == 0

    def add(self, keys: NDArray[np.uint64]) -> None:
        """These are in the table, or will be."""
        _mark(self._bits, self._shift, keys)

    def left(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Those that the table may hold."""
        if not self.is_complete:
            return keys
        held = np.zeros(len(keys), np.bool_)
        _look(self._bits, self._shift, keys, held)
        return keys[held]


class IdIndex:
    """The ids of the stored decisions. Its writer calls `move` within a transaction, and `note` when that is durable.

    `seqs_of` may be asked from any thread, with a connection of that thread.
    """

    def __init__(self, writer: sqlite3.Connection, connect: Callable[[], sqlite3.Connection]) -> None:
        """Read what is not in the table yet; what is whole generations goes there now. `connect` is for one thread."""
        self._leaving: IdTable | None = None
        self._begin = 0
        self._waiting = 0
        done = writer.execute("SELECT max(seq) FROM decision_ids_upto").fetchone()[0] or 0
        while True:
            rows = writer.execute(
                "SELECT seq, transaction_id FROM decisions WHERE seq > ? ORDER BY seq LIMIT ?", (done, GENERATION)
            ).fetchall()
            self._active = IdTable(_SLOTS)
            self._add(hash_texts([row[1] for row in rows]), [row[0] for row in rows])
            if len(rows) < GENERATION:
                break
            done = self._active.newest
            _write(self._active, writer, 0, len(self._active.hashes))
            writer.execute(_DONE, (done,))
            writer.commit()
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # or the log would hold the table many times
            _log.info("the ids of the decisions up to number %d are in their table", done)
        self._sieve = _Sieve(done)
        self._closing = threading.Event()
        self._filling = threading.Thread(target=self._fill_sieve, args=(connect,), name="sieve", daemon=True)
        if not self._sieve.is_complete:
            self._filling.start()

    def close(self) -> None:
        """Stop reading the table."""
        self._closing.set()
        if self._filling.is_alive():
            self._filling.join()

    def _fill_sieve(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Read the whole table once, in pages that hold no one up; until then it is asked for everything."""
        sql = "SELECT id_hash FROM decision_ids WHERE id_hash >= ? ORDER BY id_hash LIMIT ?"
        begin, end = -(1 << 63), 1 << 63
        try:
            with contextlib.closing(connect()) as reader:
                while begin < end and not self._closing.is_set():
                    page = np.array(reader.execute(sql, (begin, _PAGE)).fetchall(), np.int64).reshape(-1)
                    self._sieve.add(page.view(np.uint64))
                    begin = int(page[-1]) + 1 if len(page) else end
            self._sieve.is_complete = begin == end
        except sqlite3.Error as error:
            _log.warning("the table of ids is asked for every transaction, as it could not be read at once: %s", error)

    def seqs_of(self, reader: sqlite3.Connection, keys: NDArray[np.uint64]) -> list[int]:
        """The numbers of the transactions whose ids have these hashes."""
        found = set(self._active.numbers_of(keys))  # in this order, so that nothing is missed on its way
        leaving = self._leaving
        if leaving is not None:
            found.update(leaving.numbers_of(keys))
        older = self._sieve.left(keys)
        if len(older):
            marks = ",".join("?" * len(older))
            sql = f"SELECT seq FROM decision_ids WHERE id_hash IN ({marks})"  # noqa: S608
            found.update(chain.from_iterable(reader.execute(sql, older.view(np.int64).tolist())))
        return sorted(found)

    def move(self, writer: sqlite3.Connection, new: int) -> int:
        """Write some of the last generation to the table, as `new` transactions are stored; `note` takes the result."""
        if self._leaving is None or self._waiting + new < _AT_ONCE:
            return self._begin
        end = min(self._begin + _PACE * (self._waiting + new), len(self._leaving.hashes))
        _write(self._leaving, writer, self._begin, end)
        if end == len(self._leaving.hashes):
            writer.execute(_DONE, (self._leaving.newest,))
        return end

    def note(self, keys: NDArray[np.uint64], seqs: Sequence[int], moved: int) -> None:
        """These are durable now, and so is what `move` has moved."""
        if self._leaving is not None:
            self._waiting = self._waiting + len(seqs) if moved == self._begin else 0
            self._begin = moved
            if moved == len(self._leaving.hashes):
                self._leaving = None
        self._add(keys, seqs)
        if self._active.count >= GENERATION and self._leaving is None:
            full, fresh = self._active, IdTable(_SLOTS)
            self._sieve.add(full.hashes[full.hashes != 0])
            self._begin = self._waiting = 0
            self._leaving = full
            self._active = fresh

    def _add(self, keys: NDArray[np.uint64], seqs: Sequence[int]) -> None:
        self._active = self._active.with_room_for(len(seqs))  # it is full after a huge batch only
        self._active.put(keys, np.array(seqs, np.int64))


def _write(table: IdTable, writer: sqlite3.Connection, begin: int, end: int) -> None:
    """Put what is in these slots into the table of the journal, but for what is there already."""
    used = table.hashes[begin:end] != 0
    pairs = np.column_stack((table.hashes.view(np.int64)[begin:end][used], table.numbers[begin:end][used]))
    flat, step = pairs.ravel().tolist(), 2 * _ROWS
    whole = len(flat) // step * step
    for place in range(0, whole, step):
        writer.execute(_INSERT_ROWS, flat[place : place + step])
    writer.executemany(_INSERT, pairs[whole // 2 :].tolist())


@entry
def _mark(bits: NDArray[np.uint8], shift: np.uint64, keys: NDArray[np.uint64]) -> None:
    for n in range(len(keys)):
        bit = np.int64(keys[n] >> shift)
        bits[bit >> 3] |= np.uint8(1 << (bit & 7))


@entry
def _look(bits: NDArray[np.uint8], shift: np.uint64, keys: NDArray[np.uint64], held: NDArray[np.bool_]) -> None:
    for n in range(len(keys)):
        bit = np.int64(keys[n] >> shift)
        held[n] = (bits[bit >> 3] >> (bit & 7)) & 1
