"""A view shows what the log holds, in whatever pages and through whatever crashes it came; every database the same."""

import contextlib
import itertools
import json
import os
import random
import secrets
import shutil
import sqlite3
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidInput, StorageProblem
from sentinel.policy.results import AFTER, State
from sentinel.record.entries import Ruled, body_of, decided_in
from sentinel.record.log import Kind, Record
from sentinel.record.reasons import Reasons
from sentinel.record.views import DecisionQuery, merged
from sentinel.record.views.postgres import Database, PostgresView
from sentinel.record.views.rows import KeyReader, hash_of, rows_of
from sentinel.record.views.sqlite import SqliteView, rebuild
from sentinel.record.views.tables import metadata

RUNS = int(os.environ.get("SENTINEL_SIMULATED_RUNS", "30"))


class SqliteCase:
    """A SQLite file for the length of a test; a new back end is one more class like this."""

    def __init__(self):
        in_memory = Path("/dev/shm")  # noqa: S108 - a folder of its own in it
        self.path = Path(tempfile.mkdtemp(dir=in_memory if in_memory.is_dir() else None)) / "views.db"
        self.view = SqliteView(self.path)

    def open_again(self):
        self.view.close()
        self.view = SqliteView(self.path)

    @contextlib.contextmanager
    def failing_after(self, steps):
        """The database fails within the transaction, sooner or later, or not at all."""
        with self.view._writing() as writer:
            driver = writer.connection.driver_connection
        driver.set_progress_handler(lambda: 1, steps)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)

    def close(self):
        self.view.close()
        shutil.rmtree(self.path.parent)


class PostgresCase:
    """A schema of its own in a PostgreSQL server that runs."""

    def __init__(self, url):
        self.database = Database(url, f"sentinel${secrets.token_hex(6)}")
        self.view = PostgresView(self.database)

    def open_again(self):
        self.view = PostgresView(self.database)

    @contextlib.contextmanager
    def failing_after(self, steps):
        """The database ends the connection when it has had so many statements of the transaction, if it has so many."""
        seen = itertools.count(1)

        def end(connection, *_):
            if next(seen) == steps:
                connection.connection.driver_connection.close()

        sa.event.listen(self.database.engine, "before_cursor_execute", end)
        try:
            yield
        finally:
            sa.event.remove(self.database.engine, "before_cursor_execute", end)

    def close(self):
        self.database.drop()
        self.database.engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"], scope="session")
def case(request):
    """A view of its own for each example of a law, too: `with case() as ...`."""
    if request.param == "sqlite":
        return lambda: contextlib.closing(SqliteCase())
    url = url_of(request.getfixturevalue("service")("postgres"))
    return lambda: contextlib.closing(PostgresCase(url))


def url_of(running):
    """The address of a PostgreSQL server with its password."""
    address = sa.make_url(running.url).set(drivername="postgresql", password=running.environment["PGPASSWORD"])
    return address.render_as_string(hide_password=False)


@pytest.fixture
def view(case):
    with case() as one:
        yield one.view


def project(view, made, records, since=None, log_id="log"):
    readers = {name: KeyReader(schema) for name, schema in made.SCHEMAS.items()}
    since = view.position.position if since is None else since
    view.project(rows_of(records, readers.get), log_id, since, now_us=5)


def pages(view, query):
    """All rows of a search, over all of its pages."""
    rows = []
    while True:
        page = view.search(query)
        assert len(page.rows) <= query.limit
        rows += page.rows
        if page.next is None:
            return rows
        assert len(page.rows) == query.limit
        query = msgspec.structs.replace(query, cursor=page.next)


DECISIONS = st.fixed_dictionaries(
    {
        "card": st.sampled_from(["c1", "c2", 'c"\n3', None]),
        "shop": st.sampled_from(["s1", "c1", None]),
        "amount": st.sampled_from([1.0, 2.5]),
        "action": st.sampled_from(["approve", "approve", "review", "block", "challenge"]),
        "version": st.sampled_from(["v1", "v2"]),
        "degraded": st.sampled_from([None, None, "slow"]),
        "variant": st.sampled_from([None, "a"]),
        "late": st.booleans(),
    }
)
GAPS = st.sampled_from([0, 0, 1, 9_000, 20_000])
"""Between positions: most go beyond what lies together in the index."""


