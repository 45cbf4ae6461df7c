"""`sentinel cases`: what waits for a person, read where it is kept, whether a server runs or not."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import sqlalchemy as sa

from sentinel.config import Settings
from sentinel.errors import NotFound
from sentinel.events.times import clock_us
from sentinel.record.written.written_database import FILE, WrittenDatabase
from sentinel.review.case_store.case import case_of, events_of, payments_of
from sentinel.review.case_store.queue import Filters, page_of, states_named
from sentinel.review.case_store.similar import MOST_SIMILAR, similar_to
from sentinel.transport.http.cases.shown import shown_page, shown_whole


def list_cases(settings: Settings, state: str, holder: str | None, limit: int) -> dict[str, Any]:
    """A page of cases, as `GET /v1/cases` has it. Raises InvalidInput, NotFound, StorageProblem."""
    filters = Filters(states=states_named(state), holder=holder)
    with _reading(settings) as reader:
        return shown_page(page_of(reader, filters, clock_us(), limit, None))


def show_case(settings: Settings, number: int) -> dict[str, Any]:
    """A case, as `GET /v1/cases/{number}` has it. Raises NotFound, StorageProblem."""
    with _reading(settings) as reader:
        case = case_of(reader, number)
        found = payments_of(reader, number), events_of(reader, number), similar_to(reader, number, MOST_SIMILAR)
        return shown_whole(case, *found, clock_us())


@contextmanager
def _reading(settings: Settings) -> Iterator[sa.Connection]:
    if settings.database_url is None and not (settings.home / FILE).exists():
        raise NotFound(f"{settings.home} has no cases: serve with SENTINEL_CASES=on, which opens them")
    with closing(WrittenDatabase(settings.home, settings.database_url)) as database, database.reading() as reader:
        yield reader
