"""The engine: one batch from arrival to answer, in one thread and without locks."""

import time
from collections.abc import Sequence, Set
from operator import attrgetter

import numpy as np

from sentinel.errors import NotReady
from sentinel.events.columns import hash_text
from sentinel.events.context import Context
from sentinel.events.reference_tables.lookup import Lookup
from sentinel.model.bundle import Bundle
from sentinel.policy.holdout import Spent
from sentinel.policy.model_call import Limits, ModelCaller
from sentinel.record.audit import Change, append_change
from sentinel.record.concluding import Concluded, Telling, following, repeated
from sentinel.record.earlier_results import NOT_ASKED, Earlier
from sentinel.record.entries import DecisionRow, OutcomeRow, Revocation, TableRows, schema_id
from sentinel.record.feature_state import FeatureState, activation_of, first_after_history, origin_of
from sentinel.record.journal import Journal
from sentinel.record.listed import Listing, rows_of
from sentinel.record.log import Kind, Record
from sentinel.record.reasons import Reasons
from sentinel.record.results import result_row
from sentinel.record.revoking import TakenBack, taken_back
from sentinel.record.set_aside import Note, warn
from sentinel.record.snapshots import Snapshots
from sentinel.record.table_state import TableState, append_rows
from sentinel.serve.batch import Answered, Arrivals, Batch, Late
from sentinel.serve.context import new_context_in
from sentinel.serve.given import take_given
from sentinel.serve.hold_out import hold_out, say_held_out
from sentinel.serve.inline_shadow import InlineShadow
from sentinel.serve.judge import answer, judge
from sentinel.serve.learn import new_outcomes_in, record
from sentinel.serve.ledger import Ledger
from sentinel.serve.lineup import Lineup
from sentinel.serve.rule_counts import RuleCounts
from sentinel.serve.ruling import rule, say_ruled
from sentinel.serve.sift import Sieve
from sentinel.telemetry.counters import Counters, Slot, Stage

_MOST_TO_REPLAY = 500_000  # entries, for the sake of memory
_PAUSE_S = (
    0.0005  # after some records, while a state is loaded beside those that decide: they need the interpreter's lock
)
MOST_TO_FOLLOW = 512
"""Entries that a new state may be behind when it is switched in: they are taken within a turn of the event loop."""


