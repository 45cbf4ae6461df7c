"""A server that tells others: what becomes of decisions, and what its operators have to know, over kills."""

import json
import shutil
import urllib.request

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port

HOST = "127.0.0.1"


def ask(server, path, body):
    headers = {"content-type": "application/json"}
    asked = urllib.request.Request(f"http://{HOST}:{server.port}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture
def serve(shop_home, tmp_path, receivers):
    """A server whose messages go to a receiver, and the receiver."""
    shutil.copytree(shop_home, tmp_path / "home")
    receiver = receivers()
    settings = {
        "SENTINEL_WEBHOOK_URL": receiver.url, "SENTINEL_WEBHOOK_SECRET": "w" * 40, "SENTINEL_WEBHOOK_PRIVATE": "true",
        "SENTINEL_FORCE_CIRCUIT_OPEN": "true",
    }  # fmt: skip
    server = ServerProcess(tmp_path / "home", HOST, free_port(HOST), environment=settings)
    server.start()
    yield server, receiver, settings
    server.stop()


def test_results_and_alarms_go_out_and_a_restart_tells_nothing_twice(serve, until):
    server, receiver, settings = serve

    def of(kind):
        return {one["id"]: one for one in receiver.messages if one["kind"] == kind}

    until(lambda: of("breaker.open"))
    payment = {"transaction_id": "t1", "event_time": 1_738_400_000, "amount": 5, "card": "c", "shop": "s"}
    ask(server, "/v1/score", payment)
    assert ask(server, "/v1/decisions/t1/result", {"result": "captured"})["state"] == "captured"
    (told,) = until(lambda: of("decision.state")).values()
    assert (told["about"], told["data"]["state"], told["data"]["told_by"]) == ("t1", "captured", "operator")
    server.kill()
    server.start()
    ask(server, "/v1/score", payment | {"transaction_id": "t2"})
    ask(server, "/v1/decisions/t2/result", {"result": "captured"})
    until(lambda: "t2" in {one["about"] for one in of("decision.state").values()})
    assert len(of("breaker.open")) == 1
    runner = CliRunner()
    tested = runner.invoke(app, ["notifications", "test", "--home", str(server.home)], env=settings)
    assert (tested.exit_code, "webhook 1: ok" in tested.output) == (0, True)
    assert of("notification.test")
    listed = runner.invoke(app, ["notifications", "list", "--json", "--home", str(server.home)], env=settings)
    shown = json.loads(listed.stdout)
    assert {one["kind"] for one in shown["deliveries"]} == {"breaker.open", "decision.state"}
    assert "w" * 40 not in listed.output
    assert "key=secret" not in listed.output
    again = runner.invoke(app, ["notifications", "retry", "1", "--home", str(server.home)], env=settings)
    assert (again.exit_code, "only a parked one" in " ".join(again.output.split())) == (1, True)
