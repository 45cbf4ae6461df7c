"""A server whose view is in PostgreSQL: what it shows, and that no decision waits for a database that is away."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.views.place import ViewPlace
from tests.http_calls import HOST, call, until


@pytest.fixture
def url(service):
    running = service("postgres")
    address = sa.make_url(running.url).set(drivername="postgresql", password=running.environment["PGPASSWORD"])
    return address.render_as_string(hide_password=False)


@pytest.fixture
def home(shop_home, tmp_path):
    return shutil.copytree(shop_home, tmp_path / "tenants" / f"t{secrets.token_hex(4)}")


def serving(home, url):
    return ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_DATABASE_URL": url})


def pay(server, *numbers):
    for n in numbers:
        at = datetime.now(UTC).isoformat()
        row = {"transaction_id": f"p{n}", "event_time": at, "amount": 10.0 + n, "card": f"c{n % 3}", "shop": "s1"}
        assert call(server, "/v1/score", row)[0] == 200


def doctor(home, url):
    """What `sentinel doctor` says of the view."""
    command = [
        sys.executable,
        "-m",
        "sentinel",
        "doctor",
        "--json",
        "--home",
        str(home),
        "--port",
        str(free_port(HOST)),
    ]
    environment = {**os.environ, "SENTINEL_DATABASE_URL": url}
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return next(one["found"] for one in json.loads(said.stdout)["checks"] if "view" in one["what"])


def test_decisions_are_found_in_the_database_also_after_a_kill(home, url):
    server = serving(home, url)
    server.start()
    try:
        pay(server, *range(20))
        until(lambda: call(server, "/health")[1]["view"].get("lag") == 0)
        server.kill()
        server.start()
        pay(server, *range(20, 25))
        until(lambda: call(server, "/health")[1]["view"].get("lag") == 0)
        status, page = call(server, "/v1/decisions?card=c1&limit=50")
        assert status == 200
        assert [one["transaction_id"] for one in page["decisions"]] == [f"p{n}" for n in range(22, 0, -3)]
        assert not (home / "views.db").exists()
    finally:
        server.stop()
    assert "it has all that the log has" in doctor(home, url)
    place = ViewPlace(home, url)
    with place._database.engine.connect() as tool:
        assert tool.exec_driver_sql("SELECT count(*) FROM transactions WHERE user_id = 'c1'").scalar_one() == 8
    place._database.drop()
    place._database.engine.dispose()


def test_a_database_that_is_away_costs_look_ups_and_no_decision(home):
    url = f"postgresql://sentinel:secret-word@{HOST}:{free_port(HOST)}/sentinel"
    server = serving(home, url)
    server.start()
    try:
        pay(server, *range(5))
        status, said = call(server, "/v1/decisions?card=c1")
        assert status == 503
        assert call(server, "/v1/decisions/p1")[0] == 200
        shown = call(server, "/health")[1]["view"]["status"]
        assert "cannot be opened" in shown
        assert "secret-word" not in shown + str(said)
    finally:
        server.stop()
    assert "secret-word" not in (home / "server.log").read_text()