@st.composite
def histories(draw, made, with_results=True):
    """Records, and what they say as rows of a list and as outcomes."""
    records, rows, outcomes = [], [], []
    position, received_us = 1, 100
    for n in range(draw(st.integers(1, 8))):
        position += draw(GAPS)
        received_us += draw(st.integers(0, 3))
        kinds = [Kind.DECIDED, Kind.DECIDED, Kind.OUTCOMES, Kind.HEARTBEAT, *[Kind.RESULTS] * with_results]
        kind = draw(st.sampled_from(kinds))
        if kind == Kind.DECIDED:
            batch = [
                one | {"id": f"t{n}-{m}"} for m, one in enumerate(draw(st.lists(DECISIONS, min_size=1, max_size=5)))
            ]
            record = made.decided_record(position, batch, received_us)
            rows += [
                made.listed(one) | {"position": position + m, "received_us": received_us} for m, one in enumerate(batch)
            ]
        elif kind == Kind.OUTCOMES and rows:
            told = [
                {"id": row["transaction_id"], "is_fraud": draw(st.booleans()), "about": row["position"]}
                for row in draw(st.lists(st.sampled_from(rows), min_size=1, max_size=3))
            ]
            record = made.outcomes_record(position, told, received_us)
            outcomes += [(position + m, one["is_fraud"], one["about"]) for m, one in enumerate(told)]
        elif kind == Kind.RESULTS and rows:
            told = [one for row in draw(st.lists(st.sampled_from(rows), min_size=1)) for one in told_of(draw, row)]
            if not told:
                continue
            record = made.results_record(position, told, received_us)
        else:
            record = Record(position, Kind.HEARTBEAT, 1, received_us, b"", b"chain")
        records.append(record)
        position += record.rows
    end = records[-1].position + records[-1].rows if records else 1
    return SimpleNamespace(records=records, rows=rows, outcomes=outcomes, end=end)


def told_of(draw, row):
    """A result that may follow on what was told of a decision, if any may; the row says where it stands then."""
    after = {str(result): str(state) for result, state in AFTER[row["state"]].items()}
    if not after:
        return []
    result = draw(st.sampled_from(sorted(after)))
    row["state"] = after[result]
    return [{"id": row["transaction_id"], "about": row["position"], "result": result, "state": row["state"]}]


QUERIES = st.builds(
    DecisionQuery,
    keys=st.dictionaries(st.sampled_from(["card", "shop"]), st.sampled_from(["c1", "c2", 'c"\n3', "s1", "none"])),
    from_us=st.none() | st.integers(98, 112),
    to_us=st.none() | st.integers(98, 112),
    action=st.sampled_from([None, None, "approve", "block"]),
    model_version=st.sampled_from([None, None, "v1", "v2", "v3"]),
    degraded=st.sampled_from([False, False, True]),
    least_amount=st.sampled_from([None, None, 1.0, 2.0, 2.5]),
    most_amount=st.sampled_from([None, None, 1.0, 2.0]),
    state=st.sampled_from([None, None, *State]),
    limit=st.integers(1, 6),
)


def fits(row, query):
    return (
        all(row["keys"].get(name) == value for name, value in query.keys.items())
        and (query.from_us is None or row["received_us"] >= query.from_us)
        and (query.to_us is None or row["received_us"] < query.to_us)
        and query.action in (None, row["decision"])
        and query.model_version in (None, row["model_version"])
        and (row["degraded"] is not None or not query.degraded)
        and query.state in (None, row["state"])
        and (query.least_amount is None or (row["amount"] is not None and row["amount"] >= query.least_amount))
        and (query.most_amount is None or (row["amount"] is not None and row["amount"] <= query.most_amount))
    )


def found_by_hand(rows, query):
    return [row for row in reversed(rows) if fits(row, query)]


def as_dicts(rows):
    return [msgspec.structs.asdict(row) for row in rows]


