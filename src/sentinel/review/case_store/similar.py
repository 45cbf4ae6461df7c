"""Similar cases: decided ones that share signs with a case, and how they were decided."""

from collections import defaultdict
from typing import NamedTuple

import sqlalchemy as sa

from sentinel.review.case_store.case import COLUMNS, Case, case_in, signs_of
from sentinel.review.case_store.tables import case_signs, cases
from sentinel.review.cases.likeness import Alike, most_alike
from sentinel.review.cases.moves import CaseState

MOST_SIMILAR = 5
"""Cases that are shown with one."""

LOOKED_AT = 500
"""The newest decided cases that are compared: what was fraud a year ago looks different today."""


class Similar(NamedTuple):
    """A decided case, and what it has in common."""

    case: Case
    alike: Alike


def similar_to(reader: sa.Connection, number: int, most: int) -> list[Similar]:
    """The decided cases that are most like this one."""
    signs = signs_of(reader, number)
    newest = (
        sa.select(cases.c.number)
        .where(cases.c.state == CaseState.DECIDED, cases.c.number != number)
        .order_by(cases.c.decided_us.desc())
        .limit(LOOKED_AT)
    )
    others: dict[int, set[str]] = defaultdict(set)
    for one in reader.execute(sa.select(case_signs).where(case_signs.c.number.in_(newest))):
        others[one.number].add(one.sign)
    alike = most_alike(signs, others, most)
    found = sa.select(*COLUMNS).where(cases.c.number.in_([one.number for one in alike]))
    by_number = {one.number: case_in(one) for one in reader.execute(found)}
    return [Similar(by_number[one.number], one) for one in alike]
