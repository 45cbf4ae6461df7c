"""The journal: the log with its id index. One append makes a batch durable, and what was decided is found by its id."""

from collections.abc import Sequence, Set
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import StorageProblem
from sentinel.events.columns import hash_text
from sentinel.policy.holdout import Spent
from sentinel.record.earlier_results import NOT_ASKED, Earlier
from sentinel.record.entries import (
    Activation,
    ContextEvents,
    ContextRow,
    Decided,
    DecisionRow,
    OutcomeRow,
    Outcomes,
    Revocation,
    Revoked,
    body_of,
    context_in,
    context_keys,
    context_row,
    decided_in,
    decision_row,
    outcome_keys,
    outcome_row,
    outcomes_in,
    reason_keys,
    result_keys,
    revoked_in,
    spent_in,
)
from sentinel.record.ids import IdIndex
from sentinel.record.log import Kind, Log, Record
from sentinel.record.reasons import STANDING, Reasons, explained_upto, reasons_in
from sentinel.record.results import ResultRow, Results, result_row, results_in
from sentinel.record.subjects import SubjectKeys

_HELD_OUT = "held out"
_REMEMBERED = 64  # records: repeats tend to fall into the same records
_MOST_BROUGHT = 64 << 20  # bytes of records
_Entries: TypeAlias = Decided | Outcomes | Revoked | ContextEvents | Reasons | Results


class Known(NamedTuple):
    """What is known of some ids: their decisions by id, and those of their hashes that another id has."""

    rows: dict[str, DecisionRow]
    twins: Set[int]


_NOTHING_KNOWN = Known({}, frozenset())


