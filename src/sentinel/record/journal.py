"""The journal: the log with its id index. One append makes a batch durable, and what was decided is found by its id."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sentinel.record.entries import (
    Activation,
    Decided,
    DecisionRow,
    OutcomeRow,
    Outcomes,
    body_of,
    decided_in,
    decision_row,
    outcome_keys,
    outcome_rows,
)
from sentinel.record.ids import IdIndex
from sentinel.record.log import Kind, Log, Record

_REMEMBERED = 64  # records: repeats tend to fall into the same records


class Journal:
    """Writes entries and finds them again. `append` from one thread, the writer's; the rest from any."""

    def __init__(self, log: Log, ids: IdIndex) -> None:
        self.log = log
        self._ids = ids
        self._read: tuple[tuple[Record, Decided], ...] = ()  # replaced as a whole: several threads look at it

    def close(self) -> None:
        """Release the index; the log is its opener's."""
        self._ids.close()

    def append_decided(self, decided: Decided, hashes: NDArray[np.uint64], now_us: int) -> int:
        """Append decisions; the position of the first. Raises StorageProblem, as all appending does."""
        position = self.log.write(Kind.DECIDED, len(decided.ids), now_us, body_of(decided))
        self._ids.add(hashes, position)
        return position

    def append_outcomes(self, outcomes: Outcomes, hashes: NDArray[np.uint64], now_us: int) -> int:
        """Append outcomes; the position of the first."""
        position = self.log.write(Kind.OUTCOMES, len(outcomes.ids), now_us, body_of(outcomes))
        self._ids.add(outcome_keys(hashes), position)
        return position

    def append_heartbeat(self, now_us: int) -> int:
        """Append a heartbeat, which proves that the log can be written."""
        return self.log.write(Kind.HEARTBEAT, 1, now_us, b"")

    def activate(self, state_id: str, begin: int, now_us: int) -> None:
        """Note that this state is kept: what its history holds, and every entry from `begin` on."""
        body = body_of(Activation(state_id, begin))
        self.log.write(Kind.ACTIVATION, 1, now_us, body, standing=f"activation:{state_id}")

    def find(self, transaction_ids: Sequence[str], hashes: NDArray[np.uint64]) -> dict[str, DecisionRow]:
        """The stored decisions among these ids, by id; `hashes` (n,) are those of the ids."""
        positions = self._ids.find(hashes)
        if not positions:
            return {}
        wanted = set(transaction_ids)
        rows = (self._decision(position) for position in positions)
        return {row.transaction_id: row for row in rows if row.transaction_id in wanted}

    def position_of(self, key: np.uint64) -> int | None:
        """The position of the decision whose id has this hash, or None."""
        positions = self._ids.find(np.array([key], np.uint64))
        return positions[0] if positions else None

    def outcomes_of(self, transaction_id: str, key: np.uint64) -> list[OutcomeRow]:
        """The stored outcomes of a transaction, oldest first; `key` is the hash of its id."""
        positions = self._ids.find(outcome_keys(np.array([key], np.uint64)))
        rows = [self._outcome(position) for position in positions]
        return [row for row in rows if row.transaction_id == transaction_id]

    def _decision(self, position: int) -> DecisionRow:
        for record, decided in self._read:
            if record.position <= position < record.position + record.rows:
                return decision_row(record, decided, position - record.position)
        record = self.log.at(position)
        decided = decided_in(record)
        self._read = ((record, decided), *self._read[: _REMEMBERED - 1])
        return decision_row(record, decided, position - record.position)

    def _outcome(self, position: int) -> OutcomeRow:
        record = self.log.at(position)
        return outcome_rows(record)[position - record.position]
