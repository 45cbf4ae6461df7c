"""A backup of a server that runs: it comes back on another machine, whole, and nothing is written over."""

import json
import shutil
import sqlite3
import stat
import threading
import time
from contextlib import closing
from http.client import HTTPConnection

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.log_reader import FileLogReader
from sentinel.record.written import outbox
from sentinel.record.written.written_database import WrittenDatabase

HOST, PATIENCE_S = "127.0.0.1", 120
BEGUN = int(time.time())


def sentinel(*arguments, code=0):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return json.loads(done.stdout) if "--json" in arguments else " ".join(done.stderr.split())


def payment(name, at):
    return {
        "transaction_id": name, "event_time": at, "amount": 12.5, "card": f"card-{len(name) % 3}", "shop": "s", "risk": 0.5,
        "channel": "web",
    }  # fmt: skip


def ask(server, method, path, body=None):
    with closing(HTTPConnection(HOST, server.port, timeout=60)) as connection:
        connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def decided(server, name):
    status, answer = ask(server, "POST", "/v1/score", payment(name, BEGUN))
    assert status == 200, answer
    return answer


@pytest.fixture
def home(shop_home, tmp_path):
    return shutil.copytree(shop_home, tmp_path / "home")


@pytest.fixture
def serve():
    started = []

    def start(home):
        started.append(ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_SNAPSHOT_EVERY": "20"}))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.stop()


def put_down(home, about):
    """A delivery that waits, as if a case had been decided."""
    with closing(WrittenDatabase(home)) as database, database.writing() as writer:
        outbox.put(writer, "case.decided", about, {"text": about}, 1)
        outbox.deal(writer, lambda _: ["hook"], 1, 10)


def waiting_in(home):
    with closing(WrittenDatabase(home)) as database, database.reading() as reader:
        return [one.message.about for one in outbox.newest(reader, 100)]


class Load:
    """Transactions one after the other, until it is ended; what was answered, in this order."""

    def __init__(self, server):
        self.answers, self.fault = [], None
        self._server, self._end = server, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        if self.fault is not None:
            raise self.fault

    def _run(self):
        try:
            while not self._end.is_set():
                self.answers.append(decided(self._server, f"load-{len(self.answers)}"))
        except Exception as fault:  # noqa: BLE001  raised by whoever waits for it
            self.fault = fault

    def wait_for(self, n):
        end = time.monotonic() + PATIENCE_S
        while len(self.answers) < n and self.fault is None:
            assert time.monotonic() < end, "no transactions are answered"
            time.sleep(0.05)


def test_a_running_server_comes_back_from_its_backup_and_says_what_it_lost(home, serve, tmp_path):
    server, backup, secrets = serve(home), tmp_path / "backup", tmp_path / "secrets"
    put_down(home, "case-1")
    sentinel("keys", "create", "shop", "--scopes", "score,read", "--home", home)
    with Load(server) as load:
        load.wait_for(30)
        first = sentinel("backup", "create", backup, "--secrets", secrets, "--home", home, "--json")
        load.wait_for(60)
        before = list(load.answers)
        second = sentinel("backup", "create", backup, "--secrets", secrets, "--home", home, "--json")
        load.wait_for(len(before) + 10)
    put_down(home, "case-2")
    assert first["homes"][0]["end"] < second["homes"][0]["end"]

    server.kill()
    shutil.rmtree(home)
    new = tmp_path / "new"
    found = sentinel("backup", "restore", backup, "--secrets", secrets, "--home", new, "--json")["homes"][0]
    assert (found["end"], found["unread"], found["missing"]) == (second["homes"][0]["end"], 0, [])
    assert waiting_in(new) == ["case-1"]
    assert "shop" in sentinel("keys", "list", "--home", new)

    again = serve(new)
    for answer in before:
        stored = decided(again, answer["transaction_id"])
        assert (stored["decision"], stored["fraud_probability"]) == (answer["decision"], answer["fraud_probability"])
    assert decided(again, "another")["decision"] in ("approve", "review", "block")
    with closing(FileLogReader(log_folder(new))) as log:
        names = [row for row in log.read(found["end"], 1 << 30) if row.rows]
    assert names, "what is decided after a restore is in the log"
    assert sentinel("log", "verify", "--home", new, "--json")["findings"] == []


@pytest.fixture
def stored(home, serve, tmp_path):
    """A home with decisions that is backed up, with its secrets, and whose server has ended."""
    server = serve(home)
    for n in range(5):
        decided(server, f"t{n}")
    server.stop()
    put_down(home, "case-1")
    sentinel("backup", "create", tmp_path / "backup", "--secrets", tmp_path / "secrets", "--home", home)
    return tmp_path / "backup"


def test_what_is_damaged_or_missing_is_named_and_nothing_is_restored(stored, tmp_path):
    assert "is whole" in sentinel("backup", "verify", stored, "--secrets", tmp_path / "secrets")
    new = tmp_path / "new"
    spoiled = {
        "a database": next((stored / "files").glob("*written.db")),
        "a key": next((tmp_path / "secrets" / "files").glob("*hash.key"), None),
        "the log": next(stored.rglob("*.part")),
        "a model": next(stored.rglob("*manifest.json")),
    }
    for what, path in spoiled.items():
        if path is None:
            continue
        whole = path.read_bytes()
        at = len(whole) // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for command in ("verify", "restore"):
            said = sentinel("backup", command, stored, "--secrets", tmp_path / "secrets", "--home", new, code=1)
            assert "not as it was put there" in said or "damaged" in said, (what, said)
        assert not new.exists() or [one.name for one in new.iterdir()] == [".restoring"], what
        path.write_bytes(whole)
    next((stored / "files").glob("*written.db")).unlink()
    assert "lacks" in sentinel("backup", "restore", stored, "--home", new, code=1)


def test_a_backup_overwrites_no_home_and_a_restore_that_was_killed_goes_on(stored, home, tmp_path, monkeypatch):
    assert "is not empty" in sentinel("backup", "restore", stored, "--home", home, code=1)
    new, moved = tmp_path / "new", []
    rename = type(new).rename

    def rename_two(path, target):
        if path.parent.parent.name == ".restoring" and len(moved) == 2:
            raise OSError(5, "Input/output error")
        if path.parent.parent.name == ".restoring":
            moved.append(path.name)
        return rename(path, target)

    monkeypatch.setattr(type(new), "rename", rename_two)
    assert "cannot be written" in sentinel("backup", "restore", stored, "--home", new, code=1)
    monkeypatch.undo()
    assert "log" not in moved, "the log comes last"
    assert not log_folder(new).exists()
    assert "people.db" not in sentinel("backup", "restore", stored, "--home", new)
    assert sentinel("log", "verify", "--home", new, "--json")["findings"] == []
    assert not (new / ".restoring").exists()


def test_secrets_are_apart_and_for_their_owner_only(stored, home, tmp_path):
    with closing(sqlite3.connect(home / "subjects.db")) as keys:
        assert keys.execute("PRAGMA user_version").fetchone() == (0,)
    sentinel("keys", "create", "shop", "--scopes", "read", "--home", home)
    sentinel("backup", "create", stored, "--secrets", tmp_path / "secrets", "--home", home)
    names = {path.name[17:] for path in (tmp_path / "secrets" / "files").iterdir()}
    assert {"subjects.db", "keys.json"} <= names
    assert {path.name[17:] for path in (stored / "files").iterdir()} == {"written.db"}
    for path in [*stored.rglob("*"), *(tmp_path / "secrets").rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    told = sentinel("backup", "restore", stored, "--home", tmp_path / "new")
    assert "put it back from elsewhere" in told
    assert "keys, people and passwords are not in it" in sentinel("backup", "create", stored, "--home", home)


def test_a_backup_goes_to_a_place_of_its_own(stored, home, tmp_path, monkeypatch):
    other = tmp_path / "other"
    said = sentinel("backup", "create", other, "--secrets", other, "--home", home, code=1)
    assert "shall not have the secrets" in said
    (tmp_path / "link").symlink_to(other, target_is_directory=True)
    for secrets in (other / "secrets", tmp_path / "link", tmp_path):
        said = sentinel("backup", "create", other, "--secrets", secrets, "--home", home, code=1)
        assert "shall not have the secrets" in said, secrets
    assert "in the home folder itself" in sentinel("backup", "create", home / "b", "--home", home, code=1)
    assert "it is no backup that was finished" in sentinel("backup", "verify", other, code=1)
    monkeypatch.setenv("SENTINEL_ARCHIVE", str(stored))
    assert "the server itself writes to" in sentinel("backup", "create", stored, "--home", home, code=1)


def test_a_new_server_on_an_empty_disk_does_not_delete_the_backup_of_the_lost_one(stored, shop_home, serve, tmp_path):
    new = tmp_path / "empty"
    shutil.copytree(shop_home / "models", new / "models")
    HomeDeployment(new).promote("v1")
    server = serve(new)
    decided(server, "first")
    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    assert "the backup of another log" in sentinel("backup", "create", stored, "--home", new, code=1)
    assert {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()} == before
    sentinel("backup", "create", tmp_path / "own", "--home", new)


def test_a_backup_that_brings_a_secret_is_none(stored, tmp_path):
    """Who can write the backup, and not the secrets, would bring a key of their own to the next machine."""
    manifest = json.loads((stored / "backup.json").read_text())
    (written,) = (one for home in manifest["homes"] for one in home["files"] if one["path"] == "written.db")
    for path in ("access/keys.json", "people.db", "hash.key", "access"):
        manifest["homes"][0]["files"] = [{**written, "path": path}]
        (stored / "backup.json").write_text(json.dumps(manifest))
        assert "no file of a backup" in sentinel("backup", "restore", stored, "--home", tmp_path / "new", code=1)


def test_all_detectors_of_a_server_come_back_to_their_places(shop_home, serve, tmp_path):
    home = shutil.copytree(shop_home, tmp_path / "home")
    wallet = home / "detectors" / "wallet"
    shutil.copytree(shop_home / "models", wallet / "models")
    HomeDeployment(wallet).promote("v1")
    server = serve(home)
    status, answer = ask(server, "POST", "/v1/wallet/score", payment("w1", BEGUN))
    assert status == 200, answer
    sentinel("backup", "create", tmp_path / "backup", "--home", home)
    server.stop()
    found = sentinel("backup", "restore", tmp_path / "backup", "--home", tmp_path / "new", "--json")
    assert [one["folder"] for one in found["homes"]] == ["", "detectors/wallet"]
    again = serve(tmp_path / "new")
    status, stored = ask(again, "GET", "/v1/wallet/decisions/w1")
    assert (status, stored["decision"]) == (200, answer["decision"])
