"""What is in the log and not in the view yet, searched as the view is: what was answered is found at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from sentinel.events.schema import Schema
from sentinel.policy.results import BEGINS
from sentinel.policy.thresholds import Action
from sentinel.record.entries import schema_id
from sentinel.record.log import Follower, Kind, LogReader, Record
from sentinel.record.results import result_rows
from sentinel.record.views import DecisionQuery, ListedDecision, Page
from sentinel.record.views.rows import KeyReader, rows_of
from sentinel.record.views.tables import decisions

MOST = 50_000
"""Entries that are searched, the newest: a view that is further behind shows as lag."""


def with_unprojected(page: Page, query: DecisionQuery, log: LogReader, schema: Schema) -> Page:
    """A page of a view, with what the view lacks before it; `schema` is that of the newest transactions.

    By where transactions stand the view alone is asked: what was told since may be of any decision in it.
    """
    end = log.durable
    if query.state is not None or (query.before is not None and query.before <= page.position):
        return page
    begin = max(page.position, end - MOST)
    found: list[ListedDecision] = []
    stands: dict[int, str] = {}
    readers = {schema_id(schema): KeyReader(schema)}.get
    follower = Follower(log, begin)
    while follower.position < end and (records := follower.next()):
        listed = _listed(records, readers, query.rule)
        found += [one for one in listed if one.position >= begin and _fits(one, query)]
        stands |= {row.about: row.state for one in records if one.kind == Kind.RESULTS for row in result_rows(one)}
    rows = [_standing(one, stands) for one in (*reversed(found), *page.rows)]
    if len(rows) <= query.limit:
        return Page(rows, page.next, end)
    return Page(rows[: query.limit], f"{rows[query.limit - 1].position:x}", end)


def _listed(
    records: Sequence[Record], readers: Callable[[str], KeyReader | None], rule: str | None
) -> Iterator[ListedDecision]:
    """The decisions of records; of a rule, those for which it held."""
    names, rows = decisions.c.keys(), rows_of(records, readers)
    held = {position for position, name, *_ in rows.rule_hits if name == rule}
    for values in rows.decisions:
        row = dict(zip(names, values, strict=True))
        if rule is not None and row["position"] not in held:
            continue
        keys = {name: value for name, value in msgspec.json.decode(row["keys"]).items() if value is not None}
        shown = {name: row[name] for name in ListedDecision.__struct_fields__ if name in row}
        state = str(BEGINS[Action(row["decision"])])
        yield ListedDecision(**shown | {"keys": keys, "late": bool(row["late"]), "state": state})


def _standing(one: ListedDecision, stands: Mapping[int, str]) -> ListedDecision:
    """The same, with where its transaction stands by what was told since."""
    state = stands.get(one.position)
    return one if state is None else msgspec.structs.replace(one, state=state)


def _fits(one: ListedDecision, query: DecisionQuery) -> bool:
    """The same as in the view's statements."""
    return (
        query.keys.items() <= one.keys.items()
        and (query.before is None or one.position < query.before)
        and (query.from_us is None or one.received_us >= query.from_us)
        and (query.to_us is None or one.received_us < query.to_us)
        and query.action in (None, one.decision)
        and query.model_version in (None, one.model_version)
        and (one.degraded is not None or not query.degraded)
        and (query.least_amount is None or (one.amount is not None and one.amount >= query.least_amount))
        and (query.most_amount is None or (one.amount is not None and one.amount <= query.most_amount))
    )
