"""The spine: take a batch, know its features, judge it, record it, answer. One thread, no locks."""

import itertools
import logging
import operator
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidInput, NotFound, Overloaded
from sentinel.events.log import Outcome, hash_texts
from sentinel.events.times import SECOND_US, iso
from sentinel.features.store import Features
from sentinel.policy.judge import FALLBACK_ONLY, OVERLOADED, Judge, Limits, Verdict
from sentinel.policy.thresholds import ACTIONS, Thresholds
from sentinel.record.decision_batch import NO_DECISIONS, Column, DecisionBatch
from sentinel.record.feature_state import FeatureState
from sentinel.record.journal import Journal
from sentinel.record.journal_reader import DecisionRow, OutcomeRow
from sentinel.record.overflow import Overflow
from sentinel.record.snapshots import Snapshots
from sentinel.review.experiment_count import ExperimentCount
from sentinel.serve.counting import SETTLE_ROWS, SHED, STATE_NUMBER, count_decisions
from sentinel.serve.decisions import FEATURES_STATE, Answers, Arrivals, Decision, Event, Noted, RuledDecisions, repeated
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.sifting import New, Sifted, at
from sentinel.telemetry.counters import Counters, Slot, Stage

FARTHEST_AHEAD_US = 86_400 * SECOND_US
SNAPSHOT_EVERY = 250_000
CATCH_UP_ROWS = 64
MOST_POSTPONED = 1_000_000
_log = logging.getLogger(__name__)
_WORDS = tuple(map(str, ACTIONS))  # SQLite takes its time over members of an enumeration
_SPARE = 8  # who has waited for less than an eighth of its patience has time for what was postponed


