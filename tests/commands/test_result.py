"""`sentinel result`: through the server that owns the log, and without one into the log itself."""

import json
import shutil
import urllib.request

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port

HOST = "127.0.0.1"


@pytest.fixture
def home(shop_home, tmp_path):
    shutil.copytree(shop_home, tmp_path / "home")
    return tmp_path / "home"


def run(home, *arguments):
    return CliRunner().invoke(app, ["result", *arguments, "--home", str(home)])


def said(done):
    """What it says to people, in one line."""
    return " ".join(done.output.split())


def ask(server, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"http://{HOST}:{server.port}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def test_what_is_told_with_and_without_a_server_is_one_story(home):
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        payment = {"transaction_id": "t 1", "event_time": 1_738_400_000, "amount": 5, "card": "c", "shop": "s"}
        assert ask(server, "/v1/score", payment)["decision"] == "approve"
        first = run(home, "t 1", "captured", "--json")
        assert json.loads(first.stdout) | {"state": "captured", "replayed": False} == json.loads(first.stdout)
        assert "is captured, after which there is no challenge_passed" in " ".join(
            run(home, "t 1", "challenge_passed").output.split()
        )
    finally:
        server.stop()
    assert "as it was told before" in said(run(home, "t 1", "captured"))
    assert "is refunded after refunded" in said(
        run(home, "t 1", "refunded", "--reason", "4111 1111 1111 1111 sent back")
    )
    server.start()
    try:
        shown = ask(server, "/v1/decisions/t%201")
        assert [one["result"] for one in shown["results"]] == ["captured", "refunded"]
        assert "4111" not in json.dumps(shown["results"])
        assert "sent back" in json.dumps(ask(server, "/admin/audit?limit=20"))
    finally:
        server.stop()


def test_what_cannot_be_told_says_what_can(home):
    for arguments, says in (
        (("t1", "eaten"), "no result; give one of challenge_passed"),
        (("nobody", "captured"), "No decision is stored for transaction 'nobody'"),
    ):
        done = run(home, *arguments)
        assert done.exit_code == 1
        assert says.replace("'", "") in " ".join(done.output.split()).replace("'", "").replace('"', "")
