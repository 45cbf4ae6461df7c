"""Several processes on one port: vectors are scored by all of them, and they count and change together."""

import contextlib
import json
import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from sentinel.commands.server_process import ServerProcess, free_port, port_is_free

HOST = "127.0.0.1"
VECTOR = {"features": [1.0] * 12}


@contextlib.contextmanager
def serving(trained, folder):
    """Two processes over a copy of a home that others could read."""
    home = shutil.copytree(trained, folder / "home")
    server = ServerProcess(
        home, HOST, free_port(HOST), environment={"SENTINEL_WORKERS": "2", "SENTINEL_CACHE_TTL_S": "0"}
    )
    home.chmod(0o755)
    (home / "models" / "v1" / "manifest.json").chmod(0o644)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(two_models_home, tmp_path_factory):
    with serving(two_models_home, tmp_path_factory.mktemp("workers")) as server:
        yield server


@pytest.fixture
def mortal(two_models_home, tmp_path):
    """A server of this test's own, to kill processes of."""
    with serving(two_models_home, tmp_path) as server:
        yield server


def call(server, path, body=None):
    """Over a connection of its own, which any of the processes may take."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{HOST}:{server.port}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read())


def children(server):
    """The processes below the one that was started, without what multiprocessing keeps beside them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = stat.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == server.pid and b"spawn_main" in command:
            found.append(int(stat.parent.name))
    return sorted(found)


def assert_counted(server, n):
    """Each process counts what it has answered, some hundredths of a second later."""
    until = time.monotonic() + 60
    while (found := call(server, "/metrics")["total_requests"]) != n and time.monotonic() < until:
        time.sleep(0.02)
    assert found == n


def test_they_score_count_and_change_together(server):
    answers = [call(server, "/predict", VECTOR) for _ in range(100)]
    assert {one["model_version"] for one in answers} == {"v1"}
    assert len({one["fraud_probability"] for one in answers}) == 1
    assert_counted(server, 100)
    call(server, "/admin/reload", {"version": "v2"})
    asked, until = 100, time.monotonic() + 60
    while {call(server, "/predict", VECTOR)["model_version"] for _ in range(50)} != {"v2"}:
        assert time.monotonic() < until
        asked += 50
    assert_counted(server, asked + 50)


def test_what_others_could_read_of_the_home_is_mended(server):
    modes = {path: path.stat().st_mode & 0o077 for path in (server.home, *server.home.rglob("*"))}
    assert [path for path, of_others in modes.items() if of_others] == []


def test_transactions_say_what_they_need(server):
    with pytest.raises(urllib.error.HTTPError) as refused:
        call(server, "/v1/score", {"transaction_id": "t1"})
    assert refused.value.code == 503
    assert "--workers 1" in json.loads(refused.value.read())["error"]


def test_one_that_dies_is_started_again(mortal):
    server = mortal
    assert len(children(server)) == 2
    for _ in range(20):
        call(server, "/predict", VECTOR)
    assert_counted(server, 20)
    killed = children(server)[0]
    os.kill(killed, signal.SIGKILL)
    until = time.monotonic() + 120
    # One look a turn: between two of them the killed process can go, and be counted by the first.
    while (len(alive := children(server)) < 2 or killed in alive) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(alive) == 2
    assert killed not in alive
    while time.monotonic() < until:  # the new one loads its model while the other one answers
        try:
            if all(call(server, "/health/ready")["ready"] for _ in range(10)):
                break
        except (urllib.error.HTTPError, ConnectionError):
            time.sleep(0.1)
    for _ in range(20):
        call(server, "/predict", VECTOR)
    assert_counted(server, 40)


def test_a_parent_that_is_killed_takes_them_along_and_a_restart_listens_at_once(mortal):
    server = mortal
    below = children(server)
    assert len(below) == 2
    os.kill(server.pid, signal.SIGKILL)
    until = time.monotonic() + 60
    # A process that ends lets go of its port before it is gone from /proc.
    while not port_is_free(HOST, server.port) or any(is_alive(child) for child in below):
        assert time.monotonic() < until, "what the parent had started outlives it"
        time.sleep(0.01)
    server.kill()  # what is left of it
    server.start()
    assert call(server, "/predict", VECTOR)["model_version"] == "v1"


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
