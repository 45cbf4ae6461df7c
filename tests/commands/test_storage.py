"""`sentinel log verify` and `sentinel views rebuild`, with and without a server that is at work."""

import json
import shutil
import time
from contextlib import closing

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.applied import log_folder
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.views import DecisionQuery
from sentinel.record.views.sqlite import FILE, SqliteView

HOST = "127.0.0.1"


def sentinel(*arguments, code=0):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return done


def said(done):
    return " ".join(done.stderr.split())


@pytest.fixture
def home(tmp_path, made):
    """A home folder with 30 decisions and one outcome in its log."""
    with closing(FileLog(log_folder(tmp_path), 1)) as log:
        for n in range(10):
            log.write(Kind.DECIDED, 3, 5, made.decided([{"id": f"t{n}-{m}"} for m in range(3)]))
        log.write(Kind.OUTCOMES, 1, 6, made.outcomes([{"id": "t0-0", "is_fraud": True, "about": 1}]))
        log.write(Kind.HEARTBEAT, 1, 7, b"")
    return tmp_path


def test_a_whole_log_is_verified(home):
    found = json.loads(sentinel("log", "verify", "--home", home, "--json").stdout)
    assert (found["entries"], found["segments"], found["findings"]) == (32, 1, [])
    assert found["end"] - found["first"] == 32
    assert "32 entries" in said(done := sentinel("log", "verify", "--home", home))
    assert "whole" in said(done)


def test_a_log_is_verified_while_its_owner_writes(home):
    with closing(FileLog.open(log_folder(home), 10)) as log:
        log.write(Kind.HEARTBEAT, 1, log.clock(10), b"")
        assert json.loads(sentinel("log", "verify", "--home", home, "--json").stdout)["entries"] == 33


def test_damage_is_named_and_the_command_fails(home):
    (segment,) = log_folder(home).glob("*.segment")
    raw = bytearray(segment.read_bytes())
    at = raw.index(b"t5-1")
    raw[at] ^= 1
    segment.write_bytes(raw)
    (finding,) = json.loads(sentinel("log", "verify", "--home", home, "--json", code=1).stdout)["findings"]
    assert (finding["segment"], finding["position"]) == (segment.name, 16)
    told = said(sentinel("log", "verify", "--home", home, code=1))
    assert f"DAMAGED {segment.name}, position 16" in told
    assert told.endswith("damaged")


@pytest.mark.parametrize("command", [("log", "verify"), ("views", "rebuild")])
def test_without_a_log_it_says_so(tmp_path, command):
    assert str(tmp_path) in said(sentinel(*command, "--home", tmp_path, code=1)).replace(" ", "")


def test_a_view_is_made_of_the_log(home):
    for _ in range(2):
        counts = json.loads(sentinel("views", "rebuild", "--home", home, "--json").stdout)
        assert (counts["decisions"], counts["outcomes"], counts["by_action"]["approve"]) == (30, 1, 30)
    with closing(SqliteView(home / FILE)) as view:
        assert view.search(DecisionQuery(limit=1)).rows[0].transaction_id == "t9-2"
        assert view.position.position == 33
    assert "30 decisions and 1 outcomes" in said(sentinel("views", "rebuild", "--home", home))


def test_a_view_of_an_empty_log_is_empty(tmp_path):
    FileLog(log_folder(tmp_path), 1).close()
    assert json.loads(sentinel("views", "rebuild", "--home", tmp_path, "--json").stdout)["decisions"] == 0


def test_a_damaged_view_is_replaced(home):
    (home / FILE).write_bytes(b"no database at all" * 1_000)
    assert json.loads(sentinel("views", "rebuild", "--home", home, "--json").stdout)["decisions"] == 30


def test_a_view_stays_while_there_is_no_log_to_make_it_of(home):
    sentinel("views", "rebuild", "--home", home)
    shutil.rmtree(log_folder(home))
    sentinel("views", "rebuild", "--home", home, code=1)
    with closing(SqliteView(home / FILE)) as view:
        assert view.counts().decisions == 30


@pytest.fixture
def server(shop_home, tmp_path):
    shutil.copytree(shop_home, tmp_path / "home")
    server = ServerProcess(tmp_path / "home", HOST, free_port(HOST))
    server.start()
    yield server
    server.stop()


def test_the_view_of_a_server_that_runs_is_made_anew_by_it(server, post):
    payments = [
        {"transaction_id": f"t{n}", "event_time": "2025-02-01T10:00:00Z", "amount": 1, "card": "c", "shop": "s"}
        for n in range(300)
    ]
    post(server.port, "/v1/score", payments[:200])
    counts = json.loads(sentinel("views", "rebuild", "--home", server.home, "--json").stdout)
    assert (counts["decisions"], counts["without_keys"]) == (200, 0)
    post(server.port, "/v1/score", payments[200:])
    with closing(SqliteView(server.home / FILE)) as view:
        until = time.monotonic() + 120
        while view.counts().decisions < 300:
            assert time.monotonic() < until, view.counts()
            time.sleep(0.05)
    assert not json.loads(sentinel("log", "verify", "--home", server.home, "--json").stdout)["findings"]
