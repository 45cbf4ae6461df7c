"""What a file says of a table."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sentinel.events.reference_tables.versions import Row
from sentinel.events.times import EARLIEST_US


@dataclass(frozen=True, slots=True)
class TableFile:
    """The rows of a table's file, one of each key and moment, by their moments; removals come first.

    `is_dated` says whether the file has a moment for each row. `repeated` rows had the key and moment of a later one,
    which counts. `skipped` counts the rows left out, by reason, and `examples` shows the first of them.
    """

    rows: Sequence[Row]
    is_dated: bool
    repeated: int
    skipped: dict[str, int]
    examples: dict[str, str]

    def sha256(self) -> str:
        """The fingerprint of what the file says, whatever its format and the order of its rows."""
        digest = hashlib.sha256()
        for row in sorted(self.rows):
            digest.update(f"{row.key}\n{row.valid_from_us}\n".encode() + row.values + b"\n")
        return digest.hexdigest()

    def moved(self, by_us: int) -> "TableFile":
        """The same with its moments moved, but for those that are the beginning of time."""
        rows = [
            row._replace(valid_from_us=row.valid_from_us + by_us) if row.valid_from_us > EARLIEST_US else row
            for row in self.rows
        ]
        return replace(self, rows=rows)
