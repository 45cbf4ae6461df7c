"""The hash key is rotated under a server that goes on: it is as if nothing had happened."""

import http.client
import json
import shutil
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

from sentinel.commands.replay import replay_all
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.entries import decision_rows
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.train.pipeline import train

HOST = "127.0.0.1"
FIRST, SECOND = "the first one, of 32 signs or many more", "2:the one that follows it, and has them too"
BEFORE = {"SENTINEL_HASH_KEY": FIRST}
AFTER = {"SENTINEL_HASH_KEY": SECOND, "SENTINEL_HASH_KEY_BEFORE": FIRST}
CARDS = ["4111111111111111", "5500000000000004", "4012888888881881", "378282246310005"]
CHANNELS = ["web", "chip", "fax", "ann@mail.example"]
HOUR_S, N = 3_600, 60
BEGAN = int(time.time()) - N * HOUR_S


@pytest.fixture(scope="module")
def trained(shop_detector, shop_history, tmp_path_factory):
    """A home whose cards are secret, and counted by shop, and whose channels are something personal."""
    file = tmp_path_factory.mktemp("rotation") / "rotated_shop.py"
    text = Path(shop_detector).read_text().replace("    category,", "    category,\n    distinct,", 1)
    counted = 'distinct("card", by="shop", over="7d"), distinct("channel", by="card", over="7d"),'
    text = text.replace('count(by="shop", over="1h"),', f'count(by="shop", over="1h"), {counted}', 1)
    file.write_text(text.replace("keys=", 'personal={"channel": "card"}, secret=("card",), keys=', 1))
    detector, home = load_detector(str(file)), tmp_path_factory.mktemp("rotation") / "home"
    history = history_of_frame(shop_history, detector.schema, secrets=Settings(home=home, hash_key=FIRST).secrets())
    HomeDeployment(home).promote(train(detector, history, Registry(home / "models"), lambda *_: None).version)
    return home


@pytest.fixture
def home(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "home")


@pytest.fixture
def start(tmp_path):
    started = []

    def starting(home, environment):
        server = ServerProcess(home, HOST, free_port(HOST), environment=environment)
        started.append(server)
        server.start()
        return server

    yield starting
    for one in started:
        one.kill()


def ask(server, method, path, body=None):
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def payment(n):
    return {
        "transaction_id": f"t{n}", "event_time": BEGAN + n * HOUR_S, "amount": 5.0 + n % 7, "card": CARDS[n % 4],
        "shop": f"shop-{n % 2}", "risk": 0.5, "channel": CHANNELS[n % 4],
    }  # fmt: skip


def pay(server, begin, end):
    for n in range(begin, end):
        status, answer = ask(server, "POST", "/v1/score", payment(n))
        assert (status, answer.get("replayed")) == (200, False), answer


def tell(server, n):
    status, answer = ask(server, "POST", "/v1/outcomes", {"transaction_id": f"t{n}", "is_fraud": True})
    assert status == 200, answer


def features(server):
    return [ask(server, "GET", f"/v1/decisions/t{n}")[1]["features"] for n in range(N)]


def channel(server, n):
    return ask(server, "GET", f"/v1/decisions/t{n}")[1]["transaction"]["channel"]


def decided_for(server, card):
    found, query = [], {"card": card, "limit": 4}
    while True:
        status, page = ask(server, "GET", f"/v1/decisions?{urllib.parse.urlencode(query)}")
        assert status == 200, page
        found += [one["transaction_id"] for one in page["decisions"]]
        if page["next"] is None:
            return found
        query["cursor"] = page["next"]


def sentinel(home, environment, *command):
    environment = ServerProcess(home, HOST, 1, environment=environment)._environment
    command = [sys.executable, "-m", "sentinel", *command, "--home", str(home), "--json"]
    done = subprocess.run(command, capture_output=True, env=environment)
    return json.loads(done.stdout)


def of_hash_key(home, environment):
    (found,) = [one for one in sentinel(home, environment, "doctor")["checks"] if one["what"] == "hash key"]
    return found["ok"], found["found"]


