"""A view in a SQL database: what is said alike to all of them. How one connects and inserts is in its own file."""

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import sqlalchemy as sa

from sentinel.errors import StorageProblem
from sentinel.policy.thresholds import Action
from sentinel.record.entries import OutcomeRow, RevokedRow
from sentinel.record.results import ResultRow
from sentinel.record.views import (
    MOST_ROWS,
    Counts,
    Days,
    DecisionQuery,
    LabelCounts,
    Page,
    RuleHits,
    Summed,
    SumsBegin,
    ViewMoved,
    ViewPosition,
    amount_index,
    day_sums,
    key_index,
    search,
    summed,
)
from sentinel.record.views.key_index import Driver
from sentinel.record.views.rows import Rows
from sentinel.record.views.search import Span
from sentinel.record.views.sieves import sieved, sieves_of
from sentinel.record.views.tables import (
    NOT_APPROVED,
    decisions,
    models,
    outcomes,
    progress,
    reasons,
    results,
    rule_hits,
    totals,
)

_AT_ONCE = 10_000  # values in one statement
_DECISION = decisions.c.keys().index("decision")
_AMOUNT = decisions.c.keys().index("amount")
_PRUNED = 16_384  # positions in one transaction
_GAP = 10_000  # positions without a model after which a new span of it begins

T = TypeVar("T")
_P = ParamSpec("_P")


def again(method: Callable[Concatenate[Any, _P], T]) -> Callable[Concatenate[Any, _P], T]:
    """Have a method of a view tried as its `_tried` tries what may be done again: all of these may."""

    @functools.wraps(method)
    def tried(self: Any, *args: _P.args, **kwargs: _P.kwargs) -> T:
        found: T = self._tried(lambda: method(self, *args, **kwargs))
        return found

    return cast("Callable[Concatenate[Any, _P], T]", tried)