class Journal:
    """Writes entries and finds them again. `append` from one thread, the writer's; the rest from any.

    `subjects` are made durable before what is sealed with them; without them nothing personal is kept.
    """

    def __init__(self, log: Log, ids: IdIndex, subjects: SubjectKeys | None = None) -> None:
        self.log = log
        self._ids = ids
        self.subjects = subjects
        self._unmatched: dict[str, int] = {}
        self._remembered: tuple[tuple[Record, _Entries | None], ...] = ()
        self._brought: dict[int, tuple[Record, _Entries | None]] = {}
        self._brought_bytes = 0

    def close(self) -> None:
        """Release the index and the subjects' keys; the log is its opener's."""
        self._ids.close()
        if self.subjects is not None:
            self.subjects.close()

    def forget_before(self, position: int) -> None:
        """Find no entries before this position any more; from the writer's thread."""
        self._ids.forget_before(position)

    @property
    def remembered_from(self) -> int:
        """No entry before this position is found by its id."""
        return self._ids.remembered_from

    def follow(self) -> None:
        """Find what another process has written since, too. Raises StorageProblem."""
        self._ids.follow()

    def append_decided(self, decided: Decided, hashes: NDArray[np.uint64], now_us: int) -> int:
        """Append decisions; the position of the first. Raises StorageProblem, as all appending does."""
        self._keep_subjects()
        position = self.log.write(Kind.DECIDED, len(decided.ids), now_us, body_of(decided))
        self._ids.add(hashes, position)
        return position

    def append_context(self, events: ContextEvents, hashes: NDArray[np.uint64], now_us: int) -> int:
        """Append context events; the position of the first."""
        self._keep_subjects()
        position = self.log.write(Kind.CONTEXT, len(events.ids), now_us, body_of(events))
        self._ids.add(context_keys(hashes), position)
        return position

    def _keep_subjects(self) -> None:
        if self.subjects is not None and self.subjects.are_new:
            self.subjects.sync(self.log.pruned_us)

    def append_outcomes(self, outcomes: Outcomes, hashes: NDArray[np.uint64], now_us: int) -> int:
        """Append outcomes; the position of the first."""
        position = self.log.write(Kind.OUTCOMES, len(outcomes.ids), now_us, body_of(outcomes))
        self._ids.add(outcome_keys(hashes), position)
        return position

    def append_unmatched(self, outcomes: Outcomes, hashes: NDArray[np.uint64], now_us: int) -> int:
        """Append outcomes of one teller whose transactions were not decided here; the position of the first."""
        teller = outcomes.told_by[0]
        kept = self.unmatched_of(teller) + len(outcomes.ids)
        body = body_of(msgspec.structs.replace(outcomes, kept=kept))
        position = self.log.write(Kind.UNMATCHED, len(outcomes.ids), now_us, body, standing=_standing_of(teller))
        self._ids.add(outcome_keys(hashes), position)
        self._unmatched[_standing_of(teller)] = kept
        return position

    def unmatched_of(self, teller: str) -> int:
        """How many outcomes of transactions that were not decided here this teller has told; of one thread."""
        name = _standing_of(teller)
        if name not in self._unmatched:
            record = self.log.standing().get(name)
            self._unmatched[name] = 0 if record is None else outcomes_in(record).kept
        return self._unmatched[name]

    def append_revoked(self, revoked: Revoked, now_us: int) -> int:
        """Append what is taken back; the position of the first transaction."""
        position = self.log.write(Kind.REVOKED, len(revoked.ids), now_us, body_of(revoked))
        self._ids.add(outcome_keys(np.frombuffer(revoked.hashes, "<u8")), position)
        return position

    def append_reasons(self, reasons: Reasons, now_us: int) -> int:
        """Append why decisions are as they are; the position of the first."""
        position = self.log.write(Kind.REASONS, len(reasons.ids), now_us, body_of(reasons), standing=STANDING)
        self._ids.add(reason_keys(np.frombuffer(reasons.hashes, np.uint64)), position)
        return position

    def append_results(self, results: Results, now_us: int) -> int:
        """Append what became of decisions; the position of the first."""
        position = self.log.write(Kind.RESULTS, len(results.ids), now_us, body_of(results))
        self._ids.add(result_keys(np.frombuffer(results.hashes, "<u8")), position)
        return position

    @property
    def explained_upto(self) -> int:
        """Before which position the log is explained."""
        return explained_upto(self.log)

    def append_spent(self, spent: Spent, now_us: int) -> int:
        """Append what an approval holdout has approved that day; before those decisions: it is never too little."""
        return self.log.write(Kind.HELD_OUT, 1, now_us, body_of(spent), standing=_HELD_OUT)

    @property
    def spent(self) -> Spent:
        """What an approval holdout has approved, on the newest day on which it did."""
        record = self.log.standing().get(_HELD_OUT)
        return Spent(0, 0.0) if record is None else spent_in(record)

    def append_heartbeat(self, now_us: int) -> int:
        """Append a heartbeat, which proves that the log can be written."""
        return self.log.write(Kind.HEARTBEAT, 1, now_us, b"")

    def activate(self, state_id: str, begin: int, now_us: int) -> None:
        """Note that this state is kept: what its history holds, and every entry from `begin` on."""
        body = body_of(Activation(state_id, begin))
        self.log.write(Kind.ACTIVATION, 1, now_us, body, standing=f"activation:{state_id}")

    def far(self, keys: NDArray[np.uint64]) -> list[int]:
        """The positions of entries with these keys that the log has not at hand, and that were not brought yet."""
        begin, brought = self.log.at_hand, self._brought
        return [one for one in self._ids.find(keys) if one < begin and one not in brought]

    def bring(self, positions: Sequence[int]) -> None:
        """Read the entries at these positions, so that they are at hand for a while; from one thread that may wait.

        Raises StorageProblem.
        """
        for position in positions:
            record = self.log.at(position)
            self._brought[position] = record, _entries_in(record)
            self._brought_bytes += len(record.body)
            while self._brought_bytes > _MOST_BROUGHT and (oldest := next(iter(self._brought))) != position:
                self._brought_bytes -= len(self._brought.pop(oldest)[0].body)

    def find(self, transaction_ids: Sequence[str], hashes: NDArray[np.uint64]) -> dict[str, DecisionRow]:
        """The stored decisions among these ids, by id; `hashes` (n,) are those of the ids."""
        return self.look_up(transaction_ids, hashes).rows

    def look_up(self, transaction_ids: Sequence[str], hashes: NDArray[np.uint64]) -> Known:
        """The same, and which of the hashes belong to the decision of another id."""
        positions = self._ids.find(hashes)
        if not positions:
            return _NOTHING_KNOWN
        wanted, rows, twins = set(transaction_ids), {}, set()
        for position in positions:
            record, entries = self._read(position)
            if isinstance(entries, Decided):
                name = entries.ids[position - record.position]
                if name in wanted:
                    rows[name] = decision_row(record, entries, position - record.position)
                else:
                    twins.add(hash_text(name))
        return Known(rows, twins)

    def context_of(self, event_ids: Sequence[str], hashes: NDArray[np.uint64]) -> dict[str, ContextRow]:
        """The stored context events among these ids, by id; `hashes` (n,) are those of the ids."""
        wanted, found = set(event_ids), {}
        for position in self._ids.find(context_keys(hashes)):
            record, entries = self._read(position)
            if isinstance(entries, ContextEvents) and entries.ids[position - record.position] in wanted:
                row = context_row(record, entries, position - record.position)
                found[row.event_id] = row
        return found

    def position_of(self, transaction_id: str, key: np.uint64) -> int | None:
        """The position of the decision of this transaction, or None; `key` is the hash of its id."""
        positions = self._ids.find(np.array([key], np.uint64))
        # The newest: an id that was forgotten may have been decided again.
        return next((one for one in reversed(positions) if self._is_of(transaction_id, one, Decided)), None)

    def decision_at(self, position: int, transaction_id: str) -> DecisionRow | None:
        """The decision of this transaction at this position, also when its id is no longer remembered, or None.

        Raises StorageProblem when the log no longer has it.
        """
        if not self.log.first <= position < self.log.durable:
            return None
        record = self.log.at(position)
        if record.kind != Kind.DECIDED:
            return None
        row = decision_row(record, decided_in(record), position - record.position)
        return row if row.transaction_id == transaction_id else None

    def outcomes_of(self, transaction_id: str, key: np.uint64, most: int = 1_000) -> list[OutcomeRow]:
        """The newest outcomes of a transaction, oldest first, those that were taken back too; see `revoked_at`.

        `key` is the hash of its id.
        """
        rows: list[OutcomeRow] = []
        revoked: list[tuple[int, Revoked]] = []
        for position in reversed(self._ids.find(outcome_keys(np.array([key], np.uint64)))):
            if len(rows) == most:
                break
            record, entries = self._read(position)
            if entries is None or entries.ids[position - record.position] != transaction_id:
                continue
            if isinstance(entries, Revoked):  # it takes back what stands before it
                revoked.append((position, entries))
            elif isinstance(entries, Outcomes):
                row = outcome_row(record, entries, position - record.position)
                at = next((at for at, one in revoked if one.revocation.covers(row)), None)
                rows.append(row._replace(revoked_at=at))
        return rows[::-1]

    def reasons_of(self, transaction_id: str, key: np.uint64, about: int) -> tuple[int, bytes] | None:
        """The position of the reasons of the decision at position `about`, and their JSON; None where there are none.

        `key` is the hash of its transaction's id.
        """
        for position in reversed(self._ids.find(reason_keys(np.array([key], np.uint64)))):
            record, entries = self._read(position)
            if isinstance(entries, Reasons):
                place = position - record.position
                if entries.ids[place] == transaction_id and np.frombuffer(entries.about, np.int64)[place] == about:
                    return position, entries.why[place]
        return None

    def results_of(
        self, transaction_id: str, key: np.uint64, about: int, earlier: Earlier = NOT_ASKED
    ) -> list[ResultRow]:
        """What became of the decision at position `about`, oldest first; `key` is the hash of its transaction's id.

        Of a decision that is no longer found by its id, results may not be found either: `earlier` has those. Raises
        StorageProblem where it does not reach as far as they are forgotten.
        """
        since = self.remembered_from
        if about < since and earlier.upto < since:
            raise StorageProblem(
                f"What was told of the decision at position {about} is no longer remembered, and the view, which has "
                f"kept it, has read the log up to position {earlier.upto} of {since} only; nothing was stored: ask "
                "again when it has caught up"
            )
        found = [one for one in earlier.rows if one.position < since]
        for position in self._ids.find(result_keys(np.array([key], np.uint64))):
            record, entries = self._read(position)
            if isinstance(entries, Results):
                row = result_row(record, entries, position - record.position)
                if (row.transaction_id, row.about) == (transaction_id, about) and position >= since:
                    found.append(row)
        return found

    def revocations_of(self, transaction_id: str, key: np.uint64, about: int) -> list[Revocation]:
        """What took back outcomes of the decision at position `about`; `key` is the hash of its transaction's id."""
        found = []
        for position in self._ids.find(outcome_keys(np.array([key], np.uint64))):
            record, entries = self._read(position)
            if not isinstance(entries, Revoked):
                continue
            place = position - record.position
            if entries.ids[place] == transaction_id and np.frombuffer(entries.about, np.int64)[place] == about:
                found.append(entries.revocation)
        return found

    def _is_of(self, transaction_id: str, position: int, kind: type) -> bool:
        """Whether the entry there is of this kind and this transaction: another one may have the same hash."""
        record, entries = self._read(position)
        return (
            entries is not None
            and isinstance(entries, kind)
            and entries.ids[position - record.position] == transaction_id
        )

    def _read(self, position: int) -> tuple[Record, _Entries | None]:
        """The record with this entry; None for entries that are lost.

        Repeats tend to fall into the same records, so some are remembered.
        """
        if (brought := self._brought.get(position)) is not None:
            return brought
        for record, entries in self._remembered:
            if record.position <= position < record.position + record.rows:
                return record, entries
        record = self.log.at(position)
        entries = _entries_in(record)
        self._remembered = ((record, entries), *self._remembered[: _REMEMBERED - 1])
        return record, entries


def _standing_of(teller: str) -> str:
    """Under which name the log keeps how much was told; imports share one, for each has a teller of its own."""
    return f"unmatched:{teller.partition(':')[0]}"


def _entries_in(record: Record) -> _Entries | None:
    if record.kind == Kind.DECIDED:
        return decided_in(record)
    if record.kind in (Kind.OUTCOMES, Kind.UNMATCHED):
        return outcomes_in(record)
    if record.kind == Kind.CONTEXT:
        return context_in(record)
    if record.kind == Kind.REASONS:
        return reasons_in(record)
    if record.kind == Kind.RESULTS:
        return results_in(record)
    return revoked_in(record) if record.kind == Kind.REVOKED else None
