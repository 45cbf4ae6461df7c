"""The witness: reads the log and remembers all of it, and knows by itself what has to stand there and why."""

import copy
import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import oracle
import shop

from sentinel.events.times import duration_us
from sentinel.model.bundle import Bundle
from sentinel.policy.deployment import Deployment
from sentinel.policy.thresholds import ACTIONS, Thresholds
from sentinel.record.entries import (
    NO_DECISION,
    ContextRow,
    DecisionRow,
    Erased,
    OutcomeRow,
    Revocation,
    RevokedRow,
    Standing,
    activation_in,
    context_rows,
    decision_rows,
    outcome_rows,
    revoked_in,
    revoked_rows,
)
from sentinel.record.feature_state import FeatureState
from sentinel.record.log import Follower, Kind, LogReader, Record
from sentinel.record.subjects import SubjectKeys

_TAKEN = (Kind.DECIDED, Kind.OUTCOMES, Kind.REVOKED, Kind.CONTEXT)
_MOST_OF_ONE = 16
_decode_audit = msgspec.msgpack.Decoder(tuple[int, dict[str, Any]]).decode


def said(one: Any) -> tuple[Any, ...]:
    """What an outcome says, and who says so."""
    return one.is_fraud, one.source, one.told_by, one.reason


def bare(content: bytes) -> bytes:
    """A transaction without what was sealed of it: that is another text under another key."""
    fields = msgspec.json.decode(content)
    fields.pop("email_sealed", None)
    return msgspec.json.encode(fields)


