"""Tables beside the transactions: what a team knows of a card, a BIN or an address, looked up as one is taken in."""

from typing import Literal, TypeAlias, get_args

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.card_numbers import quoted

ColumnType: TypeAlias = Literal["amount", "category", "number", "time"]
Ranges: TypeAlias = Literal["numbers", "digits", "networks"]

COLUMN_TYPES: dict[str, type] = {"amount": float, "category": str, "number": float, "time": int}
"""What a column is inside, by its type: a time is microseconds since 1970."""

MOST_TABLES, MOST_COLUMNS = 16, 64
TABLE_FORM = r"[a-z][a-z0-9_]{0,31}"
COLUMN_FORM = r"[A-Za-z][A-Za-z0-9_]{0,63}"
VALID_FROM, FIRST, LAST = "valid_from", "first", "last"
"""Fields of every row: since when it holds, and the two ends of a range."""


class LookupTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A table that is looked up by a field of the transaction, as of the time of the transaction.

    - `by`: the text that it is looked up by: a key, a category, or what is taken from one (`card_id_first6`).
    - `columns`: what it says, each with its type: `amount` (an exact number with as many decimals as the amount),
      `number`, `category`, or `time`. Each is a further field of the transaction, called `<table>_<column>`.
    - `ranges`: rows are ranges instead of single values: of whole `numbers`, of texts by the `digits` that they begin
      with (BINs), or of IP addresses (`networks`). At no moment two of them overlap.
    - `max_rows`, `max_bytes`: how much may be kept, former versions of rows too; bytes are those of keys and values.
    """

    by: str
    columns: dict[str, ColumnType]
    ranges: Ranges | None = None
    max_rows: int = 1_000_000
    max_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if not 1 <= len(self.columns) <= MOST_COLUMNS:
            raise InvalidDefinition(
                f"a table by {quoted(self.by)} has {len(self.columns)} columns; 1 to {MOST_COLUMNS} are possible"
            )
        for name, kind in self.columns.items():
            if kind not in get_args(ColumnType):
                raise InvalidDefinition(
                    f"a table by {quoted(self.by)}: {quoted(name)} is {quoted(str(kind))}; write one of "
                    f"{', '.join(get_args(ColumnType))}"
                )
        if self.ranges is not None and self.ranges not in get_args(Ranges):
            raise InvalidDefinition(
                f"a table by {quoted(self.by)}: ranges is {quoted(str(self.ranges))}; write one of "
                f"{', '.join(get_args(Ranges))}"
            )
        if self.max_rows < 1 or self.max_bytes < 1:
            raise InvalidDefinition(f"a table by {quoted(self.by)}: max_rows and max_bytes are at least 1")
        # in one order: a schema that was written down may come back in another one
        msgspec.structs.force_setattr(self, "columns", dict(sorted(self.columns.items())))

    @property
    def kind(self) -> str:
        """How rows are found: `exact`, or by the ranges of this kind."""
        return self.ranges or "exact"