class Engine:
    """Owns the features' state and writes the journal. Use it from one thread, but `prepare` and `renew` from any.

    Memory is only a cache of the log. When the log cannot be written, the states are ahead of it: the engine has to be
    thrown away then, and another one opened.
    """

    def __init__(
        self, lineup: Lineup, journal: Journal, snapshots: Snapshots, limits: Limits, counters: Counters,
        note: Note = warn, hash_keys: Set[str] | None = None,
    ) -> None:  # fmt: skip
        """Load the states, which may take a while; `begin` makes the engine ready.

        `note` is told of transactions of the log that do not fit the schema. `hash_keys` are the numbers of the keys
        that secrets of this log may have been hashed with; None where any may.
        """
        self.journal = journal
        self._snapshots = snapshots
        self._note, self._hash_keys = note, hash_keys
        self.models = ModelCaller(limits)
        self._inline_shadow = InlineShadow()
        self.rule_counts = RuleCounts()
        self.ledger = Ledger(counters)
        self.states: dict[str, FeatureState] = {}
        self.lineup = lineup
        self._spent = journal.spent
        self.is_ahead = False
        """Whether a batch was begun and did not end: states and log may differ."""

        self._first = self.prepare(lineup)
        self.tables = TableState.of(journal.log, snapshots)

    def follow(self) -> None:
        """Take what another process has written since; before `begin`. From any thread.

        Raises NotReady when what is in force has changed: another engine has to be opened then.
        """
        log = self.journal.log
        for state in self._first.values():
            end = log.durable
            while state.position < end and (records := state.take_next(log)):
                if any(one.kind == Kind.APPLIED for one in records):
                    raise NotReady("what is in force has changed meanwhile; it is loaded")
        self.tables.follow(log)
        self.journal.follow()

    def begin(self, now_us: int) -> None:
        """Make ready to decide. Raises StorageProblem when the log cannot be written."""
        self._spent = self.journal.spent
        self.switch(self.lineup, self._first, now_us)
        self._first = {}
        self.journal.append_heartbeat(self.clock(now_us))
        for state in self.states.values():
            state.position = self.journal.log.durable

    def prepare(self, lineup: Lineup) -> dict[str, FeatureState]:
        """The states that a lineup needs and the engine does not keep yet, loaded; from any thread."""
        bundles = {one.bundle.state_id: one.bundle for one in lineup.contenders}
        return {name: self._loaded(bundle) for name, bundle in bundles.items() if name not in self.states}

    def renew(self) -> dict[str, FeatureState]:
        """States that take the place of those that hold much memory they need no longer, loaded; from any thread.

        Where the newest snapshot is old that has to wait: what has to be replayed might need as much memory again.
        """
        return {
            name: self._loaded(state.bundle)
            for name, state in [*self.states.items()]
            if state.is_wasteful and self._is_saved(state)
        }

    def _is_saved(self, state: FeatureState) -> bool:
        log = self.journal.log
        saved = self._snapshots.positions(state.id, origin_of(log, state.bundle.manifest))
        return bool(saved) and log.durable - saved[-1] <= _MOST_TO_REPLAY

    def _loaded(self, bundle: Bundle) -> FeatureState:
        log = self.journal.log
        begin = activation_of(log, bundle.state_id)
        first = first_after_history(log, bundle.manifest) if begin is None else begin
        state = FeatureState(bundle, first, self._note)
        state.load(log, self._snapshots, _PAUSE_S if self.states else 0.0)
        return state

    def is_close(self, fresh: dict[str, FeatureState]) -> bool:
        """Whether these states lack so little that they can be switched in; follow the log with them until then."""
        return all(self.journal.log.durable - one.position <= MOST_TO_FOLLOW for one in fresh.values())

    def switch(self, lineup: Lineup, fresh: dict[str, FeatureState], now_us: int) -> bool:
        """Make this lineup decide from the next batch on, and drop the states it does not use.

        False, and nothing is changed, while something is written and not durable yet: fresh states could not read it.
        """
        if fresh and any(state.position > self.journal.log.durable for state in self.states.values()):
            return False
        for state in fresh.values():
            state.follow(self.journal.log)
            if activation_of(self.journal.log, state.id) is None:
                self.journal.activate(state.id, state.begin, self.clock(now_us))
        known = {**self.states, **fresh}
        self.states = {one.bundle.state_id: known[one.bundle.state_id] for one in lineup.contenders}
        self.schema = lineup.champion.bundle.manifest.plan.schema
        self._schema_id, self._detector = schema_id(self.schema), lineup.champion.bundle.manifest.detector
        lookup = Lookup(self.schema, self.tables.tables)
        self._amount_of = attrgetter(self.schema.amount)
        self._sieve, self._context = Sieve(self.schema, lookup, self._hash_keys), Context(self.schema)
        self.lineup = lineup
        return True

    def clock(self, now_us: int) -> int:
        """The moment that the next entry bears: now, or that of the last one if the machine's clock went back."""
        return self.journal.log.clock(now_us)

    def decide(self, arrivals: Arrivals, now_us: int) -> Answered:
        """Decide every new transaction; what was decided before keeps its answer, and a bad one gets its own error.

        Raises StorageProblem when it could not be looked up, or not be recorded; after the latter (`is_ahead`) the
        engine can no longer be used.
        """
        begun_ns = time.monotonic_ns()
        now_us = self.clock(now_us)
        sifted = self._sieve.sift(arrivals, self.journal, now_us)
        batch = sifted.batch
        if len(batch):
            self.is_ahead = True
            self._know(batch, now_us)
            known_ns = time.monotonic_ns()
            judge(batch, self.lineup, self.models)
            if self.lineup.rules is not None:
                rule(batch, self.lineup, self.tables.tables, now_us, self.rule_counts)
            spent = hold_out(batch, self.lineup, self._spent.on(now_us), self._amount_of)
            answer(batch, self._detector)
            say_held_out(batch)
            say_ruled(batch)
            if batch.given:
                take_given(batch, self.lineup.revision)
            late = self._ask_shadow(batch)
            judged_ns = time.monotonic_ns()
            sifted.durable_from = self._record(batch, spent, now_us)
            self._count(batch, (begun_ns, known_ns, judged_ns))
            self.is_ahead = False
            return sifted.answered()._replace(late=late)
        return sifted.answered()

    def _ask_shadow(self, batch: Batch) -> Late | None:
        """Ask the shadow, if there is one beside, on the features of the champion; not where time has run out."""
        shadow = self.lineup.shadow
        if shadow is None or min(batch.due_ns) < time.monotonic_ns():
            return None
        rows = batch.features[self.lineup.champion.bundle.state_id].rows
        return self._inline_shadow.ask(shadow.scorer, rows, batch.ids)

    def hear(self, arrivals: Arrivals, now_us: int) -> Answered:
        """Record every new context event, and let the features know.

        Raises StorageProblem as `decide` does.
        """
        now_us = self.clock(now_us)
        new = new_context_in(arrivals, self.journal, self._context.schemas, now_us, self._hash_keys)
        if not new.reports:
            return Answered(new.answers, new.durable_from)
        self.is_ahead = True
        end = self.journal.append_context(new.entry(self._schema_id), new.hashes, now_us) + len(new.reports)
        for state in self.states.values():
            state.advance(new.events, now_us)
            state.position = end
        self.is_ahead = False
        return Answered(new.answers, end)

    def learn(self, arrivals: Arrivals, now_us: int) -> Answered:
        """Record every new outcome, and let the features know of those of transactions that were decided here.

        Raises StorageProblem as `decide` does.
        """
        now_us = self.clock(now_us)
        new = new_outcomes_in(arrivals, self.journal)
        matched = new.matched
        if not matched.outcomes and not new.unmatched.outcomes:
            return Answered(new.answers, new.durable_from)
        self.is_ahead = True
        end = record(new, self.journal, now_us)
        for state in self.states.values():
            if matched.outcomes:
                state.learn(matched.outcomes, now_us)
            state.position = end
        self.is_ahead = False
        return Answered(new.answers, end)

    def tell(self, entry: TableRows, now_us: int, note: Change) -> Record:
        """Record rows of a table, few at a time, after `note` in the audit; transactions find them from now on.

        Raises StorageProblem as `decide` does.
        """
        return self._tell(entry, self.clock(now_us), note)

    def list_values(
        self, name: str, kind: str, told: Sequence[Listing], told_by: str, now_us: int, note: Change
    ) -> Record | None:
        """Record what is said of a list (`LIST`) or of who a rule sleeps for (`SNOOZE`), few at a time.

        None where all of it is said already. Raises InvalidInput, StorageProblem as `decide` does.
        """
        now_us = self.clock(now_us)
        rows = rows_of(self.tables.tables.of(name, kind), told, now_us)
        return self._tell(TableRows.of(name, kind, rows, told_by), now_us, note) if rows else None

    def _tell(self, entry: TableRows, now_us: int, note: Change) -> Record:
        self.is_ahead = True
        append_change(self.journal.log, note, now_us)
        position = append_rows(self.journal.log, entry, now_us)
        self.tables.take(entry, now_us)
        for state in self.states.values():
            state.position = position + len(entry.keys)
        self.is_ahead = False
        return self.journal.log.at(position)

    def revoke(
        self, revocation: Revocation, candidates: Sequence[OutcomeRow], now_us: int, note: Change | None = None
    ) -> TakenBack:
        """Take back what is left of these outcomes, and let the features know; few at a time.

        Where anything is left, `note` goes to the audit before. Raises StorageProblem as `decide` does.
        """
        now_us = self.clock(now_us)
        taken = taken_back(self.journal, revocation, candidates)
        if taken.entry is None:
            return taken
        if note is not None:
            append_change(self.journal.log, note, now_us)
        self.is_ahead = True
        position = self.journal.append_revoked(taken.entry, now_us)
        for state in self.states.values():
            state.correct(taken.entry, now_us)
            state.position = position + taken.transactions
        self.is_ahead = False
        return taken._replace(record=self.journal.log.at(position))

    def conclude(
        self, row: DecisionRow, telling: Telling, now_us: int, note: Change | None = None, earlier: Earlier = NOT_ASKED
    ) -> Concluded:
        """Record what became of a decision, after `note` in the audit; nothing where it was told before.

        `earlier` is what `earlier_results` says of a decision whose id is forgotten.

        Raises Conflict where it contradicts what was told, StorageProblem as `decide` does.
        """
        told = self.journal.results_of(
            row.transaction_id, np.uint64(hash_text(row.transaction_id)), row.position, earlier
        )
        before = repeated(told, telling)
        if before is not None:
            return Concluded(before, replayed=True, record=self.journal.log.at(before.position))
        entry = following(row, told, telling)
        now_us = self.clock(now_us)
        self.is_ahead = True
        if note is not None:
            append_change(self.journal.log, note, now_us)
        position = self.journal.append_results(entry, now_us)
        for state in self.states.values():
            state.position = position + 1
        self.is_ahead = False
        record = self.journal.log.at(position)
        return Concluded(result_row(record, entry, 0), replayed=False, record=record)

    def explain(self, reasons: Reasons, now_us: int) -> bool:
        """Record why decisions are as they are; nothing, and false, unless they begin where the log is explained up to.

        Raises StorageProblem as `decide` does.
        """
        if reasons.since != self.journal.explained_upto:
            return False
        now_us = self.clock(now_us)
        self.is_ahead = True
        end = self.journal.append_reasons(reasons, now_us) + len(reasons.ids)
        for state in self.states.values():
            state.position = end
        self.is_ahead = False
        return True

    def _know(self, batch: Batch, now_us: int) -> None:
        """Each row counts its own transaction."""
        for name, state in self.states.items():
            batch.features[name] = state.advance(batch.events, now_us, batch.hashes)

    def _record(self, batch: Batch, spent: Spent, now_us: int) -> int:
        """Append the batch, after what the holdout has spent; answers may be sent once all before this is durable."""
        if any(one.is_approved for one in batch.drawn):
            self.journal.append_spent(spent, now_us)
        self._spent = spent
        decided = batch.entry(self._schema_id, self.lineup.revision, self._detector)
        end = self.journal.append_decided(decided, batch.hashes, now_us) + len(batch)
        for state in self.states.values():
            state.position = end
        return end

    def _count(self, batch: Batch, times_ns: tuple[int, int, int]) -> None:
        begun_ns, known_ns, judged_ns = times_ns
        ledger = self.ledger
        ledger.took(Stage.FEATURES, begun_ns, known_ns)
        ledger.took(Stage.MODEL, known_ns, judged_ns)
        ledger.took(Stage.COMMIT, judged_ns, time.monotonic_ns())
        ledger.counters.add(Slot.LOG_WRITES)
        ledger.show_circuit(self.models)
        ledger.counters.add(Slot.HELD_OUT, sum(one.is_approved for one in batch.drawn))
        for group in batch.groups:
            by = group.decider
            if len(group.levels) == 0:
                continue  # fronts have answered all of it
            ledger.count_group(by.variant, group.levels, by.degraded, is_fixed=by.is_fixed)
        ledger.decided([group.levels for group in batch.groups], batch.latencies_us, begun_ns, batch.received_ns)

    def close(self) -> None:
        """Release everything but the log. Nothing is saved: the log has it."""
        self.models.stop()
        self._inline_shadow.stop()
        self.journal.close()
        self.ledger.settle()
