"""The search for decisions: what can be said to any database. Keys are found by each in its own way."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec
import sqlalchemy as sa

from sentinel.policy.results import AFTER, BEGINS, State
from sentinel.policy.thresholds import Action
from sentinel.record.views import LAST, DecisionQuery, ListedDecision, Page
from sentinel.record.views.tables import DEGRADED, NOT_APPROVED, decisions, models, results, rule_hits

Span = tuple[int, int]
"""Positions from the first up to the second, without it."""

_keys = msgspec.json.Decoder(dict[str, str | None]).decode
_REACHED = frozenset(state for after in AFTER.values() for state in after.values())
_NEVER_APPROVED = frozenset(State) - {State.APPROVED, State.CAPTURED, State.REFUNDED}
"""Those in which no transaction stands that was approved at once."""

_later = results.alias("later")
_newest_state = (
    sa.select(results.c.state)
    .where(results.c.about == decisions.c.position)
    .order_by(results.c.position.desc())
    .limit(1)
    .scalar_subquery()
)
_LISTED = [
    _newest_state.label(name) if name == "state" else decisions.c[name] for name in ListedDecision.__struct_fields__
]


def spans(reader: sa.Connection, query: DecisionQuery) -> list[Span]:
    """Where decisions that fit can be, newest first: times grow with positions, and models have theirs."""
    begin, end = 0, LAST if query.before is None else query.before
    if query.from_us is not None:
        begin = _first_since(reader, query.from_us)
    if query.to_us is not None:
        end = min(end, _first_since(reader, query.to_us))
    if query.model_version is None:
        return [(begin, end)]
    of_model = sa.select(models.c.begin, models.c.last).where(models.c.model_version == query.model_version)
    found = reader.execute(of_model.where(models.c.last >= begin).order_by(models.c.begin.desc())).all()
    return [(max(begin, first), min(end, last + 1)) for first, last in found]


def between(reader: sa.Connection, from_us: int, to_us: int) -> Span:
    """Where decisions are that were received in [from_us, to_us)."""
    return _first_since(reader, from_us), _first_since(reader, to_us)


def _first_since(reader: sa.Connection, received_us: int) -> int:
    """The position from which on decisions were received then or later."""
    newest = reader.scalar(sa.select(sa.func.max(decisions.c.position)))
    oldest = reader.scalar(sa.select(sa.func.min(decisions.c.position)))  # with the other one it would read all
    times = sa.select(decisions.c.received_us).order_by(decisions.c.position).limit(1)

    def received_at(position: int) -> int:
        found: int = reader.scalars(times.where(decisions.c.position >= position)).one()
        return found

    if oldest is None or newest is None:
        return 0
    places: int = bisect_left(range(oldest, newest + 1), received_us, key=received_at)
    return places + int(oldest)


def rare(query: DecisionQuery) -> list[sa.TextClause | sa.ColumnElement[bool]]:
    """The conditions that an index answers, in the words of that index."""
    found: list[Any] = [DEGRADED] if query.degraded else []
    if query.action not in (None, Action.APPROVE):
        found += [NOT_APPROVED, decisions.c.decision == str(query.action)]
    if query.rule is not None:
        held = sa.and_(rule_hits.c.position == decisions.c.position, rule_hits.c.rule == query.rule)
        found.append(sa.exists().where(held))
    if query.state is not None and query.state is not State.APPROVED:
        found += [_stands(query.state), *([NOT_APPROVED] if query.state in _NEVER_APPROVED else [])]
    return found


def _stands(state: State) -> sa.ColumnElement[bool]:
    """Whether a transaction stands there: its newest result has led there, or it began there and has none."""
    is_newest = ~sa.exists().where(_later.c.about == results.c.about, _later.c.position > results.c.position)
    came = decisions.c.position.in_(sa.select(results.c.about).where(results.c.state == str(state), is_newest))
    has_none = ~sa.exists().where(results.c.about == decisions.c.position)
    began = [sa.and_(decisions.c.decision == str(one), has_none) for one, begin in BEGINS.items() if begin == state]
    return sa.or_(*began, *([came] if state in _REACHED else []))


def fitting(query: DecisionQuery, where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The newest decisions among those in `where` that fit, whatever their keys."""
    conditions = [where, *rare(query)]
    if query.action is not None:
        conditions.append(decisions.c.decision == str(query.action))
    if query.state is State.APPROVED:
        conditions.append(_stands(query.state))
    if query.model_version is not None:
        conditions.append(decisions.c.model_version == query.model_version)
    if query.least_amount is not None:
        conditions.append(decisions.c.amount >= query.least_amount)
    if query.most_amount is not None:
        conditions.append(decisions.c.amount <= query.most_amount)
    return sa.select(*_LISTED).where(*conditions).order_by(decisions.c.position.desc())


def within(span: Span) -> sa.ColumnElement[bool]:
    """The decisions of a span."""
    return sa.and_(decisions.c.position >= span[0], decisions.c.position < span[1])


def page_of(found: Iterable[Any], query: DecisionQuery, position: int) -> Page:
    """The page from rows of `fitting`, newest first, of which those with other keys are left out."""
    rows = list(islice(_listed(found, query), query.limit + 1))
    more = len(rows) > query.limit
    return Page(rows[: query.limit], f"{rows[query.limit - 1].position:x}" if more else None, position)


def _listed(found: Iterable[Any], query: DecisionQuery) -> Iterator[ListedDecision]:
    for row in found:
        keys = {name: value for name, value in _keys(row.keys).items() if value is not None}
        if query.keys.items() <= keys.items():
            state = row.state or BEGINS[Action(row.decision)]
            yield ListedDecision(**row._asdict() | {"keys": keys, "state": str(state)})
