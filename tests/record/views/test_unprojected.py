"""A page of the view and what the view lacks are together what a look at every entry finds, wherever the view ends."""

import contextlib
import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.record.log import Kind
from sentinel.record.views import DecisionQuery
from sentinel.record.views.rows import KeyReader, rows_of
from sentinel.record.views.sqlite import SqliteView
from sentinel.record.views.unprojected import with_unprojected

RUNS = int(os.environ.get("SENTINEL_SIMULATED_RUNS", "60"))
DECISIONS = st.fixed_dictionaries(
    {
        "card": st.sampled_from(["c1", "c2", None]),
        "shop": st.sampled_from(["s1", "c1", None]),
        "amount": st.sampled_from([1.0, 2.0, 2.5]),
        "action": st.sampled_from(["approve", "approve", "review", "block"]),
        "version": st.sampled_from(["v1", "v2"]),
        "degraded": st.sampled_from([None, None, "slow"]),
        "late": st.booleans(),
    }
)
BATCHES = st.lists(st.lists(DECISIONS, max_size=5), min_size=1, max_size=8)
"""An empty one is a heartbeat."""

QUERIES = st.builds(
    DecisionQuery,
    keys=st.dictionaries(st.sampled_from(["card", "shop"]), st.sampled_from(["c1", "c2", "s1", "none"])),
    from_us=st.none() | st.integers(98, 108),
    to_us=st.none() | st.integers(98, 108),
    action=st.sampled_from([None, None, "approve", "block"]),
    model_version=st.sampled_from([None, None, "v1", "v3"]),
    degraded=st.sampled_from([False, False, True]),
    least_amount=st.sampled_from([None, None, 2.0]),
    most_amount=st.sampled_from([None, None, 2.0]),
    limit=st.integers(1, 6),
)


class Case:
    """A log, a view of it that is brought on when the test says so, and all decisions as a list shows them."""

    def __init__(self, folder, fake_log, made):
        self.log, self.view, self.rows = fake_log.FakeLog(), SqliteView(folder / "views.db"), []
        self._made, self._readers = made, {name: KeyReader(schema) for name, schema in made.SCHEMAS.items()}

    def write(self, batch, received_us):
        if not batch:
            self.log.write(Kind.HEARTBEAT, 1, received_us, b"")
            return
        batch = [one | {"id": f"t{self.log.end + n}"} for n, one in enumerate(batch)]
        position = self.log.write(Kind.DECIDED, len(batch), received_us, self._made.decided(batch))
        self.rows += [
            self._made.listed(one) | {"position": position + n, "received_us": received_us}
            for n, one in enumerate(batch)
        ]

    def project(self, records):
        """Bring the view on by so many records."""
        since = self.view.position.position
        some = self.log.read(max(since, 1), 2**40)[:records]
        if some:
            self.view.project(rows_of(some, self._readers.get), self.log.log_id, since, now_us=5)

    def search(self, query):
        return with_unprojected(self.view.search(query), query, self.log, self._made.SCHEMA)

    def by_hand(self, query):
        return [row for row in reversed(self.rows) if fits(row, query)]


@pytest.fixture(scope="session")
def case(tmp_path_factory, fake_log, made):
    """A case of its own for each example of a law: `with case() as ...`."""

    @contextlib.contextmanager
    def opened():
        one = Case(tmp_path_factory.mktemp("views"), fake_log, made)
        with contextlib.closing(one.view):
            yield one

    return opened


def fits(row, query):
    return (
        all(row["keys"].get(name) == value for name, value in query.keys.items())
        and (query.from_us is None or row["received_us"] >= query.from_us)
        and (query.to_us is None or row["received_us"] < query.to_us)
        and query.action in (None, row["decision"])
        and query.model_version in (None, row["model_version"])
        and (row["degraded"] is not None or not query.degraded)
        and (query.least_amount is None or (row["amount"] is not None and row["amount"] >= query.least_amount))
        and (query.most_amount is None or (row["amount"] is not None and row["amount"] <= query.most_amount))
    )


def as_dicts(rows):
    return [msgspec.structs.asdict(row) for row in rows]


@settings(max_examples=RUNS, deadline=None)
@given(data=st.data(), batches=BATCHES)
def test_the_pages_are_what_a_look_at_every_entry_finds(case, data, batches):
    """Also while the view goes on and entries come between two pages."""
    with case() as one:
        for n, batch in enumerate(batches):
            one.write(batch, 100 + n)
        one.project(data.draw(st.integers(0, len(batches))))
        query = data.draw(QUERIES)
        expected, found = one.by_hand(query), []
        while True:
            page = one.search(query)
            assert len(page.rows) <= query.limit
            assert page.position <= one.log.durable
            found += page.rows
            if page.next is None:
                break
            assert len(page.rows) == query.limit
            query = msgspec.structs.replace(query, cursor=page.next)
            one.project(data.draw(st.integers(0, 3)))
            one.write(data.draw(st.lists(DECISIONS, max_size=3)), 107)
        assert as_dicts(found) == expected


@settings(max_examples=RUNS // 2, deadline=None)
@given(batches=BATCHES, query=QUERIES)
def test_where_the_view_ends_makes_no_difference(case, batches, query):
    with case() as one:
        for n, batch in enumerate(batches):
            one.write(batch, 100 + n)
        pages = [one.search(query)]
        for _ in batches:
            one.project(1)
            pages.append(one.search(query))
        assert all(as_dicts(page.rows) == as_dicts(pages[0].rows) for page in pages)
        assert {page.position for page in pages} == {one.log.durable}
        assert {page.next is None for page in pages} == {len(one.by_hand(query)) <= query.limit}


def test_what_is_not_durable_is_not_shown(case, fake_log):
    with case() as one:
        one.log = fake_log.FakeLog(delayed=True)
        one.write([{"id": "a"}], 100)
        assert one.search(DecisionQuery()).rows == []
        one.log.advance()
        assert len(one.search(DecisionQuery()).rows) == 1


def test_only_the_newest_are_looked_through_when_the_view_is_far_behind(case, monkeypatch):
    monkeypatch.setattr("sentinel.record.views.unprojected.MOST", 4)
    with case() as one:
        for n in range(5):
            one.write([{"card": "c1"}, {"card": "c2"}], 100 + n)
        one.project(1)
        assert [row.position for row in one.search(DecisionQuery()).rows] == [10, 9, 8, 7, 2, 1]


def test_decisions_of_another_schema_have_no_keys_until_the_view_has_them(case, made):
    with case() as one:
        one.log.write(Kind.DECIDED, 1, 100, made.decided([{"id": "a"}], "another schema"))
        (row,) = one.search(DecisionQuery()).rows
        assert (row.keys, row.amount) == ({}, None)
        assert one.search(DecisionQuery(keys={"card": "c1"})).rows == []