@settings(max_examples=RUNS, deadline=None)
@given(data=st.data())
def test_a_view_holds_what_the_log_holds_whatever_the_paging_and_the_crashes(case, made, data):
    history = data.draw(histories(made))
    with case() as one:
        left = list(history.records)
        while left:
            some = left[: data.draw(st.integers(1, 4))]
            fate = data.draw(st.sampled_from(["well", "crash", "open again"]))
            if fate == "crash":
                with one.failing_after(data.draw(st.integers(1, 300))), contextlib.suppress(StorageProblem):
                    project(one.view, made, some)
            if fate != "well":
                one.open_again()
            if one.view.position.position < some[0].position + some[0].rows:
                project(one.view, made, some)
            left = left[len(some) :]
        view = one.view
        assert view.position == ("log", history.end, b"chain", 5)
        assert as_dicts(pages(view, DecisionQuery(limit=3))) == history.rows[::-1]
        assert [(row.position, row.is_fraud, row.about) for row in view.outcomes(0, 100)] == history.outcomes
        truth = {about: is_fraud for _, is_fraud, about in history.outcomes}
        assert view.outcomes_about([row["position"] for row in history.rows]) == truth
        everywhere = [row["position"] for row in history.rows]
        contents = {
            n: json.loads(one)["transaction_id"] for n, one in view.contents_at([*everywhere, history.end]).items()
        }
        assert contents == {row["position"]: row["transaction_id"] for row in history.rows}
        counts = view.counts()
        assert (counts.decisions, counts.outcomes) == (len(history.rows), len(history.outcomes))
        assert +Counter(counts.by_action) == Counter(row["decision"] for row in history.rows)


@settings(max_examples=RUNS, deadline=None)
@given(data=st.data())
def test_a_search_finds_what_a_look_at_every_row_finds(case, made, data):
    history = data.draw(histories(made))
    with case() as one:
        for n in range(0, len(history.records), 2):
            project(one.view, made, history.records[n : n + 2])
        for query in data.draw(st.lists(QUERIES, min_size=3, max_size=8)):
            assert as_dicts(pages(one.view, query)) == found_by_hand(history.rows, query)


