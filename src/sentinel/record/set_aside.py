"""What is whole in the log and does not fit the schema: another version accepted it. It is named, and stops nothing."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from sentinel.errors import StorageProblem
from sentinel.events.card_numbers import masked
from sentinel.events.context import Context
from sentinel.events.schema import Misfit, Restored, Schema
from sentinel.events.wire import Transaction
from sentinel.record.entries import ContextEvents, Decided, decided_in
from sentinel.record.log import Kind, Record

FILE = "set-aside.jsonl"
MOST = 1_000
"""So many are named, and no more."""

_LONGEST = 200  # characters of an id or a reason
_encode_lines = msgspec.json.Encoder().encode_lines
_logger = logging.getLogger(__name__)


class Odd(msgspec.Struct, frozen=True):
    """A stored transaction that the schema would not accept now, where it is and why.

    Features count it all the same where nothing but the length of a text is wrong; else they pass it over.
    """

    position: int
    transaction_id: str
    why: str


class Note(Protocol):
    """Who is told of what does not fit."""

    def __call__(self, found: Sequence[Odd]) -> None:
        """Take note of these; the same ones may come again."""


def warn(found: Sequence[Odd]) -> None:
    """Write them to the log of messages."""
    for one in found:
        _logger.warning(
            "the transaction %r at position %d of the log does not fit the schema (%s); it is set aside",
            one.transaction_id, one.position, one.why,
        )  # fmt: skip


class SetAside:
    """What was ever found in a log, in a file beside it: the next start need not find it again.

    Use it from the process that owns the log; `named_in` reads the file from any.
    """

    def __init__(self, log: Path) -> None:
        self._path = log / FILE
        self._known = {one.position for one in named_in(log)}
        if not self._known:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)  # it may have been cut off

    def note(self, found: Sequence[Odd]) -> None:
        """Take note of these."""
        new = [one for one in found if one.position not in self._known][: MOST - len(self._known)]
        if new:
            warn(new[:3])
            self._known.update(one.position for one in new)
            with contextlib.suppress(OSError), self._path.open("ab") as file:  # without it they are found again
                file.write(_encode_lines(new))


def named_in(log: Path, first: int = 0) -> list[Odd]:
    """What was found in the log of a folder, from position `first` on; at most `MOST` are named."""
    try:
        found = msgspec.json.Decoder(Odd).decode_lines((log / FILE).read_bytes())
    except (OSError, msgspec.MsgspecError):  # not there, or cut off
        return []
    return sorted((one for one in found if one.position >= first), key=lambda one: one.position)


def restored(schema: Schema, record: Record, decided: Decided | None = None) -> tuple[Restored, list[Odd]]:
    """The transactions of a record of decisions that can be read, and those that are odd."""
    decided = decided_in(record) if decided is None else decided
    found = schema.restore_fitting(decided.contents)
    return found, [_odd(record, decided, misfit) for misfit in found.misfits]


def restored_context(
    context: Context, record: Record, events: ContextEvents
) -> tuple[Sequence[Transaction], list[Odd]]:
    """The context events of a record that can be read and are of a declared kind, and those that are odd."""
    found = context.restore(events.contents)
    return found.transactions, [_odd(record, events, misfit) for misfit in found.misfits]


def _odd(record: Record, decided: Decided | ContextEvents, misfit: Misfit) -> Odd:
    name = masked(decided.ids[misfit.place])
    return Odd(record.position + misfit.place, name[:_LONGEST], masked(misfit.why)[:_LONGEST])


def odd_in(records: Sequence[Record], schemas: Mapping[str, Schema]) -> Iterator[Odd]:
    """The odd transactions among some records, by the schemas there are by their ids; others are not looked at."""
    for record in records:
        if record.kind == Kind.DECIDED:
            with contextlib.suppress(StorageProblem):
                decided = decided_in(record)
                if decided.schema_id in schemas:
                    yield from restored(schemas[decided.schema_id], record, decided)[1]
