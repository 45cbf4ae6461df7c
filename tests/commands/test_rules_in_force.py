"""Rules and lists from the command line: without a server into the log, and through the one that owns it."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port

HOST = "127.0.0.1"
BOOK = """
lists:
  - {name: bad, kind: deny, by: card, reason: a stolen card}
rules:
  - {name: large, when: "amount > 800", do: block, reason: a large amount}
"""


def payments(begin, end, amount=5):
    return [
        {"transaction_id": f"t{n}", "event_time": 1_738_400_000 + n, "amount": amount, "card": f"card-{n % 9}", "shop": "s"}
        for n in range(begin, end)
    ]  # fmt: skip


@pytest.fixture
def home(shop_home, tmp_path):
    shutil.copytree(shop_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def serve(home):
    """Starts a server over the home, and ends it."""
    started = []

    def start(**environment):
        server = ServerProcess(home, HOST, free_port(HOST), environment=environment)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(BOOK)
    return path


@pytest.fixture
def run(home):
    def go(*given, code=0, as_json=True):
        done = CliRunner().invoke(app, [*map(str, given), "--home", str(home), *(["--json"] if as_json else [])])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if as_json and not code else " ".join(done.stderr.split())

    return go


def actions(answers):
    return [one["decision"] for one in answers]


def test_all_of_it_without_a_server_is_what_a_server_decides_by(run, book, serve, post, tmp_path):
    assert run("rules", "show")["rules"] is None
    assert run("rules", "apply", book, "--note", "first") == {"draft": 1}
    (tmp_path / "bad.csv").write_text("\ufeffValue,reason\ncard-3,seen abroad\ncard-4,\n")
    assert run("lists", "import", "bad", tmp_path / "bad.csv", "--reason", "a leak")["entries"] == 2
    run("lists", "remove", "bad", "card-4")
    run("rules", "snooze", "large", "card", "card-5", "--until", "2040-01-01")
    book.write_text(BOOK.replace("amount > 800", "amount > 1"))
    assert run("rules", "draft", book) == {"draft": 2, "bands": {}}
    stricter = ["rule large: holds when amount > 1, and not when amount > 800"]
    assert run("rules", "diff", "--draft", 2)["sentences"] == run("rules", "diff", book)["sentences"] == stricter
    assert run("rules", "diff", "--draft", 2, "--against", 2)["sentences"] == []
    assert "give a file, or --draft" in run("rules", "diff", code=1)
    assert run("rules", "apply", "--draft", 2, "--note", "stricter") == {"draft": 2}
    server = serve()
    decided = post(server.port, "/v1/score", payments(0, 9))
    assert actions(decided) == ["block"] * 5 + ["approve"] + ["block"] * 3
    assert decided[3]["rules"] == ["list bad", "large"]
    found = run("lists", "show", "bad", "card-3")
    assert (found["is_on"], found["periods"][0]["reason"]) == (True, "seen abroad")
    told = run("lists", "show", "bad", "card-4", as_json=False)
    assert re.search(r"card-4 is not on bad from .* until .* by user .*: a leak", told)
    history = run("rules", "history")
    assert [(one["draft"], one["note"]) for one in history["applied"]] == [(2, "stricter"), (1, "first")]
    assert [one["number"] for one in history["drafts"]] == [2, 1]
    assert "draft 2 applied" in run("rules", "history", as_json=False)


def test_all_of_it_through_the_server_that_owns_the_log(run, book, serve, post, tmp_path):
    server = serve()
    assert run("rules", "apply", book) == {"draft": 1}
    run("lists", "add", "bad", "card-0")
    assert actions(post(server.port, "/v1/score", payments(0, 2))) == ["block", "approve"]
    book.write_text(BOOK.replace("amount > 800", "amount > 1"))
    run("rules", "apply", book)
    run("rules", "snooze", "large", "card", "card-5", "--until", "2040-01-01", "--reason", "a known traveller")
    assert actions(post(server.port, "/v1/score", payments(4, 6))) == ["block", "approve"]
    run("rules", "snooze", "large", "card", "card-5", "--wake")
    assert actions(post(server.port, "/v1/score", payments(14, 15))) == ["block"]
    assert run("rules", "rollback", "--note", "too strict") == {"draft": 1}
    assert actions(post(server.port, "/v1/score", payments(15, 16))) == ["approve"]
    shown = run("rules", "show", as_json=False)
    assert "draft 1, by" in shown
    assert "too strict" in shown
    assert run("lists", "show")["lists"] == [{"name": "bad", "kind": "deny", "by": "card", "values": 1, "versions": 1}]
    replayed = run("replay", "--all")
    assert (replayed["differing"], replayed["impossible"]) == (0, 0)
    csv = tmp_path / "bad.csv"
    for text, said in (
        ("card\nx\n", "needs a column value"), ("value\nx,y\n", "line 2"), ("value,until\nx,soon\n", "line 2"),
        ("value\n" + "x" * 300, "line 2"),
    ):  # fmt: skip
        csv.write_text(text)
        assert said in run("lists", "import", "bad", csv, code=1)
    assert "has no list 'none'" in run("lists", "add", "none", "x", code=1)
    assert "no rule 'none' in force" in run("rules", "snooze", "none", "card", "x", "--until", "2040-01-01", code=1)


def test_a_draft_is_tried_and_one_that_holds_for_far_more_than_its_band_is_refused(run, book, serve, post):
    server = serve()
    for begin in range(0, 300, 50):
        post(server.port, "/v1/score", payments(begin, begin + 50, 900 if begin < 100 else 5))
    done = run("rules", "draft", book)
    assert done["bands"]["large"] == pytest.approx([1 / 3, 1 / 3])
    assert done["bands"]["list bad"] == [0, 0]
    book.write_text(BOOK.replace("reason: a large amount", "band: [0.001, 0.002], reason: a large amount"))
    assert "33.33% of a day's decisions, and its band says at most 0.20%" in run("rules", "apply", book, code=1)
    assert len(run("rules", "history")["drafts"]) == 1
