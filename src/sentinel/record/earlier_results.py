"""Results that the log's index finds no more: the view has kept them, so that nothing contradicts what was told."""

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from sentinel.record.entries import DecisionRow
from sentinel.record.results import ResultRow
from sentinel.record.views.place import ViewPlace


class Earlier(NamedTuple):
    """Every result of one decision that stands before position `upto` of the log, oldest first."""

    rows: Sequence[ResultRow]
    upto: int


NOT_ASKED = Earlier((), 0)


def earlier_results(view: ViewPlace, row: DecisionRow, remembered_from: int) -> Earlier:
    """What the view knows was told of a decision, where the index finds only entries from `remembered_from` on.

    Of a decision that is found itself the index knows all, and the view is not asked. Raises StorageProblem.
    """
    if row.position >= remembered_from:
        return NOT_ASKED
    with closing(view.open()) as opened:
        upto = opened.position.position  # before the rows are read: what comes after it may be missing
        found = opened.results_about([row.position]).get(row.position, [])
    return Earlier([one._replace(transaction_id=row.transaction_id) for one in found], upto)
