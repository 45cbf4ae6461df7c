"""The announcer: reads results in the log on, and puts down a message for each, exactly once."""

import sqlalchemy as sa

from sentinel.events.times import iso
from sentinel.record.log import Follower, Kind, LogReader
from sentinel.record.results import ResultRow, result_rows
from sentinel.record.written import outbox
from sentinel.record.written.database import Database
from sentinel.record.written.readings import RESULTS, read_before
from sentinel.record.written.tables import readings

STATE = "decision.state"
"""The kind of a message that says where a transaction stands by now."""

_PAGE = 1_024


class Announcer:
    """Follows the log from where it has read to, as the outbox says; of a log that it never read, from its end on.

    How far it is moves on in the transaction that puts messages down: however often it is killed, and however many do
    the same, a result becomes one message.
    """

    def __init__(self, database: Database, log: LogReader) -> None:
        self._database, self._log = database, log

    def step(self) -> bool:
        """Put down what comes next; whether there may be more. Raises StorageProblem."""
        position = self._begun()
        follower = Follower(self._log, position)
        records = follower.next(_PAGE)
        if not records:
            return False
        rows = [row for record in records if record.kind == Kind.RESULTS for row in result_rows(record)]
        with self._database.writing() as writer:
            at = sa.and_(readings.c.reader == RESULTS, readings.c.position == position)
            moved = readings.update().where(at).values(position=follower.position)
            if writer.execute(moved).rowcount:  # else another one has put it down
                for row in rows:
                    outbox.put(writer, STATE, row.transaction_id, _said(row), row.received_us)
        return True

    def _begun(self) -> int:
        """How far this log is read; another one may begin at the same moment."""
        with self._database.reading() as reader:
            found = read_before(reader, RESULTS, self._log.log_id)
        if found is not None:
            return found
        with self._database.writing() as writer:
            found = read_before(writer, RESULTS, self._log.log_id)
            if found is not None:
                return found
            end = self._log.durable
            writer.execute(readings.delete().where(readings.c.reader == RESULTS))
            writer.execute(readings.insert().values(reader=RESULTS, log_id=self._log.log_id, position=end))
        return end


def _said(row: ResultRow) -> dict[str, object]:
    return {
        "transaction_id": row.transaction_id, "result": row.result, "state": row.state, "told_by": row.told_by,
        "reason": row.reason, "told_at": iso(row.received_us), "position": row.position, "decision_position": row.about,
    }  # fmt: skip
