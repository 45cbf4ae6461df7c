"""A server over the log of an older one, which accepted what no later one accepts: it starts, decides and names it."""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.events.columns import hash_texts
from sentinel.model.bundle import load_bundle
from sentinel.record.applied import log_folder
from sentinel.record.entries import Decided, Decider, body_of, schema_id
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind

HOST = "127.0.0.1"
LONG_ID, LONG_CARD = "1" * 129, "2" * 300


@pytest.fixture
def home(shop_home, tmp_path):
    """A home whose log has an id of 129 digits, a card of 300, and a transaction without a shop."""
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    manifest = load_bundle(home / "models" / "v1").manifest
    now_us, ids = time.time_ns() // 1000, [LONG_ID, "long-card", "no-shop", "fine"]
    fields = {"event_time": now_us, "amount": 5.0, "card": "c", "shop": "s", "channel": "web", "risk": 0.5}
    bodies = [{"transaction_id": name} | fields for name in ids]
    bodies[1]["card"] = LONG_CARD
    del bodies[2]["shop"]
    decider = Decider("v1", manifest.state_id, 0, 0.5, None, "closed", degraded="overloaded")
    body = Decided(
        schema_id=schema_id(manifest.plan.schema), revision=1, detector="shop", deciders=(decider,), by=bytes(4),
        ids=ids, hashes=hash_texts(ids).tobytes(), contents=[json.dumps(one).encode() for one in bodies],
        features=(b"",), scores=bytes(32), levels=bytes(4), late=bytes(4), latencies_us=bytes(16),
    )  # fmt: skip
    log = FileLog.open(log_folder(home), now_us)
    log.write(Kind.DECIDED, 4, now_us, body_of(body))
    log.close()
    return home


@pytest.fixture
def server(home):
    server = ServerProcess(home, HOST, free_port(HOST))
    yield server
    server.stop()


def get(server, path):
    with urllib.request.urlopen(f"http://{HOST}:{server.port}{path}", timeout=30) as answer:
        return answer.read()


def post(server, body):
    request = urllib.request.Request(
        f"http://{HOST}:{server.port}/v1/score", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def payment(name, **changes):
    return {
        "transaction_id": name, "event_time": int(time.time()), "amount": 12.5, "card": "c1", "shop": "s1", "risk": 0.5,
    } | changes  # fmt: skip


def test_a_server_starts_decides_and_names_what_does_not_fit(server, home):
    for _ in range(2):
        server.start()
        set_aside = json.loads(get(server, "/health"))["log"]["set_aside"]
        assert [one["transaction_id"] for one in set_aside] == [LONG_ID, "long-card", "no-shop"]
        assert "length <= 128" in set_aside[0]["why"]
        assert b"sentinel_log_set_aside 3" in get(server, "/metrics/prom")
        assert post(server, payment(f"after-{_}"))[0] == 200
        server.kill()
    command = [sys.executable, "-m", "sentinel", "log", "verify", "--home", str(home), "--json"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert [one["transaction_id"] for one in said["set_aside"]] == [LONG_ID, "long-card", "no-shop"]


def test_what_a_number_would_be_as_text_is_limited_at_the_door(server):
    server.start()
    for changes in ({"transaction_id": 10**128}, {"card": 10**300}, {"channel": 10**256}):
        status, said = post(server, payment("poison", **changes))
        assert (status, said["path"]) == (422, f"$.{next(iter(changes))}")
        assert post(server, [payment("poison", **changes)])[1][0]["status"] == 422
    server.kill()
    server.start()
    assert post(server, payment("alive"))[0] == 200
