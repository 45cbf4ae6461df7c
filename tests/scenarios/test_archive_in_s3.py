"""A machine is lost, and another one goes on from the archive in S3, with nothing lost that was archived."""

import http.client
import json
import os
import secrets
import shutil
import time
import urllib.error
import urllib.request
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from cutting_proxy import cutting_proxy
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame
from sentinel.model.registry import Registry
from sentinel.objects.s3_objects import S3Objects
from sentinel.record.applied import HomeDeployment
from sentinel.record.log_reader import FileLogReader
from sentinel.train.pipeline import train

HOST, PATIENCE_S = "127.0.0.1", 120
KEY = {"SENTINEL_HASH_KEY": "Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"}
EMAILS = [f"ann.{n}@mail.example" for n in range(5)]


@pytest.fixture
def s3(service, monkeypatch):
    """S3 behind a proxy that can refuse, and an archive in a bucket that nobody has made."""
    with cutting_proxy(service("s3").url) as proxy:
        for name, value in {**service("s3").environment, "AWS_ENDPOINT_URL": proxy.url, **KEY}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SENTINEL_ARCHIVE", f"s3://sentinel-{secrets.token_hex(6)}/log")
        yield proxy


@pytest.fixture
def home(shop_detector, shop_history, tmp_path):
    """A home whose detector takes `channel` for something personal of the card."""
    file = tmp_path / "personal_shop.py"
    declared = 'personal={"channel": "card"}, secret=("card",), keys='
    file.write_text(Path(shop_detector).read_text().replace("keys=", declared, 1))
    secrets_of = Settings(home=tmp_path / "home", hash_key=KEY["SENTINEL_HASH_KEY"]).secrets()
    detector = load_detector(str(file))
    history = history_of_frame(shop_history, detector.schema, secrets=secrets_of)
    version = train(detector, history, Registry(tmp_path / "home" / "models"), lambda *_: None).version
    HomeDeployment(tmp_path / "home").promote(version)
    return tmp_path / "home"


@pytest.fixture
def serve():
    started = []

    def start(home):
        started.append(ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_SNAPSHOT_EVERY": "10"}))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.stop()
        assert "Traceback" not in (server.home / "server.log").read_text()


def ask(server, method, path, body=None):
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=60)) as connection:
        connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw[:1] in b"{[" else raw.decode()


def until(found):
    end = time.monotonic() + PATIENCE_S
    while not (one := found()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return one


def archive_of(server):
    return ask(server, "GET", "/health")[1]["archive"]


def wait_until_all_is_archived(server):
    until(lambda: (archive_of(server)["status"], archive_of(server)["lag"]) == ("ok", 0))


def payment(n, begun):
    return {
        "transaction_id": f"t{n}", "event_time": begun + n, "amount": 5.0, "card": f"card-{n % 5}", "shop": "s",
        "risk": 0.5, "channel": EMAILS[n % 5],
    }  # fmt: skip


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return json.loads(done.stdout) if "--json" in arguments else " ".join(done.stderr.split())


def emails(server):
    return [ask(server, "GET", f"/v1/decisions/t{n}")[1]["transaction"]["channel"] for n in range(10)]


def checks(home):
    done = CliRunner().invoke(app, ["doctor", "--home", str(home), "--json"])
    return {one["what"]: (one["ok"], one["found"]) for one in json.loads(done.stdout)["checks"]}


def remove_bucket(store):
    """As somebody does who takes it for another one."""

    def is_gone():
        store.delete([one.name for one in store.found()])
        address = obstore.sign(store._bucket, "DELETE", "", timedelta(minutes=1))
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()
        except urllib.error.HTTPError as error:
            if error.code != 409:  # something was put there meanwhile
                raise
            return False
        return True

    until(is_gone)


def test_what_was_archived_comes_back_on_another_machine(s3, home, serve, tmp_path):
    server, begun = serve(home), int(time.time()) - 1000
    first = [ask(server, "POST", "/v1/score", payment(n, begun))[1] for n in range(20)]
    wait_until_all_is_archived(server)

    s3.how = "deny"
    first += [ask(server, "POST", "/v1/score", payment(n, begun))[1] for n in range(20, 30)]
    assert {one["decision"] is not None for one in first} == {True}, "decisions do not wait for the archive"
    until(lambda: "lets nobody read with these keys (AccessDenied" in archive_of(server)["status"])
    assert "sentinel_archive_ok 0" in ask(server, "GET", "/metrics/prom")[1]
    assert archive_of(server)["lag"] >= 10
    ok, found = checks(home)["archived log"]
    assert (ok, "look at AWS_ACCESS_KEY_ID" in found) == (False, True)
    s3.how = "cut"
    wait_until_all_is_archived(server)
    assert checks(home)["archived log"][0]
    assert "sentinel_archive_lag 0" in ask(server, "GET", "/metrics/prom")[1]

    assert run("erase", "card=card-1", "--home", home, "--json")["found"]
    assert emails(server) == [EMAILS[n % 5] if n % 5 != 1 else "erased" for n in range(10)]
    wait_until_all_is_archived(server)
    server.kill()
    keys = shutil.copy(home / "subjects.db", tmp_path / "subjects.db")
    with closing(FileLogReader(home / "log")) as log:
        records = log.read(1, 1 << 30)

    other = tmp_path / "other"
    restored = run("log", "restore", "--from", os.environ["SENTINEL_ARCHIVE"], "--home", other, "--json")
    assert (restored["end"], restored["models"]) == (records[-1].position + records[-1].rows, 1)
    assert "subjects.db" in restored["missing"]
    with closing(FileLogReader(other / "log")) as log:
        assert log.read(1, 1 << 30) == records
    assert "has a log; name an empty --home" in run(
        "log", "restore", "--from", os.environ["SENTINEL_ARCHIVE"], "--home", other, code=1
    )
    server = serve(other)
    again = [ask(server, "POST", "/v1/score", payment(n, begun))[1] for n in range(30)]
    assert [one | {"replayed": False} for one in again] == first
    assert set(emails(server)) == {"erased"}, "nobody has the keys"
    server.stop()
    shutil.copy(keys, other / "subjects.db")
    server.start()
    assert emails(server) == [EMAILS[n % 5] if n % 5 != 1 else "erased" for n in range(10)]
    assert not any(one.encode() in path.read_bytes() for one in EMAILS for path in (other / "log").iterdir())
    assert ask(server, "POST", "/v1/score", payment(31, begun))[1]["replayed"] is False
    wait_until_all_is_archived(server)


def test_a_bucket_that_vanished_is_named_and_begun_again_on_purpose_only(s3, home, serve):
    server, begun = serve(home), int(time.time()) - 1000
    ask(server, "POST", "/v1/score", payment(1, begun))
    wait_until_all_is_archived(server)
    remove_bucket(S3Objects(os.environ["SENTINEL_ARCHIVE"], "SENTINEL_ARCHIVE", os.environ))
    until(lambda: "and has nothing of it now; bring it back" in archive_of(server)["status"])
    assert ask(server, "POST", "/v1/score", payment(2, begun))[0] == 200
    shutil.rmtree(home / "archiving")
    wait_until_all_is_archived(server)
