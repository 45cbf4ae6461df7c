"""Decisions that were made together, by columns: most of what is stored of one is the same for the whole batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sentinel.events.log import hash_texts
from sentinel.record.journal_reader import DECISION_COLUMNS, DecisionRow

Column: TypeAlias = tuple[bool, Any]
"""Whether all rows have the same value, and that value or the values of all of them."""

_ID = DECISION_COLUMNS.index("transaction_id")
_MAY_BE_SHARED = (
    "review_threshold", "block_threshold", "model_version", "detector", "variant", "experiment", "circuit", "degraded",
    "batch_size", "decided_at_us",
)  # fmt: skip


class DecisionBatch(NamedTuple):
    """So many rows of the table `decisions`; the columns are the fields of a `DecisionRow`, in their order."""

    size: int
    columns: tuple[Column, ...]
    hashes: NDArray[np.uint64]
    """Of the transaction ids."""

    @classmethod
    def of_columns(cls, size: int, columns: tuple[Column, ...]) -> "DecisionBatch":
        """The same, with the hashes of its ids."""
        return cls(size, columns, hash_texts(columns[_ID][1]))

    @classmethod
    def of_rows(cls, rows: Sequence[DecisionRow]) -> "DecisionBatch":
        """Rows that were made one by one."""
        if not rows:
            return NO_DECISIONS
        given = zip(DECISION_COLUMNS, zip(*rows, strict=True), strict=True)
        columns = tuple(_column(values, may_be_shared=name in _MAY_BE_SHARED) for name, values in given)
        return cls.of_columns(len(rows), columns)

    def row(self, n: int) -> DecisionRow:
        """One of them."""
        return row_of(self.columns, n)

    def rows(self) -> list[DecisionRow]:
        """All of them."""
        columns = ((value,) * self.size if same else value for same, value in self.columns)
        return list(map(DecisionRow._make, zip(*columns, strict=True)))

    def values(self, name: str) -> Sequence[Any]:
        """A column, with a value for each row."""
        same, value = self.columns[DECISION_COLUMNS.index(name)]
        return (value,) * self.size if same else value


def row_of(columns: Sequence[Column], n: int) -> DecisionRow:
    """Row n of these columns."""
    return DecisionRow._make(value if same else value[n] for same, value in columns)


def _column(values: tuple[Any, ...], *, may_be_shared: bool) -> Column:
    same = may_be_shared and values.count(values[0]) == len(values)
    return (True, values[0]) if same else (False, values)


NO_DECISIONS = DecisionBatch(0, tuple((False, ()) for _ in DECISION_COLUMNS), np.empty(0, np.uint64))