@settings(max_examples=RUNS // 2, deadline=None)
@given(data=st.data())
def test_pages_do_not_move_while_rows_arrive(case, made, data):
    history, query = data.draw(histories(made, with_results=False)), data.draw(QUERIES)
    with case() as one:
        cut = data.draw(st.integers(1, len(history.records)))
        project(one.view, made, history.records[:cut])
        expected = found_by_hand([row for row in history.rows if row["position"] < one.view.position.position], query)
        page = one.view.search(query)
        if cut < len(history.records):
            project(one.view, made, history.records[cut:])
        rows = page.rows
        if page.next is not None:
            rows = rows + pages(one.view, msgspec.structs.replace(query, cursor=page.next))
        assert as_dicts(rows) == expected


@settings(max_examples=RUNS // 2, deadline=None)
@given(data=st.data())
def test_pruning_forgets_what_is_older_and_nothing_else(case, made, data):
    history = data.draw(histories(made))
    before = data.draw(st.integers(1, history.end + 10))
    with case() as one:
        project(one.view, made, history.records)
        while one.view.prune(before):
            pass
        kept = [row for row in history.rows if row["position"] >= before]
        query = data.draw(QUERIES)
        assert as_dicts(pages(one.view, query)) == found_by_hand(kept, query)
        assert [row.position for row in one.view.outcomes(0, 100)] == [n for n, _, _ in history.outcomes if n >= before]
        assert one.view.counts().decisions == len(kept)
        assert +Counter(one.view.counts().by_action) == Counter(row["decision"] for row in kept)


def test_keys_that_share_a_hash_are_told_apart(view, made):
    seen: dict[int, str] = {}
    for n in range(100_000):
        other = seen.setdefault(hash_of("card", f"c{n}") >> 42, f"c{n}")
        if other != f"c{n}":
            break
    project(view, made, [made.decided_record(1, [{"id": "a", "card": other}, {"id": "b", "card": f"c{n}"}])])
    assert [row.transaction_id for row in view.search(DecisionQuery(keys={"card": other})).rows] == ["a"]


def test_a_model_is_found_where_the_rules_decided_in_its_place(view, made):
    batch = [{"id": "a", "degraded": "slow"}, {"id": "b"}, {"id": "c"}, {"id": "d", "degraded": "slow"}]
    project(view, made, [made.decided_record(1, batch)])
    assert [row.transaction_id for row in view.search(DecisionQuery(model_version="v1")).rows] == ["d", "c", "b", "a"]


def test_a_key_that_is_seen_often_has_many_pages(view, made):
    batch = [{"id": str(n), "action": "block" if n % 700 == 0 else "approve"} for n in range(2_000)]
    project(view, made, [made.decided_record(16_000, batch)])
    assert len(pages(view, DecisionQuery(keys={"card": "c1"}, limit=500))) == 2_000
    blocked = pages(view, DecisionQuery(keys={"card": "c1", "shop": "s1"}, action="block"))
    assert [row.transaction_id for row in blocked] == ["1400", "700", "0"]


def test_a_second_projector_is_refused_and_nothing_is_written(case, made):
    with case() as one, case() as unused:
        project(one.view, made, [made.decided_record(1, [{"id": "a"}])])
        with pytest.raises(StorageProblem, match="another projector"):
            project(one.view, made, [made.decided_record(1, [{"id": "b"}])], since=0)
        with pytest.raises(StorageProblem, match="another log"):
            project(one.view, made, [made.decided_record(2, [{"id": "b"}])], log_id="other")
        assert one.view.position.position == 2
        assert one.view.counts().decisions == 1
        assert unused.view.position.log_id == ""


def test_decisions_of_an_unknown_schema_have_no_keys_and_are_counted(view, made):
    project(
        view, made, [made.decided_record(1, [{"id": "a"}], schema="unknown"), made.decided_record(2, [{"id": "b"}])]
    )
    assert view.counts().without_keys == 1
    strange = view.search(DecisionQuery()).rows[-1]
    assert (strange.transaction_id, strange.amount, strange.keys) == ("a", None, {})
    assert [row.transaction_id for row in view.search(DecisionQuery(keys={"card": "c1"})).rows] == ["b"]
    view.prune(2)
    assert view.counts().without_keys == 0


def test_decisions_that_do_not_fit_their_schema_have_no_keys_and_the_others_do(view, made):
    odd = made.decided_record(1, [{"id": "a"}, {"id": "b", "amount": 1.0}])
    decided = decided_in(odd)
    contents = [decided.contents[0].replace(b"5.25", b'"much"'), decided.contents[1]]
    odd = odd._replace(body=body_of(msgspec.structs.replace(decided, contents=contents)))
    view.project(rows_of([odd], lambda _: KeyReader(made.SCHEMA)), "log", 0, 1)
    found = {row.transaction_id: (row.amount, row.keys) for row in view.search(DecisionQuery()).rows}
    assert found == {"a": (None, {}), "b": (1.0, {"card": "c1", "shop": "s1"})}
    assert view.counts().without_keys == 1


def test_an_outcome_that_corrects_another_counts(view, made):
    project(view, made, [made.decided_record(1, [{"id": "a"}])])
    for position, is_fraud in ((2, True), (3, False)):
        project(view, made, [made.outcomes_record(position, [{"id": "a", "is_fraud": is_fraud, "about": 1}])])
    assert view.outcomes_about([1, 7]) == {1: False}
    assert [row.position for row in view.outcomes(after=2, limit=5)] == [3]


def test_what_a_person_with_a_long_name_tells_stops_no_view(view, made):
    project(view, made, [made.decided_record(1, [{"id": "a", "action": "review"}])])
    told = {"id": "a", "about": 1, "result": "review_taken", "state": "taken", "told_by": f"{'p' * 64} via {'k' * 64}"}
    project(view, made, [made.results_record(2, [told])])
    assert [row.state for row in view.search(DecisionQuery()).rows] == ["taken"]


def test_a_view_in_a_file_that_was_made_before_there_were_some_tables_gets_them(made):
    with contextlib.closing(SqliteCase()) as one:
        project(one.view, made, [made.decided_record(1, [{"id": "a", "amount": 5.0}])])
        of_the_first_version = {"progress", "decisions", "outcomes", "totals", "models", "key_entries"}
        with one.view._writing() as writer:
            for table in metadata.sorted_tables:
                if table.name not in of_the_first_version:
                    writer.exec_driver_sql(f"DROP TABLE {table.name}")
        one.open_again()
        project(one.view, made, [made.decided_record(2, [{"id": "b", "amount": 7.0}])])
        found = one.view.search(DecisionQuery(least_amount=1.0)).rows
        assert [row.transaction_id for row in found] == ["b", "a"]


def test_an_outcome_that_was_taken_back_does_not_count(view, made):
    project(view, made, [made.decided_record(1, [{"id": "a"}, {"id": "b"}])])
    told = [
        {"id": "a", "is_fraud": False, "about": 1},
        {"id": "a", "is_fraud": True, "about": 1, "told_by": "k"},
        {"id": "b", "is_fraud": True, "about": 2, "told_by": "k"},
    ]
    records = [made.outcomes_record(3, told), made.revoked_record(6, [{"id": "a", "about": 1}], "k")]
    later = made.outcomes_record(7, [{"id": "a", "is_fraud": True, "about": 1, "told_by": "k"}])
    project(view, made, records)  # in one step
    assert view.outcomes_about([1, 2]) == {1: False, 2: True}
    project(view, made, [made.revoked_record(7, [{"id": "b", "about": 2}], "k", span=(2, 9))])  # none of that time
    project(view, made, [later._replace(position=8)])
    assert view.outcomes_about([1, 2]) == {1: True, 2: True}
    assert [(row.position, row.source, row.revoked_at) for row in view.outcomes(0, 9)] == [
        (3, "operator", None), (4, "k", 6), (5, "k", None), (8, "k", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", 0),
        ("limit", 501),
        ("cursor", "x"),
        ("cursor", "f" * 17),
        ("from_us", -1),
        ("most_amount", float("nan")),
        ("least_amount", float("inf")),
    ],
)
def test_a_query_that_makes_no_sense_names_the_field(field, value):
    with pytest.raises(InvalidInput) as told:
        DecisionQuery(**{field: value})
    assert told.value.path == f"$.{field}"


def test_people_with_sql_tools_find_transactions(made):
    with contextlib.closing(SqliteCase()) as one:
        batch = [{"id": "a", "score": 0.25}, {"id": "b", "card": None, "action": "block"}]
        project(one.view, made, [made.decided_record(1, batch, received_us=1_735_689_600_250_000)])
        with contextlib.closing(sqlite3.connect(one.path)) as tool:
            rows = tool.execute("SELECT * FROM transactions ORDER BY transaction_id").fetchall()
            shops = tool.execute("SELECT json_extract(content, '$.shop') FROM decisions").fetchall()
        time = "2025-01-01T00:00:00.250Z"
        assert rows == [("a", "c1", 5.25, 0.25, time), ("b", None, 5.25, 0.5, time)]
        assert shops == [("s1",), ("s1",)]


def test_a_view_of_another_version_is_refused(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "views.db")) as tool:
        tool.execute("CREATE TABLE decisions (a)")
        tool.execute("PRAGMA user_version=99")
    with pytest.raises(StorageProblem, match="sentinel views rebuild"):
        SqliteView(tmp_path / "views.db")


def test_a_damaged_file_is_named(tmp_path, made):
    path = tmp_path / "views.db"
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(StorageProblem, match=r"views\.db cannot be opened: file is not a database"):
        SqliteView(path)
    rebuild(path)
    with contextlib.closing(SqliteView(path)) as view:
        assert view.counts().decisions == 0


def test_reasons_are_found_by_the_position_of_their_decision_and_go_with_the_oldest_entries(view, made):
    about = np.array([0, 2], "<i8").tobytes()
    entry = Reasons(since=0, upto=3, ids=["a", "c"], hashes=b"", about=about, why=[b'{"a":1}', b'{"c":2}'])
    records = [made.decided_record(0, [{"id": name, "action": "block"} for name in "abc"])]
    records.append(Record(3, Kind.REASONS, 2, 1, body_of(entry)))
    records.append(made.decided_record(50_000, [{"id": "d"}]))
    project(view, made, records)
    assert view.reasons_about([0, 1, 2, 50_000]) == {0: '{"a":1}', 2: '{"c":2}'}
    while view.prune(50_000):
        pass
    assert view.reasons_about([0, 2]) == {}
    assert view.counts().decisions == 1


def test_figures_of_rules_are_those_counted_by_hand(view, made):
    """Of any stretch of time: hits, what was decided, and the newest outcome of each that counts."""
    rng, rows, records, position = random.Random(11), [], [], 0
    for n in range(30):
        batch = [{"id": f"t{n}-{i}", "action": rng.choice(["approve", "review", "block"])} for i in range(5)]
        ruled = [
            Ruled(i, 0, tuple(name for name in ("large", "odd") if rng.random() < 0.4),
                  tuple(name for name in ("shadow",) if rng.random() < 0.4), True)
            for i in range(5)
        ]  # fmt: skip
        record = made.decided_record(position, batch)._replace(received_us=n * 10)
        records.append(record._replace(body=body_of(msgspec.structs.replace(decided_in(record), ruled=ruled))))
        rows += [
            {"at_us": n * 10, "position": position + i, "ruled": ruled[i], **batch[i], "fraud": None} for i in range(5)
        ]
        position += 5
    for _ in range(60):
        row = rng.choice(rows)
        row["fraud"] = rng.random() < 0.5
        told = made.outcomes([{"id": row["id"], "is_fraud": row["fraud"], "about": row["position"]}])
        records.append(Record(position, Kind.OUTCOMES, 1, 1_000, told))
        position += 1
    project(view, made, records)
    for begin, end in ((0, 300), (50, 200), (95, 105), (100, 100), (290, 10_000)):
        expected = Counter()
        for row in (one for one in rows if begin <= one["at_us"] < end):
            held = [(name, False) for name in row["ruled"].fired] + [(name, True) for name in row["ruled"].shadow]
            for name in held:
                known = row["fraud"] is not None
                for what, n in (("hits", 1), ("review", row["action"] == "review"), ("block", row["action"] == "block"),
                                ("judged", known), ("frauds", known and row["fraud"])):  # fmt: skip
                    expected[name, what] += int(n)
        found = view.rule_hits_between(begin, end)
        assert [(one.rule, one.shadow) for one in found] == sorted({name for name, _ in expected})
        for one in found:
            counted = [
                expected[(one.rule, one.shadow), what] for what in ("hits", "review", "block", "judged", "frauds")
            ]
            assert [one.hits, one.reviewed, one.blocked, one.judged, one.frauds] == counted
        actions = Counter(one["action"] for one in rows if begin <= one["at_us"] < end and one["action"] != "approve")
        assert view.alarms_between(begin, end) == actions


def test_rules_that_held_are_found_by_decision_and_decisions_by_rule_and_go_with_the_oldest(view, made):
    records = [made.decided_record(0, [{"id": name} for name in "abc"]), made.decided_record(50_000, [{"id": "d"}])]
    ruled = [Ruled(0, 0, ("large",), ("odd",), True), Ruled(2, 2, (), ("odd",), False)]
    body = body_of(msgspec.structs.replace(decided_in(records[0]), ruled=ruled))
    project(view, made, [records[0]._replace(body=body), records[1]])
    assert view.rules_at([0, 1, 2, 50_000]) == {0: [("large", False), ("odd", True)], 2: [("odd", True)]}

    def found(**asked):
        return [one.transaction_id for one in view.search(DecisionQuery(**asked)).rows]

    assert (found(rule="odd"), found(rule="large"), found(rule="none")) == (["c", "a"], ["a"], [])
    while view.prune(50_000):
        pass
    assert view.rules_at([0, 2]) == {}


def test_a_locked_view_loses_nothing(made):
    with contextlib.closing(SqliteCase()) as one, contextlib.closing(sqlite3.connect(one.path)) as tool:
        tool.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageProblem, match="locked"):
            project(one.view, made, [made.decided_record(1, [{"id": "a"}])])
        assert one.view.position.position == 0  # readers do not wait
        tool.rollback()
        project(one.view, made, [made.decided_record(1, [{"id": "a"}])])
        assert one.view.counts().decisions == 1


