"""A challenger that counts by other keys, over the same fields: as a shadow, in an experiment, and as the champion."""

import shutil
import time
from pathlib import Path

import msgspec
import pytest

from sentinel import count, distinct, field, seconds_since_last
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.detectors import load_detector
from sentinel.events.columns import columns_of_events
from sentinel.events.files import history_of_frame
from sentinel.learner import XGBoost
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.train.pipeline import train

SHOP = load_detector(str(Path(__file__).parents[2] / "shop_detector.py"))
BY_CHANNEL = msgspec.structs.replace(
    SHOP,
    schema=msgspec.structs.replace(SHOP.schema, keys=("channel", "card"), categories=("shop",)),
    features=(
        field("amount"), count(by="channel", over="1h"), distinct("card", by="channel", over="24h"), count(by="card", over="24h"),
        seconds_since_last(by="channel"),
    ),
    training=msgspec.structs.replace(SHOP.training, learner=XGBoost(trees=10)),
)  # fmt: skip
HOST = "127.0.0.1"
BEGIN_S = 1_738_400_000


@pytest.fixture
def server(shop_home, make_shop_frame, tmp_path):
    """v1 decides; v2 has the keys of BY_CHANNEL."""
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    train(
        BY_CHANNEL,
        history_of_frame(make_shop_frame(6000), BY_CHANNEL.schema),
        Registry(home / "models"),
        lambda *_: None,
    )
    server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_LEAST_DEADLINE_MS": "60000"})
    server.start()
    yield server
    server.stop()
    assert "Traceback" not in (home / "server.log").read_text()


def payment(n):
    return {"transaction_id": f"t{n}", "event_time": BEGIN_S + 60 * n, "amount": 5.25 + n, "card": f"card-{n % 23}", "shop": f"shop-{n % 3}",
            "channel": ("web", "chip", None)[n % 3], "risk": 0.5}  # fmt: skip


def wait_for(what, patience_s=60):
    until = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.1)
    return found


def test_it_is_a_shadow_an_experiment_and_the_champion(server, ask):
    def call(method, path, body=b"", status=200):
        answer = ask(server.port, method, path, body, x_deadline_ms="60000")
        assert answer.status == status, answer.json
        return answer.json

    def pay(numbers):
        return [call("POST", "/v1/score", payment(n)) for n in numbers]

    call("POST", "/admin/shadow/start", {"version": "v2"})
    wait_for(lambda: call("GET", "/admin/shadow/status").get("running"))
    pay(range(30))
    scored = wait_for(lambda: call("GET", "/v1/decisions/t29")["shadow"])
    call("POST", "/admin/shadow/stop")
    call("POST", "/admin/ab/setup", {"candidate_version": "v2"})
    call("POST", "/admin/ab/split", {"percent": 50})
    answers = pay(range(30, 90))
    assert {one["variant"] for one in answers} == {"a", "b"}
    call("POST", "/v1/outcomes", {"transaction_id": "t40", "is_fraud": True})

    offline = offline_features(server.home, [payment(n) for n in range(120)])
    for n, answer in zip(range(30, 90), answers, strict=True):
        if answer["variant"] == "b":
            found = call("GET", f"/v1/decisions/t{n}")
            assert (found["model_version"], found["transaction"]["channel"]) == ("v2", payment(n)["channel"])
            assert found["features"] == offline[n]
    assert scored

    server.stop()
    server.start()
    assert [one["replayed"] for one in pay(range(30, 90))] == [True] * 60
    call("POST", "/admin/ab/promote")
    answers = pay(range(90, 120))
    assert {one["model_version"] for one in answers} == {"v2"}
    assert call("GET", "/v1/decisions/t119")["features"] == offline[119]
    listed = wait_for(lambda: call("GET", "/v1/decisions?channel=web&limit=100")["decisions"])
    assert {one["transaction_id"] for one in listed} <= {f"t{n}" for n in range(0, 120, 3)}


def offline_features(home, payments):
    """What one replay of all of them has, after the history of v2."""
    bundle = load_bundle(home / "models" / "v2")
    plan, store = bundle.manifest.plan, bundle.new_store()
    events = [plan.schema.decode(msgspec.json.encode(one)) for one in payments]
    rows = [
        store.advance(columns_of_events(plan.schema)([one], time.time_ns() // 1000)).rows[0].tolist() for one in events
    ]
    return [
        {name: None if value != value else value for name, value in zip(plan.names, row, strict=True)} for row in rows
    ]
