"""What only a view in PostgreSQL has: months, several writers, and a server that goes away or was put back."""

import secrets
import subprocess
import sys
import threading
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.record.log import Kind
from sentinel.record.projector import Projector
from sentinel.record.views import DecisionQuery, ViewMoved, schema_versions
from sentinel.record.views.place import ViewPlace
from sentinel.record.views.postgres import Database, PostgresView
from sentinel.record.views.rows import KeyReader, rows_of
from sentinel.record.views.tables import metadata


@pytest.fixture(scope="session")
def url(service):
    running = service("postgres")
    address = sa.make_url(running.url).set(drivername="postgresql", password=running.environment["PGPASSWORD"])
    return address.render_as_string(hide_password=False)


@pytest.fixture
def database(url):
    one = Database(url, f"sentinel${secrets.token_hex(6)}")
    yield one
    one.drop()
    one.engine.dispose()


@pytest.fixture
def view(database):
    return PostgresView(database)


@pytest.fixture
def log(fake_log):
    return fake_log.FakeLog()


def decide(log, made, *ids, at=datetime(2026, 1, 31, tzinfo=UTC)):
    log.write(Kind.DECIDED, len(ids), int(at.timestamp()) * 1_000_000, made.decided([{"id": name} for name in ids]))


def project(view, log, made):
    projector = Projector(view, log, lambda: made.SCHEMAS)
    while projector.step():
        pass
    return projector


def ids_in(view):
    return [row.transaction_id for row in reversed(view.search(DecisionQuery(limit=500)).rows)]


def months(database):
    with database.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        return sorted(name for (name,) in found if name.startswith("decisions_"))


def test_each_month_is_a_table_and_leaves_with_its_last_row(database, view, log, made):
    decide(log, made, "a", "b", at=datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC))
    decide(log, made, "c", at=datetime(2026, 1, 1, tzinfo=UTC))
    decide(log, made, "d", at=datetime(2026, 3, 1, tzinfo=UTC))
    project(view, log, made)
    assert months(database) == ["decisions_2025_12", "decisions_2026_01", "decisions_2026_03"]
    january = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert [row.transaction_id for row in view.search(DecisionQuery(from_us=january)).rows] == ["d", "c"]
    log.prune(3)
    project(view, log, made)
    assert months(database) == ["decisions_2026_01", "decisions_2026_03"]
    log.prune(5)
    project(view, log, made)
    assert (ids_in(view), months(database)) == ([], ["decisions_2026_03"])
    assert view.counts().decisions == 0


def test_ids_that_repeat_over_months_are_found(view, log, made):
    decide(log, made, "a", "b")
    decide(log, made, "a", "c", at=datetime(2026, 8, 1, tzinfo=UTC))
    project(view, log, made)
    assert view.repeated_ids(10) == {"a": 2}


def test_projectors_at_once_store_every_row_once(database, log, made):
    ended = []

    def work():
        projector = Projector(PostgresView(database), log, lambda: made.SCHEMAS)
        while not done.is_set() or projector.lag:
            projector.step()
        ended.append(projector)

    done = threading.Event()
    threads = [threading.Thread(target=work) for _ in range(3)]
    for one in threads:
        one.start()
    names = [f"t{n}" for n in range(300)]
    for name in names:
        decide(log, made, name)
    done.set()
    for one in threads:
        one.join()
    assert len(ended) == 3
    assert ids_in(PostgresView(database)) == names


def test_a_database_that_was_put_back_is_brought_to_the_end_again(database, view, log, made):
    decide(log, made, "a")
    projector = project(view, log, made)
    tables = [one.name for one in metadata.sorted_tables]
    with database.engine.begin() as tool:
        for name in tables:
            tool.exec_driver_sql(f"CREATE TABLE yesterday_{name} AS SELECT * FROM {name}")  # noqa: S608
    decide(log, made, "b")
    projector.step()
    with database.engine.begin() as tool:
        for name in tables:
            tool.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608
            tool.exec_driver_sql(f"INSERT INTO {name} SELECT * FROM yesterday_{name}")  # noqa: S608
    decide(log, made, "c")
    while projector.step():
        pass
    assert ids_in(view) == ["a", "b", "c"]
    assert view.counts().decisions == 3


def test_a_database_of_another_log_is_named(view, log, made, fake_log):
    decide(log, made, "a")
    project(view, log, made)
    other = fake_log.FakeLog("other")
    decide(other, made, "b")
    with pytest.raises(StorageProblem, match=r"another log; .*`sentinel views rebuild`"):
        Projector(view, other, lambda: made.SCHEMAS)


def test_connections_that_were_ended_are_made_again_and_nothing_is_lost(database, view, log, made):
    own = []  # the server is of other tests as well
    database.engine.dispose()
    sa.event.listen(database.engine, "connect", lambda connection, _record: own.append(connection.info.backend_pid))
    decide(log, made, "a")
    projector = project(view, log, made)
    for name in ("b", "c", "d"):
        decide(log, made, name)
        with sa.create_engine(database.engine.url, poolclass=sa.NullPool).begin() as tool:
            end = "SELECT pg_terminate_backend(pid) FROM unnest(%(own)s::int[]) AS pid"
            ended = tool.exec_driver_sql(end, {"own": own}).all()
            assert any(one[0] for one in ended)
        for _ in range(5):
            with suppress(StorageProblem):
                while projector.step():
                    pass
                break
    assert ids_in(view) == ["a", "b", "c", "d"]