def test_a_view_that_is_made_anew_is_seen_by_readers_and_refused_to_the_old_writer(made):
    with contextlib.closing(SqliteCase()) as one, contextlib.closing(SqliteView(one.path)) as reader:
        project(one.view, made, [made.decided_record(1, [{"id": "a"}])])
        assert reader.counts().decisions == 1
        rebuild(one.path)
        assert reader.counts().decisions == 0
        with pytest.raises(StorageProblem, match="rebuilt"):
            project(one.view, made, [made.decided_record(2, [{"id": "b"}])], since=2)
        one.open_again()
        project(one.view, made, [made.decided_record(1, [{"id": "a"}])])
        assert reader.counts().decisions == 1


def test_several_may_make_the_file_at_once(tmp_path):
    made_views = []
    threads = [threading.Thread(target=lambda: made_views.append(SqliteView(tmp_path / "views.db"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [view.counts().decisions for view in made_views] == [0] * 8


@settings(max_examples=RUNS, deadline=None)
@given(data=st.data())
def test_pages_of_two_queries_are_the_pages_of_what_fits_either(case, made, data):
    """As for a card that is stored under two hashes."""
    history = data.draw(histories(made))
    with case() as one:
        project(one.view, made, history.records)
        queries = [DecisionQuery(keys={"card": card}, limit=data.draw(st.integers(1, 4))) for card in ("c1", "c2")]
        queries[1] = msgspec.structs.replace(queries[1], limit=queries[0].limit)
        expected = [row for row in reversed(history.rows) if any(fits(row, query) for query in queries)]
        found, cursor, more = [], None, True
        while more:
            each = [msgspec.structs.replace(query, cursor=cursor) for query in queries]
            page = merged(list(map(one.view.search, each)), queries[0].limit)
            found, cursor, more = found + page.rows, page.next, page.next is not None
            assert len(page.rows) == queries[0].limit or not more
        assert as_dicts(found) == expected