class Oracle:
    """Features by brute force, of one plan, after the shop's history."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan
        self._horizons = oracle.horizons_of(plan)
        self._keys: dict[tuple[Any, ...], oracle.Key] = {}
        self._labels: dict[str, int] = {}
        self._most_ahead = duration_us(plan.schema.max_ahead)
        self._last: dict[str, Any] = {}
        self._seen: dict[Any, oracle.Key] = {}

    def learn_history(self) -> "Oracle":
        for row in shop.history().iter_rows(named=True):
            fields = {name: row[name] for name in ("amount", "card", "shop", "channel", "risk")}
            self.take(row["transaction_id"], row["event_time"], row["event_time"], fields)
            self.learn(row["transaction_id"], is_fraud=row["is_fraud"])
        return self

    def copy(self) -> "Oracle":
        other = copy.copy(self)
        other._keys = {name: replace(key, events=[*key.events]) for name, key in self._keys.items()}
        other._labels = dict(self._labels)
        return other

    def learn(self, transaction_id: str, *, is_fraud: bool) -> None:
        self._labels[transaction_id] = int(is_fraud)

    def hear(self, row: OutcomeRow) -> None:
        """An outcome, which counts if its source is trusted."""
        if self._trusts(row.source):
            self.learn(_named(row.transaction_id, row.about), is_fraud=row.is_fraud)

    def unlearn(self, row: RevokedRow, sources: Sequence[str], newest: int) -> None:
        """Some are taken back: what is left counts, or nothing.

        Features know a transaction by its id: of one that was decided again they correct the `newest`.
        """
        if any(map(self._trusts, sources)):
            left = [one.is_fraud for one in row.standing if self._trusts(one.source)]
            self.learn(_named(row.transaction_id, newest), is_fraud=bool(left) and left[-1])

    def _trusts(self, source: str) -> bool:
        return self.plan.trusts is msgspec.UNSET or source in self.plan.trusts

    def take(self, transaction_id: str, time_us: int, received_us: int, fields: dict[str, Any]) -> None:
        """See `oracle.replay`: each key has a clock, which a key that was forgotten begins anew."""
        at = min(time_us, received_us + self._most_ahead)
        self._last = {"id": transaction_id, "time": time_us, "received": received_us, "at": at, **fields}
        self._seen = {}
        for group, horizon in self._horizons.items():
            name = (group, *(fields[one] for one in group[0]))
            if None in name:
                continue
            known = self._keys.get(name)
            if known is None or received_us - known.heard > horizon:
                known = self._keys[name] = oracle.Key(at)
            known.clock, known.heard = max(known.clock, at), received_us
            known.events.append({**self._last, "counted_at": known.clock})
            self._seen[group] = known

    def features(self) -> list[float]:
        """Those of the transaction that was taken last."""
        return [oracle.value(self.plan, one, self._last, self._seen, self._labels) for one in self.plan.features]


class Models:
    """The two bundles, loaded once, and what is the same in all runs."""

    def __init__(self, folder: Path, load: Any) -> None:
        self.folder = folder
        self._load = load
        self.bundles: dict[str, Bundle] = {name: load(folder / name) for name in ("v1", "v2")}
        self.by_state = {one.state_id: one for one in self.bundles.values()}
        self._oracles = {name: Oracle(one.manifest.plan).learn_history() for name, one in self.by_state.items()}
        self.schema = self.bundles["v1"].manifest.plan.schema
        assert len(self.by_state) == 2

    def load(self, path: Path, _trusted: object = None) -> Bundle:
        """Instead of `load_bundle`: a bundle does not change."""
        return self.bundles.get(path.name) or self._load(path)

    def oracle(self, state_id: str) -> Oracle:
        return self._oracles[state_id].copy()


class Kept:
    """A state since its activation: by brute force, and by the kernel from the beginning of the log."""

    def __init__(self, models: Models, state_id: str, begin: int) -> None:
        self.begin = begin
        self.oracle = models.oracle(state_id)
        self.replay = FeatureState(models.by_state[state_id], begin)
        self.replay.store = self.replay.bundle.new_store()


class Witness:
    """Everything that was ever seen to be durable; what is wrong raises AssertionError."""

    def __init__(self, models: Models, remember_us: int, keep_us: int | None) -> None:
        self.models, self.remember_us, self.keep_us = models, remember_us, keep_us
        self.records: list[Record] = []
        self.end = 1
        self.decisions: dict[str, DecisionRow] = {}
        self.all_decisions: list[DecisionRow] = []
        self.outcomes: dict[str, list[OutcomeRow]] = defaultdict(list)
        self.all_outcomes: list[OutcomeRow] = []
        self.kept: dict[str, Kept] = {}
        self.revision = 0
        self.deployment: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(Deployment()))
        self.audited = 0
        """Where the newest entry of the audit is."""

        self.revoked: dict[int, int] = {}
        """By the position of an outcome, that of the entry which took it back."""

        self.maybe_revoked: set[tuple[str, str]] = set()
        """By whom outcomes were told that somebody has asked to take back, and why."""

        self._received_us: dict[int, int] = {}  # of decisions
        self.maybe: dict[str, Counter[bytes]] = defaultdict(Counter)
        """How many requests there are, by id and content, of which it was never said that they are not stored."""

        self.maybe_told: dict[str, Counter[tuple[Any, ...]]] = defaultdict(Counter)
        """The same of outcomes."""

        self.heard: dict[str, ContextRow] = {}
        self.all_heard: list[ContextRow] = []
        self.maybe_heard: dict[str, Counter[tuple[bytes, str]]] = defaultdict(Counter)
        """The same of context events, by content and teller."""

        self.values = 0
        self.sealed: dict[tuple[str, str], tuple[int, str]] = {}
        """By card and sealed text, the last sealing that gave it, and what was sealed."""

        self.sealings: list[str] = []
        """The card of each sealing."""

        self.maybe_erased: dict[str, int] = {}
        self.erased: dict[str, int] = {}
        """By card, how many sealings there were when it was to be erased; and when that was acknowledged."""

    def follow(self, log: LogReader) -> None:
        """Take what is new."""
        if log.durable > self.end:
            for page in Follower(log, self.end).rest():
                for record in page:
                    self._take(record)

    def compare(self, log: LogReader, latest_us: int) -> None:
        """What was durable once is as it was, but for what may have left."""
        assert log.durable >= self.end, f"the log ends at {log.durable}, and was durable up to {self.end}"
        self.follow(log)
        gone = [record for record in self.records if record.position < log.first]
        if gone:
            assert self.keep_us is not None
            assert gone[-1].received_us <= latest_us - self.keep_us, "it left too early"
        here = [record for page in Follower(log, log.first).rest() for record in page]
        assert here == self.records[len(gone) :], "what was durable has changed"

    def _take(self, record: Record) -> None:
        assert record.position >= self.end
        if self.records:
            assert record.received_us >= self.records[-1].received_us, "the log's clock ran backwards"
        self.records.append(record)
        self.end = record.position + record.rows
        if record.kind == Kind.DECIDED:
            self._take_decisions(record)
        elif record.kind == Kind.OUTCOMES:
            self._take_outcomes(record)
        elif record.kind == Kind.UNMATCHED:
            self._take_unmatched(record)
        elif record.kind == Kind.REVOKED:
            self._take_revoked(record)
        elif record.kind == Kind.CONTEXT:
            self._take_context(record)
        elif record.kind == Kind.ACTIVATION:
            self._activate(record)
        elif record.kind == Kind.AUDIT:
            previous, _ = _decode_audit(record.body)
            assert previous == self.audited, f"the audit at {record.position} lacks what is before it"
            self.audited = record.position
        elif record.kind == Kind.APPLIED:
            self._apply(record)
        elif record.kind == Kind.ERASED:
            of = msgspec.msgpack.decode(record.body, type=Erased)
            assert of.key == "card", f"{of} is no subject"
            assert of.value in self.maybe_erased, f"nobody has asked to erase {of}"
        else:
            assert record.kind == Kind.HEARTBEAT, record
        for one in self.kept.values():
            if record.position >= one.begin and record.kind in _TAKEN:
                one.replay.take(record)

    def _apply(self, record: Record) -> None:
        """A change: its entry of the audit stands before it, and says what is another by it."""
        before, after = self.deployment, msgspec.json.decode(record.body)
        revision = after["revision"]
        assert revision == self.revision + 1, f"revision {revision} follows {self.revision}"
        assert len(self.records) > 1, "the first entry is a change"
        assert self.records[-2].position == self.audited, f"revision {revision} is not in the audit"
        _, change = _decode_audit(self.records[-2].body)
        names = [name for name in after if after[name] != before[name]]
        for side, said_so in ((before, change["before"]), (after, change["after"])):
            if not said_so.endswith(" more)"):
                assert msgspec.json.decode(said_so) == {name: side[name] for name in names}, f"{said_so}, not {side}"
        assert change["who"], "nobody has changed it"
        self.revision, self.deployment = revision, after

    def _activate(self, record: Record) -> None:
        activation = activation_in(record)
        if activation.state_id in self.kept:
            assert self.kept[activation.state_id].begin == activation.begin, "a state began twice"
            return
        kept = self.kept[activation.state_id] = Kept(self.models, activation.state_id, activation.begin)
        for earlier in self.records[:-1]:
            if earlier.position < activation.begin:
                continue
            if earlier.kind == Kind.DECIDED:
                for row in decision_rows(earlier):
                    self._show(kept, row)
            elif earlier.kind == Kind.OUTCOMES:
                for row in outcome_rows(earlier):
                    kept.oracle.hear(row)
            elif earlier.kind == Kind.REVOKED:
                for row, sources in zip(revoked_rows(earlier), revoked_in(earlier).sources, strict=True):
                    if row.about != NO_DECISION:
                        kept.oracle.unlearn(row, sources, self._newest(row))
            kept.replay.take(earlier)

    def _take_decisions(self, record: Record) -> None:
        rows = decision_rows(record)
        for row in rows:
            before = self.decisions.get(row.transaction_id)
            if before is not None:
                age_us = row.received_us - before.received_us
                assert age_us > self.remember_us, f"{row.transaction_id} is decided twice"
            assert self.maybe[row.transaction_id][bare(row.content)] > 0, (
                f"{row.transaction_id} is stored at {row.position}, and all who sent it were told that nothing was"
            )
            self.decisions[row.transaction_id] = row
            self.all_decisions.append(row)
            self._received_us[row.position] = row.received_us
            self._check_row(row)

    def _check_row(self, row: DecisionRow) -> None:
        decider = row.decider
        assert decider.state_id in self.kept, f"{decider.state_id} decides and was not activated"
        for kept in self.kept.values():
            self._show(kept, row)
        found = row.features.tolist()
        expected = self.kept[decider.state_id].oracle.features()
        assert len(found) == len(expected)
        for feature, one, other in zip(row.features, found, expected, strict=True):
            assert one == other or (math.isnan(one) and math.isnan(other)), (
                f"{row.transaction_id} at {row.position}: {found}, by brute force {expected} ({feature})"
            )
        self.values += len(found)
        if decider.degraded is None:
            bundle = self.models.bundles[decider.model_version]
            score = float(bundle.scorer.score(row.features.reshape(1, -1))[0])
            assert score == row.fraud_probability, f"{row.transaction_id} has another score than its features"
        level = Thresholds(decider.review, decider.block, decider.challenge).levels(np.array([row.fraud_probability]))[
            0
        ]
        assert row.decision == str(ACTIONS[level]), f"{row.transaction_id} has another action than its score"

    def _show(self, kept: Kept, row: DecisionRow) -> None:
        if row.position >= kept.begin:
            event = msgspec.to_builtins(self.models.schema.restore(row.content))
            fields = {name: event.get(name) for name in ("amount", "card", "shop", "channel", "risk")}
            kept.oracle.take(_named(row.transaction_id, row.position), event["event_time"], row.received_us, fields)

    def _take_outcomes(self, record: Record) -> None:
        for row in outcome_rows(record):
            decision = self.decisions.get(row.transaction_id)
            assert decision is not None, "an outcome of nothing"
            assert decision.position == row.about, "an outcome of another decision"
            assert self.maybe_told[row.transaction_id][said(row)] > 0, (
                f"an outcome of {row.transaction_id} is stored at {row.position}, and nobody was told that"
            )
            known = self._counting(row)
            mine = [one for one in known if one.told_by == row.told_by]
            assert len(mine) < _MOST_OF_ONE, f"{row.told_by} has told too many outcomes of {row.transaction_id}"
            assert not mine or said(mine[-1])[:3] != said(row)[:3] or known[-1].is_fraud != row.is_fraud, "told twice"
            self.outcomes[row.transaction_id].append(row)
            self.all_outcomes.append(row)
            for kept in self.kept.values():
                if row.position >= kept.begin:
                    kept.oracle.hear(row)

    def _take_unmatched(self, record: Record) -> None:
        """Of what was never decided, or was forgotten by then; no feature hears of it."""
        for row in outcome_rows(record):
            decision = self.decisions.get(row.transaction_id)
            is_forgotten = decision is None or record.received_us - decision.received_us >= self.remember_us
            assert is_forgotten, f"{row.transaction_id} was decided, and its outcome is of nothing"
            assert row.about == NO_DECISION
            assert self.maybe_told[row.transaction_id][said(row)] > 0, (
                f"an outcome of {row.transaction_id} is kept at {row.position}, and nobody was told that"
            )
            known = [one for one in self._counting(row) if record.received_us - one.received_us < self.remember_us]
            mine = [one for one in known if one.told_by == row.told_by]
            assert len(mine) < _MOST_OF_ONE, f"{row.told_by} has told too many outcomes of {row.transaction_id}"
            assert not mine or said(mine[-1])[:3] != said(row)[:3] or known[-1].is_fraud != row.is_fraud, "told twice"
            self.outcomes[row.transaction_id].append(row)

    def _take_context(self, record: Record) -> None:
        for row in context_rows(record):
            before = self.heard.get(row.event_id)
            if before is not None:
                assert row.received_us - before.received_us > self.remember_us, (
                    f"the event {row.event_id} is stored twice"
                )
            assert self.maybe_heard[row.event_id][bare(row.content), row.told_by] > 0, (
                f"the event {row.event_id} is stored at {row.position}, and all who sent it were told that nothing was"
            )
            self.heard[row.event_id] = row
            self.all_heard.append(row)

    def _counting(self, about: OutcomeRow | RevokedRow) -> list[OutcomeRow]:
        """The outcomes of the same decision that were not taken back."""
        known = self.outcomes[about.transaction_id]
        return [one for one in known if one.about == about.about and one.position not in self.revoked]

    def _take_revoked(self, record: Record) -> None:
        """What is taken back was asked to be, and what it says of the rest is so; unless the id may be forgotten."""
        found = revoked_in(record)
        of = found.revocation
        assert (of.told_by, of.reason) in self.maybe_revoked, f"nobody has asked for the revocation {of}"
        for row, sources in zip(revoked_rows(record), found.sources, strict=True):
            counting = self._counting(row)
            gone = [one for one in counting if _is_covered(one, of)]
            left = [one for one in counting if one not in gone]
            is_unmatched = row.about == NO_DECISION
            is_old = not is_unmatched and record.received_us - self._received_us[row.about] >= self.remember_us
            newest = {one.source: one for one in left}
            in_order = sorted(newest.values(), key=lambda one: one.position)
            expected = tuple(Standing(one.source, one.is_fraud, one.time_us) for one in in_order)
            if not is_old:
                assert gone, f"nothing of {row.transaction_id} is left to take back"
                of_features = () if is_unmatched else tuple(sorted({one.source for one in gone}))
                assert sources == of_features, f"other sources of {row.transaction_id}"
                assert row.standing == expected, f"what counts of {row.transaction_id} is not what is left"
            self.revoked |= {one.position: row.position for one in gone}
            if is_unmatched:
                continue
            newest_at = self._newest(row)
            if newest_at != row.about and record.received_us - self._received_us[newest_at] < self.remember_us:
                assert not sources, f"features know {row.transaction_id} as it was decided again"
            for kept in self.kept.values():
                if row.position >= kept.begin:
                    kept.oracle.unlearn(row, sources, newest_at)

    def _newest(self, row: RevokedRow) -> int:
        """The last decision of its id at that time."""
        mine = (one.position for one in self.all_decisions if one.transaction_id == row.transaction_id)
        return max(position for position in mine if position < row.position)

    def check_revoked(self, revocation: Revocation, first: int) -> None:
        """Whoever was told that all is taken back: none of it counts any more, of what the log still has."""
        left = [
            one
            for one in self.all_outcomes
            if one.position >= first and _is_covered(one, revocation) and one.position not in self.revoked
        ]
        assert not left, f"{left} should have been taken back by {revocation}"

    def check_personal(self, subjects: SubjectKeys, first: int) -> int:
        """What is personal can be read as long as nobody has it erased, and never once that is acknowledged."""
        checked = 0
        for row in (*self.all_decisions, *self.all_heard):
            text = msgspec.json.decode(row.content).get("email_sealed") if row.position >= first else None
            if text is None:
                continue
            card = msgspec.json.decode(row.content)["card"]
            last, plain = self.sealed[card, text]
            found = subjects.opened(f"card={card}", "email", text)
            assert found in (None, plain), f"the entry at {row.position} has {found!r}, and {plain!r} was sent"
            if last >= self.maybe_erased.get(card, 0):
                assert found is not None, f"what is personal at {row.position} is lost"
            if last < self.erased.get(card, 0):
                assert found is None, f"what is personal at {row.position} was erased, and is here"
            checked += 1
        return checked

    def check_state(self, state: FeatureState) -> None:
        """A state in memory is that of the log from its beginning, up to the last bit."""
        kept = self.kept.get(state.id)
        assert kept is not None, f"{state.id} was not activated"
        assert state.begin == kept.begin, f"{state.id} begins at {state.begin}, not {kept.begin}"
        assert held(state) == held(kept.replay), f"the state {state.id} at {state.position} is not that of the log"

    def check_view(self, path: Path, first: int) -> int:
        """A view has what the log has, up to its position; which is returned."""
        with closing(sqlite3.connect(path)) as view:
            position = view.execute("SELECT position FROM progress").fetchone()[0]
            pruned = view.execute("SELECT min(position) FROM decisions").fetchone()[0] or 0
            rows = view.execute(
                "SELECT position, transaction_id, decision, fraud_probability, content FROM decisions "
                "WHERE position >= ? ORDER BY position",
                (first,),
            ).fetchall()
            told = view.execute(
                "SELECT position, transaction_id, is_fraud, about, source, told_by, reason, revoked_at FROM outcomes "
                "WHERE position >= ? ORDER BY position",
                (first,),
            ).fetchall()
            totals = dict(view.execute("SELECT what, n FROM totals"))
            counted = dict(view.execute("SELECT decision, count(*) FROM decisions GROUP BY decision"))
        assert position <= self.end
        assert rows == [
            (one.position, one.transaction_id, one.decision, one.fraud_probability, one.content.decode())
            for one in self.all_decisions
            if first <= one.position < position
        ], f"the view at {position} does not have the decisions of the log (it has them from {pruned} on)"
        assert told == [
            (
                one.position,
                one.transaction_id,
                one.is_fraud,
                one.about,
                one.source,
                one.told_by,
                one.reason,
                self._revoked_by(one, position),
            )
            for one in self.all_outcomes
            if first <= one.position < position
        ], f"the view at {position} does not have the outcomes of the log"
        assert {what: n for what, n in totals.items() if n and what in map(str, ACTIONS)} == counted
        return position

    def _revoked_by(self, row: OutcomeRow, before: int) -> int | None:
        """Which entry before a position has taken it back."""
        at = self.revoked.get(row.position)
        return at if at is not None and at < before else None

    def check_shadow(self, path: Path, version: str) -> int:
        """A shadow has a score of every decision that it has read, once, and the right one; how many."""
        with closing(sqlite3.connect(path)) as scores:
            found = scores.execute("SELECT begun, seq FROM shadows WHERE model_version = ?", (version,)).fetchone()
            rows = scores.execute(
                "SELECT seq, transaction_id, fraud_probability FROM shadow_scores WHERE model_version = ? ORDER BY seq",
                (version,),
            ).fetchall()
        if found is None or not rows:
            return 0
        (begun, seq), first = found, rows[0][0]
        expected = [one for one in self.all_decisions if first <= one.position < seq]
        assert [row[:2] for row in rows] == [(one.position, one.transaction_id) for one in expected]
        bundle = self.models.bundles[version]
        state = FeatureState(bundle, begun)
        state.store = bundle.new_store()
        scored: dict[int, float] = {}
        for record in self.records:
            if begun <= record.position < seq:
                features = state.take(record)
                if features is not None:
                    values = bundle.scorer.score(features.rows).tolist()
                    scored |= {record.position + n: value for n, value in enumerate(values)}
        assert [row[2] for row in rows] == [scored[row[0]] for row in rows], f"the shadow {version} scored otherwise"
        return len(rows)


def _named(transaction_id: str, position: int) -> str:
    """An id that was forgotten and decided again is another transaction."""
    return f"{transaction_id}@{position}"


def _is_covered(row: OutcomeRow, of: Revocation) -> bool:
    is_within = of.from_us <= row.received_us < of.to_us and row.position < of.before
    return is_within and row.told_by == of.told_by


def held(state: FeatureState) -> dict[str, list[bytes]]:
    """All that a state knows."""
    store = state.store
    assert store is not None
    return {by: sorted(store.export(by, store.keys_of(by))) for by in store.groups}