def test_a_rotation_changes_nothing_that_anyone_can_see(home, start, tmp_path):
    reference = start(shutil.copytree(home, tmp_path / "reference"), BEFORE)
    pay(reference, 0, 20)
    tell(reference, 1)
    pay(reference, 20, 30)
    tell(reference, 3)
    pay(reference, 30, N)
    expected = features(reference)
    reference.kill()

    server = start(home, BEFORE)
    pay(server, 0, 20)
    tell(server, 1)
    server.stop()

    server = start(home, AFTER)
    pay(server, 20, 30)
    tell(server, 3)
    server.kill()
    server.start()
    pay(server, 30, N)
    assert features(server) == expected
    assert max(row["distinct_channel_by_card_7d"] for row in expected) == 1
    assert max(row["distinct_card_by_shop_7d"] for row in expected) == 2
    assert max(row["fraud_rate_by_shop_7d_delayed_1d"] for row in expected) > 0

    for n in (0, 19, 20, N - 1):
        status, again = ask(server, "POST", "/v1/score", payment(n))
        assert (status, again.get("replayed")) == (200, True), again
        assert ask(server, "POST", "/v1/score", payment(n) | {"card": CARDS[(n + 1) % 4]})[0] == 409
    assert decided_for(server, CARDS[1]) == [f"t{n}" for n in reversed(range(1, N, 4))]
    assert of_hash_key(home, AFTER)[0]
    changes = [one["after"] for one in sentinel(home, AFTER, "audit")["changes"]]
    assert changes.count('{"hash_key":"2"}') == 1

    assert channel(server, 1) == channel(server, N - 3) == CHANNELS[1]
    done = sentinel(home, AFTER, "erase", f"card={CARDS[1]}")
    assert (done["found"], done["value"][:3]) == (True, "s2_")
    assert {channel(server, n) for n in range(1, N, 4)} == {"erased"}
    assert channel(server, 2) == CHANNELS[2]
    server.stop()
    assert_features_can_be_computed_again(home)

    ok, found = of_hash_key(home, {"SENTINEL_HASH_KEY": SECOND})
    assert not ok
    assert "give it again as SENTINEL_HASH_KEY_BEFORE_FILE" in found


def assert_features_can_be_computed_again(home):
    bundle, log = load_bundle(home / "models" / "v1"), FileLogReader(log_folder(home))
    state = FeatureState(bundle, activation_of(log, bundle.state_id))
    state.store, compared = bundle.new_store(), 0
    for page in Follower(log, state.begin).rest():
        for record in page:
            again = state.take(record)
            if record.kind == Kind.DECIDED:
                stored = np.stack([row.features for row in decision_rows(record)])
                np.testing.assert_array_equal(again.rows.view(np.uint64), stored.view(np.uint64))
                compared += len(stored)
    log.close()
    assert compared == N


def test_an_id_with_a_card_number_in_it_keeps_its_decision(home, start):
    named = {**payment(0), "transaction_id": f"order-{CARDS[2]}-1"}
    path = f"/v1/decisions/{named['transaction_id']}"
    server = start(home, BEFORE)
    status, first = ask(server, "POST", "/v1/score", named)
    assert status == 200
    server.stop()
    server = start(home, AFTER)
    assert ask(server, "POST", "/v1/score", named) == (200, first | {"replayed": True})
    status, told = ask(server, "POST", "/v1/outcomes", {"transaction_id": named["transaction_id"], "is_fraud": True})
    assert (status, told["replayed"]) == (200, False)
    status, found = ask(server, "GET", path)
    assert status == 200
    assert [one["is_fraud"] for one in found["outcomes"]] == [True]


def test_a_card_on_a_list_stays_on_it_while_a_key_follows_another_and_is_nowhere_in_clear(home, start):
    card, email = "card-of-a-thief-4711", "thief@mail.example"
    lists = [{"name": "bad", "kind": "deny", "by": "card"}, {"name": "mails", "kind": "watch", "by": "channel"}]
    rules = [{"name": "any", "when": "amount > 1", "do": "challenge", "reason": "to sleep for some"}]
    server = start(home, BEFORE)
    draft = ask(server, "POST", "/v1/rules/drafts", {"book": {"lists": lists, "rules": rules}})[1]["draft"]
    assert ask(server, "POST", "/v1/rules/apply", {"draft": draft})[0] == 200
    for path, body in (
        ("/v1/lists/bad", {"value": card, "reason": "stolen"}),
        ("/v1/lists/mails", {"value": email}),
        ("/v1/rules/snooze", {"rule": "any", "by": "card", "value": card, "until": "2040-01-01"}),
    ):
        assert ask(server, "POST", path, body)[0] == 200

    def fired(name):
        sent = {"transaction_id": name, "event_time": time.time(), "amount": 5.0, "card": card, "shop": "s"}
        found = ask(server, "POST", "/v1/score", sent | {"channel": email})[1]
        return found["decision"], found["rules"]

    assert fired("before") == ("block", ["list bad", "list mails"])
    server.kill()
    server = start(home, AFTER)
    assert fired("after") == ("block", ["list bad", "list mails"])
    assert ask(server, "GET", f"/v1/lists/bad/{card}")[1]["is_on"]
    ask(server, "POST", "/v1/lists/bad", {"value": card, "remove": True})
    assert fired("free") == ("approve", ["list mails"])
    [ended] = ask(server, "GET", f"/v1/lists/bad/{card}")[1]["periods"]
    assert ended["until"] is not None
    server.stop()
    found = replay_all(Settings(home=home), None, None, lambda *_: None)
    assert (found.decisions, found.differing, found.impossible) == (3, 0, 0)
    stored = b"".join(one.read_bytes() for one in home.rglob("*") if one.is_file())
    assert card.encode() not in stored
    assert email.encode() not in stored
