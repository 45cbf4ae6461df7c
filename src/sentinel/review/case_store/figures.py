"""Figures of the work: how much waits and for how long, how much comes in and is done, and by whom."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from sentinel.review.case_store.desk import PAST
from sentinel.review.case_store.tables import case_events, cases
from sentinel.review.case_store.writing import OPENED
from sentinel.review.cases.moves import UNDONE, WAITING, Act, CaseState, Outcome

_HOUR_US = 3_600_000_000
AGES = (("under 1 h", _HOUR_US), ("1 to 4 h", 4 * _HOUR_US), ("4 to 24 h", 24 * _HOUR_US), ("1 to 3 d", 72 * _HOUR_US))
OLDEST = "over 3 d"


class OfAnalyst(msgspec.Struct, frozen=True):
    """What one person has taken and decided in the period, and has in hand now."""

    analyst: str
    taken: int
    decided: int
    fraud: int
    has: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a period that ends now.

    - `opened`, `decided`: cases, reopened ones counted again.  `closed`: ended without an outcome.
    - `waiting`, `in_hand`, `overdue`: now; `waiting_by_age`: what nobody has, by how long ago it was opened.
    - `loss`, `decimals`: what may be lost with all that is work, in units of 10^-decimals.
    - `hours_p50`, `hours_p90`: from opening to deciding, of what was decided; None of nothing.
    - `fraud_share`: of what was decided as fraud or legitimate; None of nothing.
    - `days_to_clear`: at the pace of the period, None where nothing was done.
    """

    since_us: int
    until_us: int
    opened: int
    decided: int
    closed: int
    waiting: int
    in_hand: int
    overdue: int
    waiting_by_age: dict[str, int]
    loss: int
    decimals: int
    hours_p50: float | None
    hours_p90: float | None
    fraud_share: float | None
    days_to_clear: float | None
    analysts: list[OfAnalyst]


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of all are not above (nearest rank); None of nothing.

    >>> quantile([3.0, 1.0, 2.0, 4.0], 0.5), quantile([1.0], 0.9), quantile([], 0.5)
    (2.0, 1.0, None)
    """
    if not values:
        return None
    rank = -(-round(share * 1000) * len(values) // 1000)
    return sorted(values)[max(rank, 1) - 1]


def figures(reader: sa.Connection, now_us: int, period_us: int) -> Figures:
    """The figures of the period before now."""
    since_us = now_us - period_us
    done = reader.execute(
        sa.select(cases.c.state, cases.c.outcome, cases.c.decided_by, cases.c.opened_us, cases.c.decided_us).where(
            cases.c.decided_us >= since_us
        )
    ).all()
    work = reader.execute(
        sa.select(cases.c.state, cases.c.holder, cases.c.opened_us, cases.c.due_us, cases.c.loss, cases.c.decimals)
        .where(cases.c.state.in_(sorted(UNDONE)))
    ).all()  # fmt: skip
    decided = [one for one in done if one.state == CaseState.DECIDED]
    outcomes = Counter(one.outcome for one in decided)
    known = outcomes[Outcome.FRAUD] + outcomes[Outcome.LEGITIMATE]
    hours = [(one.decided_us - one.opened_us) / _HOUR_US for one in decided]
    decimals = max((one.decimals for one in work), default=2)
    waits = [one for one in work if one.state in WAITING]
    happened = _happened(reader, since_us)
    return Figures(
        since_us=since_us, until_us=now_us,
        opened=sum(n for (what, _), n in happened.items() if what in (OPENED, PAST[Act.REOPEN])),
        decided=len(decided), closed=len(done) - len(decided), waiting=len(waits), in_hand=len(work) - len(waits),
        overdue=sum(one.due_us < now_us for one in work),
        waiting_by_age=_by_age([now_us - one.opened_us for one in waits]),
        loss=sum(one.loss * 10 ** (decimals - one.decimals) for one in work), decimals=decimals,
        hours_p50=quantile(hours, 0.5), hours_p90=quantile(hours, 0.9),
        fraud_share=outcomes[Outcome.FRAUD] / known if known else None,
        days_to_clear=len(work) * period_us / len(done) / (24 * _HOUR_US) if done else None,
        analysts=_by_analyst(decided, work, happened),
    )  # fmt: skip


def _happened(reader: sa.Connection, since_us: int) -> Counter[tuple[str, str]]:
    """How often what was done by whom."""
    asked = sa.select(case_events.c.what, case_events.c.who, sa.func.count().label("n"))
    rows = reader.execute(asked.where(case_events.c.at_us >= since_us).group_by(case_events.c.what, case_events.c.who))
    return Counter({(row.what, row.who): row.n for row in rows})


def _by_age(ages_us: Sequence[int]) -> dict[str, int]:
    """How many are of each age."""
    found = dict.fromkeys((*(name for name, _ in AGES), OLDEST), 0)
    for age_us in ages_us:
        found[next((name for name, below in AGES if age_us < below), OLDEST)] += 1
    return found


def _by_analyst(decided: Sequence[Any], work: Sequence[Any], happened: Counter[tuple[str, str]]) -> list[OfAnalyst]:
    taken = Counter({who: n for (what, who), n in happened.items() if what == PAST[Act.TAKE]})
    done = Counter(one.decided_by for one in decided)
    fraud = Counter(one.decided_by for one in decided if one.outcome == Outcome.FRAUD)
    has = Counter(one.holder for one in work if one.holder is not None)
    names = sorted({*taken, *done, *has}, key=lambda name: (-done[name], name))
    return [OfAnalyst(name, taken[name], done[name], fraud[name], has[name]) for name in names]
