"""The calls that the pages of models are drawn from: score curves, trails of experiments, retrainings."""

import asyncio
import contextlib
import http.client
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest

from sentinel.errors import Overloaded
from sentinel.model.bundle import read_manifest
from sentinel.policy.costs import Costs
from sentinel.policy.score_curve import ScoreCurve
from sentinel.policy.thresholds import Thresholds
from sentinel.record.retrainings import Asked, Failure, Run, Step, write_run
from sentinel.transport.http.admin import score_curves

PATIENCE_S = 120.0


class Answer(NamedTuple):
    status: int
    json: Any


@pytest.fixture(scope="module")
def server(start_server, two_models_home):
    return start_server(two_models_home, {})


@pytest.fixture(scope="module")
def call(server):
    """Asks and waits long: a curve of the log is made by a process of the lowest priority."""

    def asking(method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        sent = None if body is None else json.dumps(body)
        headers = {"content-type": "application/json"} if method == "POST" else {}
        with contextlib.closing(connection):
            connection.request(method, path, sent or ("" if method == "POST" else None), headers)
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()))

    return asking


def payment(n):
    now = datetime.now(UTC).isoformat()
    return {"transaction_id": f"p{n}", "event_time": now, "amount": 10.0 + n, "card": f"c{n % 9}", "shop": "shop-1",
            "channel": "web", "risk": 0.1}  # fmt: skip


def test_the_curve_of_a_training_says_what_its_thresholds_were_found_to_do(call, server):
    found = call("GET", "/admin/thresholds/curve")
    assert found.status == 200, found.json
    manifest = read_manifest(server.home / "models/v1")
    assert found.json["version"] == "v1"
    curve, costs = (msgspec.convert(found.json[name], kind) for name, kind in (("curve", ScoreCurve), ("costs", Costs)))
    told = curve.consequences(msgspec.convert(manifest.thresholds, Thresholds), costs)
    assert told.recall == pytest.approx(manifest.metrics["review"]["recall"])
    assert told.precision == pytest.approx(manifest.metrics["review"]["precision"])


def test_the_curve_of_what_was_decided_counts_each_decision_with_an_outcome(call):
    answers = call("POST", "/v1/score", [payment(n) for n in range(60)]).json
    refused = call("GET", "/admin/thresholds/curve?from=2020-01-01")
    assert (refused.status, "no outcome" in refused.json["error"]) == (422, True)
    for n in range(30):
        told = {"transaction_id": f"p{n}", "is_fraud": n % 10 == 0}
        assert call("POST", "/v1/outcomes", told).status == 200
    found = call("GET", "/admin/thresholds/curve?from=2020-01-01&version=v1").json
    curve = msgspec.convert(found["curve"], ScoreCurve)
    assert (curve.frauds[0], curve.others[0]) == (3, 27)
    assert "30 of 60" in found["measured_on"]
    at = sorted(one["fraud_probability"] for one in answers[:30])[15]
    flagged = sum(one["fraud_probability"] >= at for one in answers[:30])
    told = curve.consequences(Thresholds(at, None), Costs())
    assert told.reviews_a_day / curve.a_day == pytest.approx(flagged)
    amounts = sum(payment(n)["amount"] for n in (0, 10, 20))
    assert curve.fraud_amounts[0] == pytest.approx(amounts)


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("version=v9", 400, "there is no"), ("version=--help", 400, "there is no"), ("from=soon", 422, "$.from"),
        ("colour=red", 422, "version, from or until"), ("from=2030-01-01&until=2020-01-01", 422, "must be later"),
    ],
)  # fmt: skip
def test_a_curve_that_cannot_be_says_why(call, query, status, text):
    found = call("GET", f"/admin/thresholds/curve?{query}")
    assert found.status == status, found.json
    assert text in found.json["error"] or text in found.json.get("path", "")


def test_an_experiment_leaves_a_trail_that_ends_where_its_status_is(call):
    assert call("GET", "/admin/ab/trail").json["at_us"] == []
    assert call("POST", "/admin/ab/setup", {"candidate_version": "v2"}).status == 200
    assert call("POST", "/admin/ab/split", {"percent": 50}).status == 200
    try:
        for n in range(5):
            rows = [payment(1_000 + 100 * n + i) | {"card": f"t{i}"} for i in range(100)]
            assert call("POST", "/v1/score", rows).status == 200
        status, trail = call("GET", "/admin/ab/status").json, call("GET", "/admin/ab/trail").json
        tallies = status["tallies"]
        assert trail["decisions_a"][-1] == tallies["a"]["decisions"]
        assert trail["decisions_b"][-1] == tallies["b"]["decisions"]
        flagged = status["comparison"]["flag_rate"]
        assert trail["metrics"]["flag_rate"]["difference"][-1] == flagged["difference"]
    finally:
        assert call("POST", "/admin/ab/abort").status == 200
    assert call("GET", "/admin/ab/trail").json["at_us"] == []


def test_retrainings_are_told_as_they_are_written_down_the_newest_first(call, server):
    assert call("GET", "/admin/retrainings").json == {"running": None, "ended": None, "in_all": 0, "runs": []}
    asked = Asked("shop", None, {})
    step = Step("gate", "2026-01-01T00:00:09Z", 2.5, {"failures": ["recall fell"], "compared": None})
    runs = [
        Run("one", "2026-01-01T00:00:00Z", 1, asked, [step], ended="refused"),
        Run("two", "2026-01-02T00:00:00Z", 1, asked, failed=Failure("train", "2026-01-02T00:00:09Z", "no fraud in it")),
    ]
    for run in runs:
        write_run(server.home, run)
    found = call("GET", "/admin/retrainings").json
    assert found["runs"] == json.loads(msgspec.json.encode(runs[::-1]))
    newest = call("GET", "/admin/retrainings?limit=1").json
    assert ([one["name"] for one in newest["runs"]], newest["in_all"]) == (["two"], 2)
    assert call("GET", "/admin/retrainings?limit=0").status == 422


def test_curves_of_the_log_have_a_short_queue(monkeypatch, tmp_path):
    begun, told = [], json.dumps(dict.fromkeys(("version", "measured_on", "days", "costs", "curve"))).encode()

    async def all_at_once():
        may = asyncio.Event()

        async def told_by(_home, command):
            begun.append(command)
            await may.wait()
            return told

        monkeypatch.setattr(score_curves, "told_by", told_by)
        rollout = SimpleNamespace(
            deployment=SimpleNamespace(champion="v1"), registry=SimpleNamespace(versions=lambda: ["v1"])
        )
        settings = SimpleNamespace(home=tmp_path, label_delay="10d")
        curves = score_curves.ScoreCurves(SimpleNamespace(rollout=rollout, api=SimpleNamespace(settings=settings)))
        asked = [asyncio.create_task(curves.of({"from": f"2026-01-{day:02d}"})) for day in range(1, 21)]
        while sum(one.done() for one in asked) < 12:
            await asyncio.sleep(0.01)
        assert len(begun) == 1  # one at a time
        may.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in found if isinstance(one, Exception)] == [Overloaded] * 12
        assert (await curves.of({"from": "2026-02-01"}))["version"] is None

    asyncio.run(all_at_once())
