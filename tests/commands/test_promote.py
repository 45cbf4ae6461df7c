"""`sentinel models promote`: the server that owns the log is asked, or the log is written to."""

import http.server
import shutil
import threading
from contextlib import closing

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.file_log import FileLog
from sentinel.record.lock import owner_of
from sentinel.train.pipeline import train

HOST = "127.0.0.1"
PAYMENT = {"transaction_id": "t", "event_time": "2025-02-01T10:00:00Z", "amount": 1, "card": "c", "shop": "s"}


@pytest.fixture
def home(two_models_home, tmp_path):
    return shutil.copytree(two_models_home, tmp_path / "home")


@pytest.fixture
def serve(home):
    """Starts a server over the home folder, with an environment of its own."""
    started = []

    def start(**environment):
        server = ServerProcess(home, HOST, free_port(HOST), environment=environment)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


def promote(home, version, code=0, **environment):
    done = CliRunner().invoke(app, ["models", "promote", version, "--home", str(home)], env=environment)
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return " ".join(done.stderr.split())


def test_without_a_server_the_log_is_written_to(home):
    assert "v2 is the champion" in promote(home, "v2")
    assert HomeDeployment(home).read().previous == ("v1",)
    assert owner_of(log_folder(home)) is None
    promote(home, "v2")
    promote(home, "v1")
    assert (HomeDeployment(home).champion(), HomeDeployment(home).read().revision) == ("v1", 3)


def test_a_version_that_is_not_there_changes_nothing(home):
    assert "v9" in promote(home, "v9", code=1)
    assert HomeDeployment(home).champion() == "v1"


@pytest.fixture
def other(home, shop_detector, shop_file):
    """A version whose transactions have one more field."""
    shop = load_detector(shop_detector)
    schema = msgspec.structs.replace(shop.schema, numbers=(*shop.schema.numbers, "age"))
    frame = pl.read_csv(shop_file).with_columns(age=pl.lit(1.0))
    detector = msgspec.structs.replace(shop, schema=schema)
    return train(detector, history_of_frame(frame, schema), Registry(home / "models"), lambda *_: None).version


def test_a_model_that_cannot_read_the_log_is_refused_and_changes_nothing(home, other, serve, post):
    promote(home, other)
    promote(home, "v1")  # nothing is in the log yet that either could not read
    server = serve()
    post(server.port, "/v1/score", PAYMENT)
    assert "cannot read the transactions of the log" in promote(home, other, code=1)
    server.stop()
    assert "cannot read the transactions of the log" in promote(home, other, code=1)
    assert HomeDeployment(home).read().revision == 3
    serve()


def test_a_server_that_runs_decides_with_it_when_the_command_is_done_and_what_it_refuses_is_told(home, serve, post):
    server = serve()
    assert post(server.port, "/v1/score", PAYMENT)["model_version"] == "v1"
    promote(home, "v2")
    assert post(server.port, "/v1/score", PAYMENT | {"transaction_id": "u"})["model_version"] == "v2"
    assert HomeDeployment(home).champion() == "v2"
    assert owner_of(log_folder(home)).pid == server.pid
    post(server.port, "/admin/ab/setup", {"candidate_version": "v1"})
    told = promote(home, "v1", code=1)
    assert f"the server at http://{HOST}:{server.port} says 409" in told
    assert "promote or abort it first" in told
    assert HomeDeployment(home).champion() == "v2"


def test_a_server_with_a_key_wants_it(home, serve):
    serve(SENTINEL_ADMIN_KEY="an-admin-key-of-its-own")
    assert "says 401" in promote(home, "v2", code=1)
    assert "says 401" in promote(home, "v2", code=1, SENTINEL_ADMIN_KEY="some-other-admin-key")
    assert HomeDeployment(home).champion() == "v1"
    promote(home, "v2", SENTINEL_ADMIN_KEY="an-admin-key-of-its-own")
    assert HomeDeployment(home).champion() == "v2"


def test_an_owner_that_cannot_be_asked_is_named(home):
    with closing(FileLog.open(log_folder(home), 1)) as log:
        assert "has just begun to write" in promote(home, "v2", code=1)
        url = f"http://{HOST}:{free_port(HOST)}"
        log.publish_url(url)
        assert f"owns the log and does not answer at {url}" in promote(home, "v2", code=1)
    assert HomeDeployment(home).champion() == "v1"
    promote(home, "v2")


@pytest.fixture
def stranger():
    """A proxy, or a server elsewhere: it notes all that it is asked."""
    asked = []

    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.headers["authorization"]))
            self.send_response(307 if self.path == "/admin/reload" else 200)
            self.send_header("location", f"http://{HOST}:{self.server.server_port}/elsewhere")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((HOST, 0), Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


def test_no_proxy_sees_the_key(home, serve, stranger, monkeypatch):
    port, asked = stranger
    serve(SENTINEL_ADMIN_KEY="an-admin-key-of-32-characters-00")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{HOST}:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert "v2 is the champion" in promote(home, "v2", SENTINEL_ADMIN_KEY="an-admin-key-of-32-characters-00")
    assert asked == []


def test_the_key_does_not_follow_to_another_address(home, stranger):
    port, asked = stranger
    with closing(FileLog.open(log_folder(home), 1)) as log:
        log.publish_url(f"http://{HOST}:{port}", "")
        said = promote(home, "v2", 1, SENTINEL_ADMIN_KEY="an-admin-key-of-32-characters-00")
    assert "says 307" in said
    assert [path for path, _ in asked] == ["/admin/reload"]
