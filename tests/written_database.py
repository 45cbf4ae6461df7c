"""A database of what people write, for each test its own: in a file, and in PostgreSQL where that runs."""

import secrets

import pytest
import sqlalchemy as sa

from sentinel.record.written.written_database import WrittenDatabase


@pytest.fixture(params=["file", "postgres"])
def database(request, tmp_path, service):
    """A database of its own for each test."""
    url = None
    if request.param == "postgres":
        running = service("postgres")
        address = sa.make_url(running.url).set(drivername="postgresql", password=running.environment["PGPASSWORD"])
        url = address.render_as_string(hide_password=False)
    opened = WrittenDatabase(tmp_path / "tenants" / f"t{secrets.token_hex(4)}", url)
    yield opened
    opened.close()
