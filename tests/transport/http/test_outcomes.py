"""Outcomes on a running server: where they come from, what is refused, and how they are taken back."""

import json
import shutil
import sqlite3
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.keys import create_key
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import Settings
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.entries import revoked_rows
from sentinel.record.file_log import FileLog
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.revoking import MOST_AT_ONCE

HOST = "127.0.0.1"
TEXT = "my-reason-4711"


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(shop_home)


@pytest.fixture
def post(server, ask):
    def posting(path, body):
        return ask(server.port, "POST", path, body, content_type="application/json")

    return posting


@pytest.fixture
def get(server, ask):
    return lambda path: ask(server.port, "GET", path)


def payment(name):
    return {"transaction_id": name, "event_time": "2025-02-01T10:00:00Z", "amount": 12.5, "card": name, "shop": "s"}


@pytest.fixture
def paid(post):
    """The id of a transaction that was decided."""
    name = uuid.uuid4().hex
    assert post("/v1/score", payment(name)).status == 200
    return name


def outcomes_of(get, name):
    return get(f"/v1/decisions/{name}").json["outcomes"]


def kinds_in(home):
    with closing(FileLogReader(log_folder(home))) as log:
        return [record.kind for page in Follower(log, 0).rest() for record in page if record.kind != Kind.HEARTBEAT]


def revoke(home, *arguments, code=0):
    done = CliRunner().invoke(app, ["outcomes", "revoke", "--home", str(home), *arguments])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return json.loads(done.stdout) if "--json" in arguments else " ".join(done.stderr.split())


@pytest.mark.parametrize(("given", "says"), [(True, True), (False, False), (1, True), (0, False)])
def test_an_outcome_is_true_false_1_or_0(post, get, paid, given, says):
    assert post("/v1/outcomes", {"transaction_id": paid, "is_fraud": given}).json["is_fraud"] is says
    (told,) = outcomes_of(get, paid)
    assert told["is_fraud"] is says
    assert (told["source"], told["told_by"], told["reason"], told["revoked"]) == ("operator", "operator", "", None)


