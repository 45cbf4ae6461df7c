"""A detector that challenges, from its training to its metrics; and one that does not, which never says the word."""

import json
import shutil
import urllib.error
import urllib.request
from contextlib import closing

import msgspec
import pytest

from sentinel import Costs, Fallback, LeastLoss, Policy
from sentinel.commands.replay import replay_all
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import read_settings
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame
from sentinel.model.registry import Registry
from sentinel.policy.fail_policy import FailPolicy
from sentinel.record.applied import HomeDeployment
from sentinel.train.pipeline import train

HOST = "127.0.0.1"
COSTS = Costs(false_alarm=10.0, review=5.0, challenge=0.5, challenge_lost=0.03, challenge_stops=0.8)


@pytest.fixture(scope="module")
def challenging_home(tmp_path_factory, shop_detector, shop_history):
    """A home folder whose model v1 challenges where that costs least, and whose rules may."""
    home = tmp_path_factory.mktemp("challenging") / "home"
    detector = msgspec.structs.replace(
        load_detector(shop_detector),
        policy=LeastLoss(costs=COSTS, challenge=True),
        fallback=Fallback(base=0.3, challenge_at=0.2),
        on_fault=FailPolicy(no_time="challenge"),
    )
    history = history_of_frame(shop_history, detector.schema)
    HomeDeployment(home).promote(train(detector, history, Registry(home / "models"), lambda *_: None).version)
    return home


def serving(home, tmp_path):
    shutil.copytree(home, tmp_path / "home")
    server = ServerProcess(tmp_path / "home", HOST, free_port(HOST))
    server.start()
    return closing(Stopping(server))


class Stopping:
    """A server that is asked, and stopped when it is closed."""

    def __init__(self, server):
        self.server, self.home, self.close = server, server.home, server.stop

    def ask(self, path, body=None):
        asked = urllib.request.Request(
            f"http://{HOST}:{self.server.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=20) as reply:
                text = reply.read().decode()
                return reply.status, text if path.endswith("prom") else json.loads(text)
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read())


def payment(n, **given):
    return {
        "transaction_id": f"p{n}", "event_time": "2025-02-01T12:00:00Z", "amount": 20.0 + n, "card": f"card-{n % 20}",
        "shop": "shop-3" if n % 2 else "shop-5", "channel": "web", "risk": 0.1,
    } | given  # fmt: skip


def test_a_challenge_is_decided_answered_found_counted_and_replayed(challenging_home, tmp_path):
    with serving(challenging_home, tmp_path) as server:
        in_force = server.ask("/admin/thresholds")[1]["a"]
        assert in_force["challenge"] < in_force["review"] <= in_force["block"]
        status, answers = server.ask("/v1/score", [payment(n) for n in range(200)])
        assert status == 200
        for one in answers:
            begins = [name for name in ("challenge", "review", "block") if one["fraud_probability"] >= in_force[name]]
            assert one["decision"] == (begins or ["approve"])[-1]
            assert one["threshold"] == in_force["challenge"]
            assert one["thresholds"] == in_force
        challenged = {one["transaction_id"] for one in answers if one["decision"] == "challenge"}
        assert challenged
        again = server.ask("/v1/score", payment(int(next(iter(challenged))[1:])))[1]
        assert (again["decision"], again["replayed"], again["thresholds"]) == ("challenge", True, in_force)

        stored = server.ask(f"/v1/decisions/{again['transaction_id']}")[1]
        assert (stored["decision"], stored["thresholds"]) == ("challenge", in_force)
        found = server.ask("/v1/decisions?action=challenge&limit=500")[1]["decisions"]
        assert {one["transaction_id"] for one in found} == challenged

        assert server.ask("/metrics")[1]["challenge"] == len(challenged)
        text = server.ask("/metrics/prom")[1]
        assert f'sentinel_actions_total{{action="challenge"}} {len(challenged)}.0' in text
        assert f'sentinel_decisions_total{{decision="challenge"}} {len(challenged)}.0' in text

        vector = {"features": list(stored["features"].values())}
        predicted = server.ask("/predict", vector)[1]
        assert (predicted["decision"], predicted["threshold_used"]) == ("challenge", in_force["challenge"])
        assert server.ask("/predict", vector)[1]["decision"] == "challenge"  # from the cache
        assert server.ask("/metrics")[1]["challenge"] == len(challenged) + 2

        changed = server.ask("/admin/thresholds", {"challenge": 0.0, "review": 0.99, "block": 1.0})
        assert changed == (200, {"a": {"review": 0.99, "block": 1.0, "challenge": 0.0}})
        assert server.ask("/v1/score", payment(900))[1]["decision"] == "challenge"
        refused = server.ask("/admin/thresholds", {"challenge": 0.6, "review": 0.5})
        assert refused[0] == 400
        assert "challenge (0.6) must be at most review (0.5)" in refused[1]["error"]
        assert server.ask("/admin/thresholds", {"challenge": 0.6})[0] == 400

        server.ask("/admin/fallback", {"only": True})
        by_rules = server.ask("/v1/score", payment(901))[1]
        assert (by_rules["decision"], by_rules["fraud_probability"], by_rules["threshold"]) == ("challenge", 0.3, 0.2)
    report = replay_all(read_settings({"home": server.home}), None, None, lambda *_: None)
    assert (report.decisions, report.differing, report.impossible) == (202, 0, 0)


def test_who_never_declared_a_block_hears_of_none(shop_detector, shop_history, tmp_path):
    detector = msgspec.structs.replace(
        load_detector(shop_detector), policy=Policy(block_at_fpr=None), fallback=Fallback()
    )
    home, history = tmp_path / "never-blocks", history_of_frame(shop_history, detector.schema)
    HomeDeployment(home).promote(train(detector, history, Registry(home / "models"), lambda *_: None).version)
    with serving(home, tmp_path) as server:
        refused = server.ask("/admin/thresholds", {"review": 0.5, "block": 0.9})
        assert (refused[0], "v1 never blocks" in refused[1]["error"]) == (400, True)
        assert server.ask("/admin/thresholds", {"review": 0.5})[0] == 200


def test_who_never_declared_a_challenge_hears_of_none(shop_home, tmp_path):
    with serving(shop_home, tmp_path) as server:
        answer = server.ask("/v1/score", payment(1))[1]
        assert set(answer["thresholds"]) == {"review", "block"}
        assert answer["threshold"] == answer["thresholds"]["review"]
        refused = server.ask("/admin/thresholds", {"challenge": 0.1, "review": 0.5})
        assert refused[0] == 400
        assert "v1 never challenges" in refused[1]["error"]
        assert "declare it in the detector's policy" in refused[1]["error"]
        assert server.ask("/v1/decisions?action=challenge")[1]["decisions"] == []