def test_a_server_that_is_away_is_named_without_its_password():
    away = Database("postgresql://sentinel:secret-word@127.0.0.1:9/sentinel", "sentinel")
    with pytest.raises(StorageProblem, match=r"sentinel in postgresql.*127\.0\.0\.1:9.* cannot be opened") as problem:
        PostgresView(away)
    assert "secret-word" not in str(problem.value)


def test_a_wrong_password_is_a_sentence_without_it(url):
    wrong = sa.make_url(url).set(password="not-" + "the-word").render_as_string(hide_password=False)
    database = Database(wrong, "sentinel")
    with pytest.raises(StorageProblem, match="password authentication failed") as problem:
        PostgresView(database)
    database.engine.dispose()
    assert "not-the-word" not in str(problem.value)


def test_a_database_that_holds_a_lock_is_not_waited_for_for_ever(database, view, log, made, monkeypatch):
    decide(log, made, "a")
    with sa.create_engine(database.engine.url, poolclass=sa.NullPool).begin() as tool:
        tool.exec_driver_sql(f'LOCK TABLE "{database.schema}".progress')
        with database.engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "10s"
            assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "1min"
            connection.exec_driver_sql("SET lock_timeout = '50ms'")
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                connection.exec_driver_sql("SELECT * FROM progress")


@contextmanager
def opened_again(database):
    """The view as another process opens it."""
    again = Database(database.engine.url.render_as_string(hide_password=False), database.schema)
    try:
        yield PostgresView(again)
    finally:
        again.engine.dispose()


def version_in(database):
    with database.engine.connect() as connection:
        return schema_versions.current(connection)


def test_a_view_of_a_newer_version_is_refused(database, view):
    with database.engine.begin() as tool:
        tool.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    sentence = r"schema 9999 of a newer Sentinel, and this one knows .*views rebuild"
    with pytest.raises(StorageProblem, match=sentence), opened_again(database):
        pass


def test_a_view_of_before_there_were_versions_is_brought_to_the_newest_with_its_rows(database, view, log, made):
    decide(log, made, "a")
    project(view, log, made)
    with database.engine.begin() as tool:
        tool.exec_driver_sql("DROP TABLE alembic_version")
        tool.exec_driver_sql("CREATE TABLE version (version integer NOT NULL)")
        tool.exec_driver_sql("INSERT INTO version VALUES (1)")
    assert version_in(database) == "0001"
    with opened_again(database) as again:
        assert ids_in(again) == ["a"]
    assert version_in(database) == schema_versions.newest()


def test_the_versions_make_the_tables_that_are_declared(database, view):
    """Who changes `tables.py` has to write a version, too."""
    inspector = sa.inspect(database.engine)
    for table in metadata.sorted_tables:
        found = inspector.get_columns(table.name, schema=database.schema)
        assert [one["name"] for one in found] == table.columns.keys()
        assert [one["nullable"] for one in found] == [one.nullable for one in table.columns]
        assert [one["type"].python_type for one in found] == [one.type.python_type for one in table.columns]


def test_several_may_make_the_schema_at_once(url):
    schema = f"sentinel${secrets.token_hex(6)}"
    faults = []

    def make(one):
        try:
            PostgresView(one)
        except StorageProblem as problem:
            faults.append(problem)

    databases = [Database(url, schema) for _ in range(6)]
    threads = [threading.Thread(target=make, args=[one]) for one in databases]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    databases[0].drop()
    for one in databases:
        one.engine.dispose()
    assert faults == []


def test_a_character_that_postgresql_cannot_have_is_replaced(view, log, made):
    decide(log, made, "a\x00b")
    project(view, log, made)
    assert ids_in(view) == ["a\ufffdb"]


def test_it_is_rebuilt_while_it_is_in_use(url, tmp_path, log, made):
    place = ViewPlace(tmp_path / "tenants" / secrets.token_hex(4), url)
    decide(log, made, "a")
    with closing(place.open()) as view:
        projector = project(view, log, made)
        place.rebuild()
        decide(log, made, "b")
        while projector.step():
            pass
        assert ids_in(view) == ["a", "b"]
    place._database.drop()
    place._database.engine.dispose()


def test_what_was_projected_by_another_is_not_stored_again(view, log, made):
    decide(log, made, "a")
    rows = rows_of(log.read(1, 10), {name: KeyReader(schema) for name, schema in made.SCHEMAS.items()}.get)
    view.project(rows, "fake", 0, 5)
    with pytest.raises(ViewMoved):
        view.project(rows, "fake", 0, 5)
    assert ids_in(view) == ["a"]


@pytest.mark.parametrize("address", ["nonsense", "mysql://root@localhost/x", "postgresql:/no"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InvalidDefinition, match="write postgresql://user:password@host:5432/database"):
        Database(address, "sentinel")


def test_without_the_driver_it_says_what_to_install():
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from sentinel.record.views.postgres import Database\n"
        "Database('postgresql://a@localhost/b', 'sentinel')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'sentinel-fraud[postgres]'" in found.stderr