def test_source_and_reason_are_kept_and_shown_with_the_decision(post, get, paid):
    post("/v1/outcomes", {"transaction_id": paid, "is_fraud": True, "source": "bank:visa", "reason": TEXT})
    (told,) = outcomes_of(get, paid)
    assert (told["source"], told["told_by"], told["reason"]) == ("bank:visa", "operator", TEXT)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"is_fraud": 2}, "$.is_fraud"), ({"is_fraud": -1}, "$.is_fraud"), ({"is_fraud": "1"}, "$.is_fraud"),
        ({"is_fraud": 1.5}, "$.is_fraud"), ({"source": ""}, "$.source"), ({"source": "a bank"}, "$.source"),
        ({"source": "x" * 65}, "$.source"), ({"source": 'x"} 1\n'}, "$.source"), ({"reason": "x" * 257}, "$.reason"),
        ({"reason": 1}, "$.reason"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_422_and_names_the_field(post, paid, changes, path):
    refused = post("/v1/outcomes", {"transaction_id": paid, "is_fraud": True, **changes})
    assert (refused.status, refused.json["path"]) == (422, path)


def test_metrics_count_by_source_and_know_no_reasons(server, post, get, paid):
    told = {"transaction_id": paid, "is_fraud": True, "source": "counted", "reason": TEXT}
    post("/v1/outcomes", [told, told])
    metrics = get("/metrics/prom").body.decode()
    assert 'sentinel_outcomes_told{says="fraud",source="counted"} 1.0' in metrics
    assert 'sentinel_outcome_fraud_burst{source="counted"} 0.0' in metrics
    assert TEXT not in metrics
    assert TEXT not in (server.home / "server.log").read_text()


@pytest.fixture(scope="module")
def bank(start_server, shop_home, ask):
    """Tells outcomes with the key of a bank, of which two a minute are taken."""
    server = start_server(shop_home, {"SENTINEL_OUTCOMES_PER_MINUTE": "2"})
    settings = Settings(home=server.home)
    key = create_key(settings, "bank-key", "score,outcomes,read", "1d", None, "bank").key

    def asks(method, path, body=None):
        return ask(server.port, method, path, body, content_type="application/json", authorization=f"Bearer {key}")

    until(lambda: asks("GET", "/health").status == 200)
    return asks


def test_the_source_is_that_of_the_key_and_a_key_is_limited(bank):
    name = uuid.uuid4().hex
    assert bank("POST", "/v1/score", payment(name)).status == 200
    refused = bank("POST", "/v1/outcomes", {"transaction_id": name, "is_fraud": True, "source": "analyst"})
    assert refused.status == 422
    assert "The source is that of the API key, 'bank'; leave it out - at `$.source`" in refused.json["error"]
    assert bank("POST", "/v1/outcomes", {"transaction_id": name, "is_fraud": True}).status == 200
    (told,) = bank("GET", f"/v1/decisions/{name}").json["outcomes"]
    assert (told["source"], told["told_by"]) == ("bank", "bank-key")
    limited = bank("POST", "/v1/outcomes", {"transaction_id": name, "is_fraud": False})
    assert limited.status == 429
    assert int(limited.headers["retry-after"]) in range(1, 61)
    assert len(bank("GET", f"/v1/decisions/{name}").json["outcomes"]) == 1


# taking back


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return found


def truths_in_view(home):
    with closing(sqlite3.connect(f"file:{home / 'views.db'}?mode=ro", uri=True)) as view:
        return view.execute("SELECT told_by, is_fraud FROM outcomes WHERE revoked_at IS NULL").fetchall()


def test_outcomes_are_taken_back_from_a_running_server_and_from_its_log(shop_home, tmp_path, ask, stored):
    """A dry run first; while it runs, and once it has ended, with a restart in between."""
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    names = [uuid.uuid4().hex for _ in range(5)]

    def served(call):
        server = ServerProcess(home, HOST, free_port(HOST))
        server.start()
        try:
            return call(lambda path, body: ask(server.port, "POST", path, body, content_type="application/json"),
                        lambda path: ask(server.port, "GET", path))  # fmt: skip
        finally:
            server.stop()

    def first(post, get):
        post("/v1/score", [payment(name) for name in names])
        answers = post("/v1/outcomes", [{"transaction_id": name, "is_fraud": 1} for name in names[:3]]).json
        assert [one["replayed"] for one in answers] == [False] * 3
        arguments = ("--key", "operator", "--reason", "a stolen key", "--json")
        assert revoke(home, *arguments, "--dry-run") | {"position": 0, "before": 0} == {
            "dry_run": True, "outcomes": 3, "transactions": 3, "changed": 3, "position": 0, "before": 0, "more": False,
        }  # fmt: skip
        assert outcomes_of(get, names[0])[0]["revoked"] is None
        assert revoke(home, *arguments)["outcomes"] == 3
        (told,) = outcomes_of(get, names[0])
        assert told["revoked"]["reason"] == "a stolen key"
        assert revoke(home, *arguments)["outcomes"] == 0
        kinds = kinds_in(home)
        assert kinds[kinds.index(Kind.OUTCOMES) :] == [Kind.OUTCOMES, Kind.AUDIT, Kind.REVOKED], "never one too few"
        until(lambda: get("/health").json["view"]["lag"] == 0 and truths_in_view(home) == [])
        post("/v1/outcomes", {"transaction_id": names[4], "is_fraud": True})

    def second(post, get):
        assert outcomes_of(get, names[4])[0]["revoked"]["reason"] == "again"
        assert post("/v1/outcomes", {"transaction_id": names[0], "is_fraud": 1}).json["replayed"] is False
        assert [one["revoked"] is None for one in outcomes_of(get, names[0])] == [False, True]
        until(lambda: truths_in_view(home) == [("operator", 1)])

    served(first)
    assert "1 outcomes of 1 transactions taken back; 1 of these transactions are judged otherwise without" in revoke(
        home, "--key", "operator", "--reason", "again"
    )
    (noted,) = HomeDeployment(home).audit(1).changes
    assert (noted.what, noted.where, noted.after) == ("outcomes revoke", "command line", '{"outcomes":1}')
    assert '"reason":"again"' in noted.asked
    served(second)
    assert len(stored(home)) == 10


@pytest.mark.parametrize("after_s", [0.02, 0.15])
def test_a_revocation_that_is_cut_short_by_a_kill_is_done_again_and_nothing_is_taken_back_twice(
    shop_home, tmp_path, ask, after_s
):
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    names = [f"k{n}" for n in range(900)]
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        ask(server.port, "POST", "/v1/score", [payment(name) for name in names], content_type="application/json")
        told = [{"transaction_id": name, "is_fraud": n % 2} for n, name in enumerate(names)]
        ask(server.port, "POST", "/v1/outcomes", told, content_type="application/json")
        arguments = ["outcomes", "revoke", "--home", str(home), "--key", "operator", "--reason", "r", "--json"]
        with ThreadPoolExecutor(1) as beside:
            running = beside.submit(CliRunner().invoke, app, arguments)
            time.sleep(after_s)
            server.kill()
            running.result()
        server.start()
        revoke(home, *arguments[4:])
        assert revoke(home, *arguments[4:])["outcomes"] == 0
        for name in (names[0], names[-1]):
            shown = ask(server.port, "GET", f"/v1/decisions/{name}").json["outcomes"]
            assert [one["revoked"]["reason"] for one in shown] == ["r"]
    finally:
        server.stop()
    with closing(FileLogReader(log_folder(home))) as log:
        records = [one for page in Follower(log, 0).rest() for one in page if one.kind == Kind.REVOKED]
    assert sorted(row.transaction_id for one in records for row in revoked_rows(one)) == sorted(names)
    assert max(one.rows for one in records) <= MOST_AT_ONCE


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"key": "k"}, "reason"), ({"key": "", "reason": "r"}, "key"), ({"key": "k", "reason": "r" * 257}, "reason"),
        ({"key": "k", "reason": "r", "from": "soon"}, "$.from"), ({"key": "k", "reason": "r", "to": -1}, "$.to"),
        ({"key": "k", "reason": "r", "from": 1738368000, "to": 1738368000}, "from is not before to"),
        ({"key": "k", "reason": "r", "position": -1}, "position"), ({"key": "k", "reason": "r", "x": 1}, "x"),
    ],
)  # fmt: skip
def test_a_revocation_that_makes_no_sense_is_400_and_changes_nothing(post, body, text):
    refused = post("/admin/outcomes/revoke", body)
    assert refused.status == 400
    assert text in refused.json["error"]


def test_on_the_command_line_it_is_one_line(tmp_path):
    assert "there is no log" in revoke(tmp_path / "none", "--key", "k", "--reason", "r", code=1)
    assert not (tmp_path / "none").exists()
    for time_given in ("1738368000", "2025-02-01T00:00:00Z"):
        options = ("--from", time_given, "--to", "2025-01-01")
        with closing(FileLog.open(log_folder(tmp_path), 1)):
            pass
        assert "from is not before to" in revoke(tmp_path, "--key", "k", "--reason", "r", *options, code=1)
    assert "give a key, and a reason" in revoke(tmp_path, "--key", "", "--reason", "r", code=1)


def test_an_outcome_of_what_was_not_decided_here_is_kept_and_said_so(post):
    kept = post("/v1/outcomes", {"transaction_id": "of-last-year", "is_fraud": True})
    assert (kept.status, kept.json["known"], kept.json["replayed"]) == (202, False, False)
    again = post("/v1/outcomes", [{"transaction_id": "of-last-year", "is_fraud": True}])
    assert again.status == 200
    assert [(one["known"], one["replayed"]) for one in again.json] == [(False, True)]
