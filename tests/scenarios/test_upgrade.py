"""An upgrade: a server goes on with a home that an older version wrote, and nothing is lost or decided twice.

`older_home/1853b07.tar.xz` was written by the commit of its name, before rules, results, cases and the view's sums: the
detector of `shop_detector.py`, 20 decisions, the view of then, and `answers.json`, what was sent and answered. With load
that goes on, and the older version itself, `walk/upgrade_drill.py` does the same.
"""

import json
import tarfile
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port

HOST, PATIENCE_S = "127.0.0.1", 120
OLDER = Path(__file__).with_name("older_home") / "1853b07.tar.xz"
FOR_EVER = {"SENTINEL_KEEP_LOG": "forever", "SENTINEL_REMEMBER_IDS": "36500d"}  # the file grows old


@pytest.fixture
def server(tmp_path):
    home = tmp_path / "home"
    with tarfile.open(OLDER) as archive:
        archive.extractall(home, filter="data")
    started = ServerProcess(home, HOST, free_port(HOST), environment=FOR_EVER)
    started.start()
    yield started
    started.stop()


def ask(server, method, path, body=None):
    with closing(HTTPConnection(HOST, server.port, timeout=60)) as connection:
        connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def sentinel(server, *arguments):
    done = CliRunner().invoke(app, [*arguments, "--home", str(server.home), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def test_a_home_of_an_older_version_is_taken_over_and_nothing_is_lost_or_decided_twice(server):
    answers = json.loads((server.home / "answers.json").read_text())
    for one in answers:
        status, again = ask(server, "POST", "/v1/score", one["sent"])
        assert (status, again["replayed"]) == (200, True)
        assert (again["decision"], again["fraud_probability"]) == (one["decision"], one["fraud_probability"])
    new = {**answers[0]["sent"], "transaction_id": "new", "event_time": int(time.time())}
    status, answer = ask(server, "POST", "/v1/score", new)
    assert (status, answer["replayed"]) == (200, False)
    assert ask(server, "GET", "/v1/decisions/old-3")[1]["decision"] == answers[3]["decision"]
    end = time.monotonic() + PATIENCE_S
    while (view := sentinel(server, "views", "status"))["lag"]:
        assert time.monotonic() < end, view
        time.sleep(0.2)
    assert (view["counts"]["decisions"], view["repeated"], view["problem"]) == (len(answers) + 1, {}, None)
    found = sentinel(server, "log", "verify")
    assert (found["findings"], found["set_aside"]) == ([], [])
    assert sentinel(server, "replay", "old-3")["same"]
