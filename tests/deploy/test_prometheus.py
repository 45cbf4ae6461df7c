"""A real Prometheus asks a real server, with the files of deploy/observability as they are."""

import json
import os
import re
import shutil
import time
from contextlib import closing
from http.client import HTTPConnection

import pytest
import yaml

from sentinel.commands.server_process import ServerProcess, free_port
from tests.deploy.own_prometheus import FILES, OwnPrometheus

HOST, PATIENCE_S = "127.0.0.1", 120
_METRIC = re.compile(r"\bsentinel_[a-z_]+")


@pytest.fixture(scope="module")
def prometheus():
    """The program."""
    found = shutil.which("prometheus")
    if found is None:
        if "promtool" in os.environ.get("SENTINEL_TEST_REQUIRE", ""):
            pytest.fail("prometheus is not installed: apt-get install prometheus")
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    return found


@pytest.fixture
def server(shop_home, tmp_path):
    started = ServerProcess(shutil.copytree(shop_home, tmp_path / "home"), HOST, free_port(HOST))
    started.start()
    yield started
    started.stop()


def score(server, n):
    body = {"transaction_id": f"t{n}", "event_time": int(time.time()), "amount": 5.0, "card": "c", "shop": "s"}
    with closing(HTTPConnection(HOST, server.port, timeout=60)) as connection:
        connection.request("POST", "/v1/score", json.dumps(body), {"content-type": "application/json"})
        assert connection.getresponse().status == 200


def until(found):
    end = time.monotonic() + PATIENCE_S
    while not (one := found()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)
    return one


def test_prometheus_asks_the_server_and_its_rules_find_what_they_name(prometheus, server, tmp_path):
    own = OwnPrometheus(prometheus, tmp_path / "prometheus", server.port, every_s=5)
    own.start()
    try:
        for n in range(5):
            score(server, n)
        until(lambda: [one["health"] for one in own.ask("targets")["activeTargets"]] == ["up"])
        until(lambda: own.ask("query", query="sentinel_requests_total")["result"])
        until(lambda: all(one["health"] == "ok" for group in own.ask("rules")["groups"] for one in group["rules"]))
        there = set(own.ask("label/__name__/values"))
        rules = [
            rule for group in yaml.safe_load((FILES / "alerts.yml").read_text())["groups"] for rule in group["rules"]
        ]
        loaded = {one["name"] for group in own.ask("rules")["groups"] for one in group["rules"]}
        assert loaded == {rule.get("alert") or rule["record"] for rule in rules}
        always = [
            rule["expr"] for rule in rules if rule.get("alert") in {"NothingIsRecorded", "BreakerOpen", "ViewBehind"}
        ]
        assert len(always) == 3
        assert {name for expr in always for name in _METRIC.findall(expr)} <= there
        assert own.ask("query", query="max by (job) (sentinel_log_writable)")["result"][0]["value"][1] == "1"
        server.kill()
        until(lambda: own.alerts().get("ServerAway") in ("pending", "firing"))
    finally:
        own.stop()