class Engine:
    """Owns the features' state and writes the journal. Use it from one thread, except for `prepare`.

    Memory is only a cache of the journal: when a batch cannot be recorded, the states are thrown away and loaded
    anew from the newest snapshot and what the journal holds after it.
    """

    def __init__(
        self, lineup: Lineup, journal: Journal, snapshots: Snapshots, now_us: int,
        limits: Limits | None = None, counters: Counters | None = None, false_alarm_cost: float = 10.0,
        observe: Callable[[Any, Any], None] = lambda _rows, _scores: None,
    ) -> None:  # fmt: skip
        self.journal = journal
        self.snapshots = snapshots
        self.limits = limits or Limits()
        self.judge = Judge(self.limits)
        self.counters = counters or Counters()
        self.schema = lineup.champion.bundle.manifest.plan.schema
        self._observe = observe
        self.states: dict[str, FeatureState] = {}
        self.experiment = ExperimentCount(self.limits.deadline_s, false_alarm_cost)
        self._unsettled = _Unsettled()
        self._dirty = False
        self.has_time = True
        self.overflow = Overflow(journal.path.with_name("overflow.log"))
        self.switch(lineup, self.prepare(lineup), now_us)
        postponed = [row.transaction_id for row in self.overflow.oldest(len(self.overflow))]
        if postponed:
            self.overflow.leave_out(journal.find(postponed).keys())

    def prepare(self, lineup: Lineup) -> dict[str, FeatureState]:
        """The states that a lineup needs and the engine does not keep yet, loaded; from any thread."""
        fresh = {}
        for bundle in (one.bundle for one in lineup.contenders):
            if bundle.state_id not in self.states and bundle.state_id not in fresh:
                begun = self.journal.activation(bundle.state_id)
                state = FeatureState(bundle, self.journal.newest_seq() if begun is None else begun)
                state.load(self.journal, self.snapshots)
                fresh[bundle.state_id] = state
        return fresh

    def switch(self, lineup: Lineup, fresh: dict[str, FeatureState], now_us: int) -> None:
        """From the next batch on this lineup decides; states that no one needs any more are let go."""
        self.settle()
        while self.states and self.overflow:
            self.catch_up()
        for state in fresh.values():
            state.follow(self.journal)
            if self.journal.activation(state.id) is None:
                self.journal.activate(state.id, state.begun, now_us)
        kept = {**self.states, **fresh}
        self.states = {one.bundle.state_id: kept[one.bundle.state_id] for one in lineup.contenders}
        self.schema = lineup.champion.bundle.manifest.plan.schema
        self._id_of = operator.attrgetter(self.schema.id)
        self._time_of = operator.attrgetter(self.schema.time)
        self._key_of = operator.attrgetter(self.schema.keys[0] if self.schema.keys else self.schema.id)
        self.lineup = lineup
        self.experiment.follow(lineup.experiment, self.journal, self.schema)

    def handle(self, batch: Arrivals, now_us: int) -> Answers:
        """Decide every new transaction and note every new outcome, in their order; answers in that order.

        A row that cannot be accepted gets its own error. When the batch as a whole fails, nothing of it is
        stored, the states are loaded anew before the next one, and the error is raised.
        """
        if self._dirty:
            self.reload()
        waited_ns, patience_ns = time.monotonic_ns() - batch.received_ns[0], batch.due_ns[0] - batch.received_ns[0]
        self.has_time = _SPARE * waited_ns < patience_ns
        sifted = self._sift(batch, now_us)
        self._shed(batch, sifted, now_us)
        if sifted.places:
            self._dirty = True
            self._take(batch, sifted, now_us)
            self._dirty = False
        for i, content in sifted.repeats:
            sifted.answers[i] = repeated(sifted.rows[sifted.ids[i]], content)
        return sifted.told()

    def catch_up(self, limit: int = CATCH_UP_ROWS) -> None:
        """Take some of the transactions that were decided without features into the features and the journal."""
        if self._dirty:
            self.reload()
        waiting = self.overflow.oldest(limit)
        if not waiting:
            return
        self._dirty = True
        events = [self.schema.restore(row.content) for row in waiting]
        known = {name: state.advance(events) for name, state in self.states.items()}
        features = known[self.lineup.champion.bundle.state_id].rows
        seq = self.journal.last_seq
        rows = [row._replace(seq=seq + 1 + n, features=features[n].tobytes()) for n, row in enumerate(waiting)]
        self.journal.append(DecisionBatch.of_rows(rows))
        self.overflow.forget(len(rows))
        for state in self.states.values():
            state.seq = self.journal.last_seq
        self._dirty = False

    def _catch_up_with(self, transaction_ids: Sequence[str]) -> None:
        """Take in what was postponed until none of these are among it."""
        while self.overflow and self.overflow.find(transaction_ids):
            self.catch_up()

    def reload(self) -> None:
        """The states as if nothing had ever failed."""
        for state in self.states.values():
            state.load(self.journal, self.snapshots)
        self._dirty = False

    def snapshot(self) -> None:
        """Save the states that are newer than their last snapshot, and wait for it."""
        if not self._dirty:
            for state in self.states.values():
                state.snapshot(self.snapshots, wait=True)

    def keep_up(self) -> None:
        """Between batches: a snapshot when enough has happened, and a fresh log file when it has grown large."""
        for state in () if self._dirty or self.snapshots.writing() else self.states.values():
            if state.events_since_snapshot >= SNAPSHOT_EVERY:
                state.snapshot(self.snapshots, wait=False)
            else:
                state.prepare(self.snapshots)
        self.journal.cut_log()

    def settle(self) -> None:
        """Count what has been decided, and have it observed: after some hundred decisions, or when you call it.

        Call it before you read the counters.
        """
        done, self._unsettled = self._unsettled, _Unsettled()
        if done.decisions:
            count_decisions(self.counters, done.decisions, done.variants)
            self.counters.observe_many(Stage.TOTAL, np.array(done.latencies_us))
        if done.queue_ns:
            self.counters.observe_many(Stage.QUEUE, np.array(done.queue_ns) // 1000)
        if done.seen:
            rows, scores = zip(*done.seen, strict=True)
            try:
                self._observe(np.concatenate(rows), np.concatenate(scores))
            except Exception:  # noqa: BLE001 - they are decided and stored
                _log.exception("features could not be observed")

    def close(self) -> None:
        """Save the states and release everything."""
        self.settle()
        self.judge.stop()
        self.snapshot()
        self.snapshots.close()
        self.overflow.close()
        self.journal.close()

    def _sift(self, batch: Arrivals, now_us: int) -> Sifted:
        """Answer what was decided before or cannot be accepted; tell the rest from repeats within the batch."""
        events = batch.events
        outcomes = [event.transaction_id for event in events if type(event) is Outcome]
        told = {}
        if outcomes:
            rows = self.journal.newest_outcomes(outcomes)
            told = {row.transaction_id: row.is_fraud for row in rows.values()}
        ids = list(map(self._id if outcomes else self._id_of, events))
        hashes = hash_texts(ids)
        if outcomes and self.overflow:
            self._catch_up_with(outcomes)
        sifted = Sifted(ids, hashes, self.journal.find(ids, hashes))
        if self.overflow:
            sifted.rows |= self.overflow.find(ids, hashes)
        time_of, encode, last_us = self._time_of, self.schema.encode, now_us + FARTHEST_AHEAD_US
        is_plain = not outcomes and not sifted.rows and max(map(time_of, events)) <= last_us
        if is_plain and len(different := set(ids)) == len(ids):  # nothing but new transactions, as nearly always
            sifted.first, sifted.places = different, range(len(events))
            sifted.contents = list(map(encode, events))  # type: ignore[arg-type]
            return sifted
        stored, first, places = sifted.rows, sifted.first, []
        for i, (event, transaction_id) in enumerate(zip(events, ids, strict=True)):
            if type(event) is Outcome:
                if self._is_news(i, event, told, sifted):
                    places.append(i)
                    sifted.contents.append(b"")
                continue
            content = encode(event)  # type: ignore[arg-type]
            if transaction_id in stored:
                sifted.answers[i] = repeated(stored[transaction_id], content)
            elif transaction_id in first:
                sifted.repeats.append((i, content))
            elif time_of(event) > last_us:
                sifted.answers[i] = self._too_early(time_of(event), now_us)
            else:
                first.add(transaction_id)
                places.append(i)
                sifted.contents.append(content)
        sifted.places = places
        return sifted

    def _too_early(self, time_us: int, now_us: int) -> InvalidInput:
        return InvalidInput(
            f"Expected a time at most a day ahead of now ({iso(now_us)}), got {iso(time_us)}", f"$.{self.schema.time}"
        )

    def _is_news(self, i: int, event: Outcome, told: dict[str, bool], sifted: Sifted) -> bool:
        """Whether this outcome was not told before; who tells it again is answered."""
        if told.get(event.transaction_id) == event.is_fraud:
            sifted.answers[i] = Noted(event.transaction_id, event.is_fraud, replayed=True)
            return False
        if event.transaction_id in told:
            sifted.corrections.add(i)
        told[event.transaction_id] = event.is_fraud
        return True

    def _shed(self, batch: Arrivals, sifted: Sifted, now_us: int) -> None:
        """Decide what has waited too long by the rules, on its plain fields; features and journal come later."""
        now_ns = time.monotonic_ns()
        if min(batch.due_ns) >= now_ns:
            return
        places = [i for i in sifted.places if batch.due_ns[i] < now_ns and type(batch.events[i]) is not Outcome]
        if not places:
            return
        if len(self.overflow) + len(places) > MOST_POSTPONED:
            raise Overloaded("More transactions wait to be recorded than there is room for; retry in a minute")
        late = sifted.take_out(places, batch)
        contender = self.lineup.champion
        thresholds = contender.fallback.thresholds
        scores = [contender.fallback.base] * len(places)
        if not contender.fallback.is_constant:
            log = self.states[contender.bundle.state_id].log_of(late.events, late.hashes)
            scores = contender.fallback.score(contender.plain_rows(log)).tolist()
        verdict = Verdict(None, OVERLOADED, self.judge.circuit)
        shed = self._rows(
            contender, verdict, thresholds, (True, 0), late, (True, b""), scores, (True, True), None, now_us
        )  # fmt: skip
        self.overflow.append(shed.batch)
        sifted.answer(places, shed.answers)
        if sifted.repeats:
            sifted.rows |= {row.transaction_id: row for row in shed.batch.rows()}
        self.counters.add(SHED[OVERLOADED], len(places))
        self._settle_soon(shed)
        outcomes = [sifted.ids[i] for i in sifted.places if type(batch.events[i]) is Outcome]
        if outcomes:  # of what was shed now, perhaps
            self._catch_up_with(outcomes)

    def _take(self, batch: Arrivals, sifted: Sifted, now_us: int) -> None:
        """Know, judge, record, answer."""
        begun_ns = time.monotonic_ns()
        places, new = sifted.places, sifted.new(batch)
        received_ns = new.received_ns
        known = {name: state.advance(new.events, new.hashes) for name, state in self.states.items()}
        features = known[self.lineup.champion.bundle.state_id]
        known_ns = time.monotonic_ns()
        seqs = self._number(new.events, sifted, features.known, now_us)
        paid = [n for n, event in enumerate(new.events) if type(event) is not Outcome]
        if len(paid) < len(seqs):
            seqs, places, new = at(paid, seqs), at(paid, places), new.some(paid)
        decided = self._judge(seqs, new, known, now_us) if paid else _Decided(NO_DECISIONS, [])
        judged_ns = time.monotonic_ns()
        self.journal.append(decided.batch, sifted.learned)
        sifted.answer(places, decided.answers)
        if sifted.repeats or self.lineup.experiment:
            sifted.rows |= {row.transaction_id: row for row in decided.batch.rows()}
        for state in self.states.values():
            state.seq = self.journal.last_seq
        self._count(received_ns, decided, sifted, (begun_ns, known_ns, judged_ns, time.monotonic_ns()))

    def _number(self, events: Sequence[Event], sifted: Sifted, remembered: NDArray[np.uint8], now_us: int) -> list[int]:
        """The number of every event, and answers to the outcomes: those of unknown transactions get no number."""
        seq, seqs = self.journal.last_seq, []
        for n, event in enumerate(events):
            if not isinstance(event, Outcome):
                seq += 1
            elif remembered[n] or event.transaction_id in sifted.rows or event.transaction_id in sifted.first:
                seq += 1
                told = OutcomeRow(seq, event.transaction_id, event.is_fraud, event.time_us, now_us)
                sifted.learned.append(told)
                if sifted.places[n] not in sifted.corrections:
                    sifted.first_told.append(told)
                sifted.answers[sifted.places[n]] = Noted(event.transaction_id, event.is_fraud, replayed=False)
            else:
                sifted.answers[sifted.places[n]] = NotFound(
                    f"No transaction {event.transaction_id!r} was decided here; outcomes of older transactions "
                    "belong into the history file of the next training"
                )
            seqs.append(seq)
        return seqs

    def _judge(self, seqs: Sequence[int], new: New, known: dict[str, Features], now_us: int) -> "_Decided":
        """Decide these transactions, the only ones that `known` has features of."""
        if self.lineup.experiment is None:
            return self._decide("a", seqs, new, slice(None), known, now_us)
        variants = [self.lineup.variant(self._key_of(event) or "") for event in new.events]
        decided: dict[int, tuple[DecisionRow, Decision]] = {}
        seen: list[_Seen] = []
        for variant in sorted(set(variants)):
            where = [n for n, one in enumerate(variants) if one == variant]
            found = self._decide(variant, at(where, seqs), new.some(where), where, known, now_us)
            seen += found.seen
            decided.update(zip(where, zip(found.batch.rows(), found.answers, strict=True), strict=True))
        rows, answers = zip(*(decided[n] for n in range(len(variants))), strict=True)
        return _Decided(DecisionBatch.of_rows(rows), list(answers), seen)

    def _decide(
        self, variant: str, seqs: Sequence[int], new: New, where: slice | list[int], known: dict[str, Features],
        now_us: int,
    ) -> "_Decided":  # fmt: skip
        """The transactions of one variant; `where` are theirs among the features."""
        contender = self.lineup.contender(variant)
        features = known[contender.bundle.state_id]
        values = np.ascontiguousarray(features.rows[where])
        verdict = self._ask(contender, values)
        if verdict.scores is None:
            thresholds, scores = contender.fallback.thresholds, contender.fallback.score(values).tolist()
        else:
            thresholds, scores = contender.thresholds, verdict.scores.tolist()
        if verdict.degraded in SHED:
            self.counters.add(SHED[verdict.degraded], len(seqs))
        blobs = values.view(f"V{values.shape[1] * values.itemsize}").ravel().tolist()
        late = features.late[where].astype(bool).tolist()
        decided = self._rows(
            contender, verdict, thresholds, (False, seqs), new, (False, blobs), scores, (False, late),
            variant if self.lineup.experiment else None, now_us,
        )  # fmt: skip
        if verdict.scores is None or contender is not self.lineup.champion:
            return decided
        return decided._replace(seen=[(values, verdict.scores)])

    def _rows(
        self, contender: Contender, verdict: Verdict, thresholds: Thresholds, seqs: Column,
        new: New, features: Column, scores: Sequence[float], late: Column, variant: str | None, now_us: int,
    ) -> "_Decided":  # fmt: skip
        """What the journal or the overflow stores, and the answers."""
        manifest, experiment = contender.bundle.manifest, self.lineup.experiment
        decided_ns = time.monotonic_ns()
        always, ids, size, circuit = itertools.repeat, new.ids, len(new.ids), str(verdict.circuit)
        latencies_us = [(decided_ns - received_ns) // 1000 for received_ns in new.received_ns]

        def decisions(
            names: "Iterable[str]", words: "list[str]", given: "Sequence[float]", took_us: "Iterable[int]"
        ) -> "list[Decision]":
            were_late = always(late[1]) if late[0] else late[1]
            return list(map(
                Decision, names, words, given, always(thresholds.review), always(thresholds), always(manifest.version),
                always(manifest.detector), map(FEATURES_STATE.__getitem__, were_late), always(size), took_us,
                always(False), always(verdict.degraded), always(circuit), always(variant),
            ))  # fmt: skip

        answers: Sequence[Decision]
        if verdict.degraded == OVERLOADED:
            few = list(set(scores))
            word_of = {score: _WORDS[thresholds.level(score)] for score in few}
            patterns = dict(zip(few, decisions(always(""), list(word_of.values()), few, always(0)), strict=True))
            answers = RuledDecisions(ids, scores, latencies_us, patterns)
            words = [word_of[score] for score in scores]
        else:
            words = [_WORDS[level] for level in map(thresholds.level, scores)]
            answers = decisions(ids, words, scores, latencies_us)
        columns: tuple[Column, ...] = (
            seqs, (False, ids), (False, new.contents), features, (False, scores), (False, words),
            (True, thresholds.review), (True, thresholds.block), (True, manifest.version), (True, manifest.detector),
            late, (True, variant), (True, experiment.id if variant and experiment else None),
            (True, circuit), (True, verdict.degraded), (True, size), (False, latencies_us), (True, now_us),
        )  # fmt: skip
        return _Decided(DecisionBatch(size, columns, new.hashes), answers)

    def _ask(self, contender: Contender, values: NDArray[np.float64]) -> Verdict:
        """What the model says about these rows, or that the fallback must."""
        if self.lineup.fallback_only:
            return Verdict(None, FALLBACK_ONLY, self.judge.circuit)
        return self.judge.ask(contender.scorer, values)

    def _count(
        self, received_ns: Sequence[int], decided: "_Decided", sifted: Sifted, times_ns: tuple[int, int, int, int],
    ) -> None:  # fmt: skip
        """Tell the experiment and the metrics what has happened."""
        if self.lineup.experiment is not None:
            self.experiment.note(decided.batch.rows(), sifted.first_told, sifted.rows)
        begun, known, judged, stored = times_ns
        count = self.counters
        count.observe(Stage.FEATURES, (known - begun) // 1000)
        count.observe(Stage.MODEL, (judged - known) // 1000)
        count.observe(Stage.COMMIT, (stored - judged) // 1000)
        count.add(Slot.JOURNAL_COMMITS)
        count.set(Slot.BREAKER_STATE, STATE_NUMBER[self.judge.circuit])
        count.set(Slot.BREAKER_OPENINGS, self.judge.openings)
        if decided.answers:
            count.observe_batch(len(decided.answers))
            self._unsettled.queue_ns += [begun - one for one in received_ns]
            self._settle_soon(decided)

    def _settle_soon(self, decided: "_Decided") -> None:
        unsettled, batch = self._unsettled, decided.batch
        unsettled.latencies_us += batch.values("latency_us")
        unsettled.decisions += batch.values("decision")
        unsettled.variants += batch.values("variant")
        unsettled.seen += decided.seen
        if len(unsettled.decisions) >= SETTLE_ROWS:
            self.settle()

    def _id(self, event: Event) -> str:
        return event.transaction_id if isinstance(event, Outcome) else self._id_of(event)


_Seen: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float32]]
"""Features (n, features) and scores (n,)."""


class _Decided(NamedTuple):
    """Transactions that were decided together, as they are stored, the answer to each, and what the champion saw."""

    batch: DecisionBatch
    answers: Sequence[Decision]
    seen: Sequence["_Seen"] = ()


class _Unsettled:
    """What has been decided and is not counted and observed yet: batch by batch it would cost several times as much."""

    def __init__(self) -> None:
        self.decisions: list[str] = []
        self.variants: list[str | None] = []
        self.latencies_us: list[int] = []
        self.queue_ns: list[int] = []
        self.seen: list[_Seen] = []
