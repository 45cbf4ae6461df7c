"""The state of the tables: what the log says of them, whichever of them a schema declares now."""

from collections.abc import Sequence

from sentinel.errors import StorageProblem
from sentinel.events.reference_tables.versions import Tables
from sentinel.record.entries import Activation, TableRows, body_of, table_in
from sentinel.record.feature_state import PAGE, activation_of, origin_named
from sentinel.record.log import Kind, Log, LogReader, Record
from sentinel.record.snapshots import Origin, Snapshots

NAME = "tables"
"""What its snapshots are called, and the activation in the log from which on there are rows."""


class TableState:
    """All tables before the entry at `position`. Only a cache of the log: it can be thrown away and loaded again.

    It takes the log from `begin` on. Use it from one thread at a time; `tables` may be read from any.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.position = begin
        """The next entry to take."""

        self.tables = Tables()
        self._saved = begin

    @classmethod
    def of(cls, log: LogReader, snapshots: Snapshots) -> "TableState":
        """The tables as they are by what is durable. Raises StorageProblem when the log lacks what is needed."""
        begin = activation_of(log, NAME)
        state = cls(log.durable if begin is None else begin)
        if begin is not None:
            state.restore(log, snapshots)
            state.follow(log)
        return state

    def restore(self, log: LogReader, snapshots: Snapshots) -> None:
        """The newest snapshot, or no rows at all: the tables before the entry at `position`.

        Raises StorageProblem when the log has no longer all that follows.
        """
        tables = Tables()
        position = snapshots.newest(NAME, tables_origin(log), log.durable, tables)
        self.tables, self.position = tables, self.begin if position is None else position
        self._saved = self.position
        if self.position < log.first:
            raise StorageProblem(
                f"the tables need the log from position {self.position} on, and it begins at {log.first} by now; put "
                "back the newest copy of the folder snapshots"
            )

    def follow(self, log: LogReader) -> None:
        """Take what is durable from `position` on."""
        end = log.durable
        while self.position < end and self.take_next(log):
            pass

    def take_next(self, log: LogReader, limit: int = PAGE) -> Sequence[Record]:
        """Take the next records that are durable, about `limit` entries of them, and return them."""
        records = log.read(self.position, limit)
        for record in records:
            if record.kind == Kind.TABLE:
                self.take(table_in(record), record.received_us)
            self.position = record.position + record.rows
        return records

    def take(self, entry: TableRows, received_us: int) -> None:
        """Take rows that are recorded."""
        self.tables.of(entry.table, entry.kind).put(entry.rows, received_us)

    def snapshot(self, log: LogReader, snapshots: Snapshots) -> None:
        """Save the tables when they are newer than their last snapshot. Raises StorageProblem."""
        if self.position > self._saved:
            snapshots.save(NAME, self.position, tables_origin(log), self.tables.snapshot())
            self._saved = self.position

    @property
    def entries_since_snapshot(self) -> int:
        """How much a start would have to read."""
        return self.position - self._saved

    @property
    def is_wasteful(self) -> bool:
        """Never: what is let go of is free."""
        return False


def tables_origin(log: LogReader) -> Origin:
    """What snapshots of the tables bear."""
    return origin_named(log, NAME)


def append_rows(log: Log, entry: TableRows, now_us: int) -> int:
    """Append rows of a table, after the entry that says from where on there are any; the position of the first.

    From the thread of the log's writer. Raises StorageProblem.
    """
    if activation_of(log, NAME) is None:
        begin = body_of(Activation(NAME, log.durable))
        log.write(Kind.ACTIVATION, 1, now_us, begin, standing=f"activation:{NAME}")
    return log.write(Kind.TABLE, len(entry.keys), now_us, body_of(entry))