class SqlView(ABC):
    """What every view in a SQL database does; see `View`."""

    def __init__(self, name: str) -> None:
        self.name = name
        """What people are told it is."""

    def _tried(self, call: Callable[[], T]) -> T:
        """What the call returns: by how many tries is the database's own matter."""
        return call()

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection to read with. Faults become StorageProblem."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[sa.Connection]:
        """One transaction, all of it or nothing."""

    @abstractmethod
    def _driver(self, connection: sa.Connection) -> Driver:
        """What is below a connection."""

    @abstractmethod
    def _insert(self, writer: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows that have a value for every column."""

    @abstractmethod
    def _make_room(self, writer: sa.Connection, rows: Rows) -> None:
        """Have everything there that these rows go into."""

    @abstractmethod
    def _drop_before(self, writer: sa.Connection, end: int) -> None:
        """Delete the decisions and key entries before a position."""

    @property
    @again
    def position(self) -> ViewPosition:
        """How far the view is."""
        with self._reading() as reader:
            return ViewPosition._make(reader.execute(sa.select(progress)).one())

    @again
    def project(self, rows: Rows, log_id: str, since: int, now_us: int) -> None:
        """Store the rows of all records from position `since` on, and move on behind them: both, or neither."""
        with self._writing() as writer:
            at = sa.and_(progress.c.position == since, progress.c.log_id.in_(("", log_id)))
            moved = progress.update().where(at).values(ViewPosition(log_id, rows.end, rows.chain, now_us)._asdict())
            if not writer.execute(moved).rowcount:
                other = writer.scalar(sa.select(progress.c.log_id)) not in ("", log_id)
                if other:
                    raise StorageProblem(
                        f"the view {self.name} belongs to another log; `sentinel views rebuild` rebuilds it"
                    )
                raise ViewMoved(f"another projector has written to the view {self.name}")
            self._make_room(writer, rows)
            self._insert(writer, decisions, rows.decisions)
            about = day_sums.touched(rows)
            known_before = day_sums.standing(writer, about)
            self._insert(writer, outcomes, rows.outcomes)
            self._take_back(writer, rows.revoked)
            self._insert(writer, reasons, rows.reasons)
            self._insert(writer, rule_hits, rows.rule_hits)
            self._insert(writer, results, rows.results)
            self._insert(writer, key_index.key_entries, list(zip(key_index.entries_of(rows).tolist(), strict=True)))
            amounts = amount_index.entries_of(rows.decisions, _AMOUNT)
            self._insert(writer, amount_index.amount_entries, list(zip(amounts, strict=True)))
            day_sums.add_decisions(self._driver(writer), writer, rows)
            day_sums.move(self._driver(writer), writer, known_before, day_sums.standing(writer, about))
            for version, span in rows.models.items():
                _extend(writer, version, *span)
            actions = Counter(map(itemgetter(_DECISION), rows.decisions))
            self._count(writer, actions | {"outcomes": len(rows.outcomes), "without_keys": rows.without_keys})

    @again
    def search(self, query: DecisionQuery) -> Page:
        """The newest decisions that fit. New rows do not change the pages that a cursor leads to."""
        with self._reading() as reader:
            position = reader.scalars(sa.select(progress.c.position)).one()
            found = (row for span in search.spans(reader, query) for row in self._find(reader, query, span))
            return search.page_of(found, query, position)

    @again
    def counts(self) -> Counts:
        """How many rows there are."""
        with self._reading() as reader:
            found: Counter[str] = Counter(dict(reader.execute(sa.select(totals)).all()))
        by_action = {str(action): found[action] for action in Action}
        return Counts(sum(by_action.values()), found["outcomes"], by_action, found["without_keys"])

    @again
    def outcomes_about(self, positions: Sequence[int]) -> dict[int, bool]:
        """Decision position -> whether it was fraud, by its newest outcome that counts, for those that have one."""
        counting = outcomes.c.revoked_at.is_(None)
        query = sa.select(outcomes.c.about, outcomes.c.is_fraud).where(counting).order_by(outcomes.c.position)
        with self._reading() as reader:
            found: dict[int, bool] = {}
            for n in range(0, len(positions), _AT_ONCE):
                among = outcomes.c.about.in_(positions[n : n + _AT_ONCE])
                found |= dict(reader.execute(query.where(among)).all())
            return found

    @again
    def rule_hits_between(self, from_us: int, to_us: int) -> list[RuleHits]:
        """By rule, what it held for among what was received in [from_us, to_us), by name."""
        with self._reading() as reader:
            begin, end = search.between(reader, from_us, to_us)
            known = _known(begin, end)
            decided = [
                sa.func.sum(sa.cast(decisions.c.decision == str(action), sa.Integer))
                for action in (Action.REVIEW, Action.BLOCK)
            ]
            query = (
                sa.select(
                    rule_hits.c.rule,
                    rule_hits.c.shadow,
                    sa.func.count(),
                    *decided,
                    sa.func.count(known.c.about),
                    sa.func.coalesce(sa.func.sum(sa.cast(known.c.is_fraud, sa.Integer)), 0),
                )
                .select_from(
                    rule_hits.join(decisions, decisions.c.position == rule_hits.c.position).outerjoin(
                        known, known.c.about == rule_hits.c.position
                    )
                )
                .where(rule_hits.c.position.between(begin, end - 1))
                .group_by(rule_hits.c.rule, rule_hits.c.shadow)
                .order_by(rule_hits.c.rule, rule_hits.c.shadow)
            )
            return [RuleHits._make(row) for row in reader.execute(query)]

    @again
    def alarms_between(self, from_us: int, to_us: int) -> dict[str, int]:
        """How many of what was received in [from_us, to_us) got each action but approve; none where it is none."""
        with self._reading() as reader:
            begin, end = search.between(reader, from_us, to_us)
            query = (
                sa.select(decisions.c.decision, sa.func.count())
                .where(NOT_APPROVED, decisions.c.position.between(begin, end - 1))
                .group_by(decisions.c.decision)
            )
            return dict(reader.execute(query).all())

    @again
    def labels_between(self, begin: int, end: int) -> LabelCounts:
        """What is known of the decisions from one position to another, by the newest outcome of each that counts."""
        known = _known(begin, end)
        lacks_outcome = (decisions.c.decision == str(Action.BLOCK)) & known.c.about.is_(None)
        query = (
            sa.select(
                sa.func.count(),
                sa.func.count(known.c.about),
                sa.func.coalesce(sa.func.sum(sa.cast(known.c.is_fraud, sa.Integer)), 0),
                sa.func.coalesce(sa.func.sum(sa.cast(lacks_outcome, sa.Integer)), 0),
            )
            .select_from(decisions.outerjoin(known, known.c.about == decisions.c.position))
            .where(decisions.c.position.between(begin, end - 1))
        )
        with self._reading() as reader:
            return LabelCounts._make(reader.execute(query).one())

    @again
    def reasons_about(self, positions: Sequence[int]) -> dict[int, str]:
        """Decision position -> the JSON of its reasons, for those that have some."""
        query = sa.select(reasons.c.about, reasons.c.why)
        with self._reading() as reader:
            found: dict[int, str] = {}
            for n in range(0, len(positions), _AT_ONCE):
                found |= dict(reader.execute(query.where(reasons.c.about.in_(positions[n : n + _AT_ONCE]))).all())
            return found

    @again
    def results_about(self, positions: Sequence[int]) -> dict[int, list[ResultRow]]:
        """Decision position -> what was told of it, oldest first, if anything was; the rows are without their ids."""
        query = sa.select(results).order_by(results.c.position)
        found: dict[int, list[ResultRow]] = {}
        with self._reading() as reader:
            for n in range(0, len(positions), _AT_ONCE):
                for row in reader.execute(query.where(results.c.about.in_(positions[n : n + _AT_ONCE]))):
                    found.setdefault(row.about, []).append(ResultRow(transaction_id="", **row._asdict()))
        return found

    @again
    def rules_at(self, positions: Sequence[int]) -> dict[int, list[tuple[str, bool]]]:
        """Decision position -> the rules that held for it, and whether as shadows, for those that have some."""
        query = sa.select(rule_hits.c.position, rule_hits.c.rule, rule_hits.c.shadow).order_by(rule_hits.c.rule)
        found: dict[int, list[tuple[str, bool]]] = {}
        with self._reading() as reader:
            for n in range(0, len(positions), _AT_ONCE):
                among = rule_hits.c.position.in_(positions[n : n + _AT_ONCE])
                for position, rule, shadow in reader.execute(query.where(among)):
                    found.setdefault(position, []).append((rule, shadow))
        return found

    @again
    def contents_at(self, positions: Sequence[int]) -> dict[int, str]:
        """Decision position -> the JSON of its transaction as it is kept, for those that are there."""
        query = sa.select(decisions.c.position, decisions.c.content)
        found: dict[int, str] = {}
        with self._reading() as reader:
            for n in range(0, len(positions), _AT_ONCE):
                found |= dict(reader.execute(query.where(decisions.c.position.in_(positions[n : n + _AT_ONCE]))).all())
        return found

    @again
    def outcomes(self, after: int, limit: int) -> list[OutcomeRow]:
        """The next outcomes, by position, after this one."""
        query = sa.select(outcomes).where(outcomes.c.position > after).order_by(outcomes.c.position).limit(limit)
        with self._reading() as reader:
            return [OutcomeRow._make(row) for row in reader.execute(query)]

    @again
    def summed_by_day(self, part: str, days: Days, mature_before: int, value: str | None = None) -> list[Summed]:
        """The sums of each day of a stretch, of a part or of one value of it."""
        with self._reading() as reader:
            return summed.by_day(reader, part, days, mature_before, value)

    @again
    def summed_by_value(self, part: str, days: Days, mature_before: int) -> list[Summed]:
        """The sums of each value of a part, over a stretch of days."""
        with self._reading() as reader:
            return summed.by_value(reader, part, days, mature_before)

    @again
    def sums_begin(self) -> SumsBegin | None:
        """Since when there are sums, None while there are none."""
        with self._reading() as reader:
            return summed.begin_of(reader)

    @again
    def prune(self, before: int) -> bool:
        """Delete what is older than this position, some thousands of rows of it; whether more is left to delete."""
        with self._writing() as writer:
            oldest = [writer.scalar(sa.select(sa.func.min(table.c.position))) for table in (decisions, outcomes)]
            end = min(before, min((one for one in oldest if one is not None), default=before) + _PRUNED)
            if any(one is not None and one < end for one in oldest):
                self._forget(writer, end)
        return end < before

    def _take_back(self, writer: sa.Connection, rows: Sequence[RevokedRow]) -> None:
        mark = (
            "UPDATE outcomes SET revoked_at = ? WHERE about = ? AND told_by = ? AND received_us >= ? "
            "AND received_us < ? AND position < ? AND revoked_at IS NULL"
        )
        which = [(one.position, one.about, one.revocation) for one in rows]
        values = [(at, about, of.told_by, of.from_us, of.to_us, of.before) for at, about, of in which]
        self._driver(writer).executemany(mark, values)

    def _count(self, writer: sa.Connection, more: dict[str, int]) -> None:
        add = "INSERT INTO totals VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET n = totals.n + excluded.n"
        self._driver(writer).executemany(add, more.items())

    def _forget(self, writer: sa.Connection, end: int) -> None:
        """Delete what is before this position."""
        old = decisions.c.position < end
        by_action = sa.select(decisions.c.decision, sa.func.count()).where(old).group_by(decisions.c.decision)
        gone: dict[str, int] = dict(writer.execute(by_action).all())
        nameless = sa.select(sa.func.count()).where(old, decisions.c.amount.is_(None))
        gone["without_keys"] = writer.scalars(nameless).one()
        gone["outcomes"] = writer.execute(outcomes.delete().where(outcomes.c.position < end)).rowcount
        self._count(writer, {what: -n for what, n in gone.items()})
        writer.execute(models.delete().where(models.c.last < end))
        writer.execute(reasons.delete().where(reasons.c.position < end))
        writer.execute(rule_hits.delete().where(rule_hits.c.position < end))
        writer.execute(results.delete().where(results.c.about < end))
        self._drop_before(writer, end)
        day_sums.forget_days(writer)

    def _find(self, reader: sa.Connection, query: DecisionQuery, span: Span) -> Iterator[Any]:
        sieves = sieves_of(self._driver(reader), query)
        if not sieves:
            yield from reader.execute(search.fitting(query, search.within(span)).limit(query.limit + 1))
            return
        waiting: list[int] = []
        for found in sieved(sieves, span):
            waiting += [] if isinstance(found, tuple) else found
            if isinstance(found, tuple) or len(waiting) > query.limit:
                yield from _at(reader, query, waiting)
                waiting = []
            if isinstance(found, tuple):
                yield from reader.execute(search.fitting(query, search.within(found)))
        yield from _at(reader, query, waiting)


def _at(reader: sa.Connection, query: DecisionQuery, positions: Sequence[int]) -> Iterator[Any]:
    """What fits among these positions, the newest first."""
    for n in range(0, len(positions), MOST_ROWS):
        among = decisions.c.position.in_(positions[n : n + MOST_ROWS])
        yield from reader.execute(search.fitting(query, among))


def _known(begin: int, end: int) -> sa.Subquery:
    """`is_fraud` of the decisions (`about`) of a span that have an outcome: the newest of each that counts."""
    counting = outcomes.c.revoked_at.is_(None) & outcomes.c.about.between(begin, end - 1)
    newest = sa.select(sa.func.max(outcomes.c.position)).where(counting).group_by(outcomes.c.about)
    return sa.select(outcomes.c.about, outcomes.c.is_fraud).where(outcomes.c.position.in_(newest)).subquery()


def _extend(writer: sa.Connection, version: str, first: int, last: int) -> None:
    """A model decided from `first` to `last`, too."""
    near = sa.and_(models.c.model_version == version, models.c.last >= first - _GAP)
    if not writer.execute(models.update().where(near).values(last=last)).rowcount:
        writer.execute(models.insert().values(model_version=version, begin=first, last=last))
