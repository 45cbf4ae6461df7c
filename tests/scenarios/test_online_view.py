"""A server with an online view in Redis: what it answers, and that no decision needs it."""

import os
import secrets
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import redis

from sentinel.commands.server_process import ServerProcess, free_port
from tests.http_calls import HOST, call, until


@pytest.fixture
def url(service):
    return service("redis").environment["REDIS_URL"]


@pytest.fixture
def home(shop_home, tmp_path):
    """Of a tenant of its own: its project in Redis is no other test's."""
    return shutil.copytree(shop_home, tmp_path / "tenants" / f"t{secrets.token_hex(4)}")


def pay(server, *numbers):
    for n in numbers:
        at = datetime.now(UTC).isoformat()
        row = {"transaction_id": f"p{n}", "event_time": at, "amount": 10.0 + n, "card": f"c{n % 3}", "shop": "s1"}
        assert call(server, "/v1/score", row)[0] == 200


def sentinel(home, url, *arguments):
    command = [sys.executable, "-m", "sentinel", *arguments, "--json", "--home", str(home)]
    environment = {**os.environ, "SENTINEL_REDIS_URL": url}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def features_of(server, card):
    return call(server, f"/v1/features/card/{card}")


def is_caught_up(server):
    return call(server, "/health")[1]["online"]["lag"] == 0


def test_the_newest_features_are_served_lost_and_made_again(home, url):
    server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_REDIS_URL": url})
    server.start()
    try:
        pay(server, *range(9))
        until(lambda: is_caught_up(server))
        status, found = features_of(server, "c2")
        decided = call(server, "/v1/decisions/p8")[1]
        assert status == 200
        assert found["features"] == {name: decided["features"][name] for name in found["features"]}
        assert found["event_time"] == decided["transaction"]["event_time"]
        assert 0 <= found["age_ms"] < 60_000
        assert (found["lag"], found["key"]) == (0, {"card": "c2"})
        assert features_of(server, "c77")[0] == 404
        assert call(server, "/v1/features/colour/red")[0] == 404
        assert call(server, "/v1/features/card/c2?shop=s1")[0] == 422
        done = sentinel(home, url, "views", "rebuild", "--online")
        assert done.returncode == 0, done.stderr
        assert features_of(server, "c2")[1]["features"] == found["features"]
        with redis.Redis.from_url(url) as tool:  # as if it had been started without its file
            for name in tool.scan_iter(f"*sentinel_{home.name}_*", count=10_000):
                tool.delete(name)
        until(lambda: features_of(server, "c2")[0] == 200)
        assert features_of(server, "c2")[1]["features"] == found["features"]
    finally:
        server.stop()
    assert sentinel(home, url, "views", "rebuild", "--online").returncode == 0


def test_a_redis_that_is_away_costs_its_own_call_and_nothing_else(home):
    url = f"redis://default:secret-word@{HOST}:{free_port(HOST)}/0"
    server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_REDIS_URL": url})
    server.start()
    try:
        pay(server, *range(3))
        until(lambda: "see that it runs" in call(server, "/health")[1]["online"]["status"])
        assert call(server, "/health/ready")[0] == 200
        status, said = features_of(server, "c1")
        assert status == 503
        assert "secret-word" not in str(said)
        pay(server, 3)
    finally:
        server.stop()
    assert "secret-word" not in (home / "server.log").read_text()
