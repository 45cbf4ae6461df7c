"""Stamps: the columns of a history that was exported from a log, which say in which order its events came in there.

No field can be called so. A file without them is in the order of time.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.errors import DataProblem
from sentinel.events import cells
from sentinel.events.card_numbers import quoted
from sentinel.events.tables import Column

POSITION = "log.position"
"""Where the log has the transaction or the context event; null for what it does not have."""

RECEIVED = "log.received_us"
"""When it was received there, microseconds since 1970."""

TOLD = "log.told"
"""What features were told about the transaction, oldest first: `position:received_us:label`, with `;` between."""

PART = "log.part"
"""Which part of which log the file has, in every row that comes from there: `log_id:begin:end`, as positions."""

WEIGHT = "log.weight"
"""For how many transactions a row stands, 0 where others stand for it; null where nothing is known of it. No stamp: it
is read where a file has it, with or without the others."""

MOST_WEIGHT = 1_000_000
STAMPS = (POSITION, RECEIVED, TOLD, PART)
EVENT_STAMPS = (POSITION, RECEIVED)
"""All of a file of transactions, and those of a file of context events: without one of them the others say nothing."""


def stamps_of(present: Sequence[str], stamps: Sequence[str] = STAMPS) -> list[str]:
    """The stamps, where a file has all of them among its columns."""
    return list(stamps) if set(stamps) <= set(present) else []


def of_log(present: Sequence[str]) -> list[str]:
    """The columns of an export that are read beside the fields, among those that a file has."""
    return stamps_of(present) + [WEIGHT] * (WEIGHT in present)


def weights_in(columns: Mapping[str, Column]) -> Iterator[pl.Series]:
    """The weights among some columns, as Float64. Raises DataProblem for what is none."""
    if WEIGHT in columns:
        found, wrong = cells.numbers(columns[WEIGHT], WEIGHT)
        if wrong.any() or (found < 0).any() or (found > MOST_WEIGHT).any():
            raise DataProblem(
                f"{WEIGHT} has what is no number from 0 to {MOST_WEIGHT:,}; `sentinel history export` did not write it"
            )
        yield found.alias(WEIGHT)


def stamps_in(columns: Mapping[str, Column]) -> Iterator[pl.Series]:
    """The stamps among some columns: positions and moments as Int64, the rest as text; null for what is neither."""
    for name in STAMPS:
        if name in columns:
            values = cells.texts(columns[name], name, takes_booleans=False).values
            values = values.set(values == "", None)
            yield (values.cast(pl.Int64, strict=False) if name in EVENT_STAMPS else values).alias(name)


class LogPart(NamedTuple):
    """The entries of a log from position `begin` on and before `end`."""

    log_id: str
    begin: int
    end: int

    def __str__(self) -> str:
        return f"{self.log_id}:{self.begin}:{self.end}"


class ToldOutcomes(NamedTuple):
    """What features were told: the row of the transaction, and position, moment and label of each outcome (n,)."""

    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    received_us: NDArray[np.int64]
    labels: NDArray[np.int8]


def without_stamps(frame: pl.DataFrame, time: str) -> pl.DataFrame:
    """The rows without their place in a log, in the order of this column: as if they had come from anywhere."""
    return frame.drop(STAMPS, strict=False).sort(time, maintain_order=True)


def told_text(told: Sequence[tuple[int, int, int]]) -> str | None:
    """The cell of `TOLD` for outcomes as (position, received_us, label), None for none.

    >>> told_text([(7, 1_700_000_000_000_000, 1), (9, 1_700_000_000_000_001, 0)])
    '7:1700000000000000:1;9:1700000000000001:0'
    """
    return ";".join(f"{position}:{received_us}:{label}" for position, received_us, label in told) or None


def told_in(column: pl.Series) -> ToldOutcomes:
    """What the cells of `TOLD` say, in the order of the rows. Raises DataProblem for a cell of another form."""
    rows: list[int] = []
    numbers: list[tuple[int, int, int]] = []
    for row, cell in enumerate(column):
        for one in cell.split(";") if cell else ():
            numbers.append(_numbers_of(one))
            rows.append(row)
    table = np.array(numbers, np.int64).reshape(-1, 3)
    return ToldOutcomes(np.array(rows, np.int64), table[:, 0], table[:, 1], table[:, 2].astype(np.int8))


def _numbers_of(text: str) -> tuple[int, int, int]:
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts) or parts[2] not in ("0", "1"):
        raise DataProblem(f"{TOLD} holds {quoted(text, 60)}, which `sentinel history export` did not write")
    return int(parts[0]), int(parts[1]), int(parts[2])


def part_of(frame: pl.DataFrame) -> LogPart | None:
    """The part of a log that a history has, None where it comes from none.

    Raises DataProblem for the parts of several logs: their orders cannot be compared.
    """
    if PART not in frame.columns or (named := frame[PART].drop_nulls().unique().sort()).is_empty():
        return None
    parts = [_part_of(text) for text in named]
    if len({part.log_id for part in parts}) > 1:
        raise DataProblem("the history has parts of several logs; train on the export of one, with the rest as --with")
    return LogPart(parts[0].log_id, min(part.begin for part in parts), max(part.end for part in parts))


def _part_of(text: str) -> LogPart:
    log_id, *ends = text.rsplit(":", 2)
    if len(ends) != 2 or not all(end.isascii() and end.isdecimal() for end in ends):
        raise DataProblem(f"{PART} holds {quoted(text, 60)}, which `sentinel history export` did not write")
    return LogPart(log_id, int(ends[0]), int(ends[1]))
