"""What people wrote as a file, and back: from either database to either, with further rows numbered behind it."""

import secrets
from contextlib import closing

import pytest
import sqlalchemy as sa

from sentinel.errors import StorageProblem
from sentinel.record.written import outbox
from sentinel.record.written.copying import copy_rows, fill
from sentinel.record.written.written_database import WrittenDatabase


@pytest.fixture
def url(service):
    """The address of a PostgreSQL database."""
    running = service("postgres")
    address = sa.make_url(running.url).set(drivername="postgresql", password=running.environment["PGPASSWORD"])
    return address.render_as_string(hide_password=False)


def put(database, about):
    with database.writing() as writer:
        outbox.put(writer, "case.decided", about, {"text": about}, 5)
        outbox.deal(writer, lambda _: ["hook"], 6, 100)


def waiting(database):
    with database.reading() as reader:
        return [(one.number, one.message.about, one.state) for one in outbox.newest(reader, 100)]


def new_home(tmp_path):
    return tmp_path / "tenants" / f"t{secrets.token_hex(4)}"


def test_the_rows_of_postgresql_are_a_file_and_come_back_to_another_schema(url, tmp_path):
    copy = tmp_path / "copy.db"
    with closing(WrittenDatabase(new_home(tmp_path), url)) as database:
        put(database, "a")
        put(database, "b")
        before = waiting(database)
        copy_rows(database, copy)
        put(database, "later")
    with closing(WrittenDatabase(new_home(tmp_path), url)) as other:
        fill(other, copy)
        assert waiting(other) == before
        put(other, "c")
        assert [about for _, about, _ in waiting(other)] == ["c", "b", "a"]
        with pytest.raises(StorageProblem, match="already"):
            fill(other, copy)
    (tmp_path / "home").mkdir()
    copy.rename(tmp_path / "home" / "written.db")
    with closing(WrittenDatabase(tmp_path / "home")) as file:
        assert waiting(file) == before


def test_a_file_of_another_version_is_refused_and_nothing_is_put_in(url, tmp_path):
    home = tmp_path / "home"
    with closing(WrittenDatabase(home)) as database:
        put(database, "a")
        with database.writing() as writer:
            writer.execute(sa.text("UPDATE facts SET version = 99"))
    with closing(WrittenDatabase(new_home(tmp_path), url)) as other:
        with pytest.raises(StorageProblem, match="another version of Sentinel"):
            fill(other, home / "written.db")
        assert waiting(other) == []
