"""The published contracts of two open systems, asked as their own documentation asks them.

Sentinel-Stream (`POST /v1/score` with seven numbers) is the `velocity` detector. The Go service of Sameer Deshmukh
(`POST /predict` with 30 floats: Time, V1 to V28, Amount) is the `creditcard` detector.
"""

import http.client
import json
import shutil
import time
import urllib.request

import msgspec
import numpy as np
import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.commands.simulate import velocity_rows
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame, read_history
from sentinel.events.reading import Reading
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.simulate.payments import simulate
from sentinel.train.pipeline import train

HOST = "127.0.0.1"
EXAMPLE = {
    "amount": 120.5, "hour_of_day": 14, "days_since_last_txn": 0.5, "txn_count_24h": 3,
    "distinct_merchants_24h": 2, "avg_amount_7d": 80.0, "channel_online": 1,
}  # fmt: skip


def quick(detector):
    learner = msgspec.structs.replace(detector.training.learner, trees=20, patience=20)
    return msgspec.structs.replace(detector, training=msgspec.structs.replace(detector.training, learner=learner))


def train_home(home, detector, history):
    manifest = train(quick(detector), history, Registry(home / "models"), lambda *_: None)
    HomeDeployment(home).promote(manifest.version)
    return home


@pytest.fixture(scope="session")
def velocity_home(tmp_path_factory):
    """A home folder with a model of 30,000 simulated payments in the seven fields; copy it before you write to it."""
    detector = load_detector("velocity")
    history = history_of_frame(velocity_rows(simulate(30_000, 42)), detector.schema)
    return train_home(tmp_path_factory.mktemp("velocity"), detector, history)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    started = []

    def starting(home, **environment):
        copy = tmp_path_factory.mktemp("served") / "home"
        shutil.copytree(home, copy)
        server = ServerProcess(copy, HOST, free_port(HOST), environment=environment)
        started.append(server)
        server.start()
        return server

    yield starting
    for server in started:
        server.stop()
        assert "Traceback" not in (server.home / "server.log").read_text()


def post(server, path, body):
    """As curl does it."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def get(server, path):
    with urllib.request.urlopen(f"http://{server.host}:{server.port}{path}", timeout=10) as reply:
        return reply.read()


def samples(server):
    return {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(get(server, "/metrics/prom").decode())
        for one in family.samples
    }


def rules(one):
    """The heuristic as Sentinel-Stream wrote it down."""
    score = 0.05
    score += 0.18 * (one["amount"] > 2500)
    score += 0.15 * (one["amount"] > 8000)
    score += 0.22 * (one["txn_count_24h"] > 15)
    score += 0.12 * (one["distinct_merchants_24h"] > 8 and one["txn_count_24h"] > 8)
    score += 0.15 * (one["days_since_last_txn"] < 0.05 and one["amount"] > 200)
    score += 0.08 * (one["channel_online"] >= 0.5 and one["amount"] > 1500)
    return min(max(score, 0.0), 1.0)


# Sentinel-Stream


@pytest.fixture(scope="module")
def velocity(start, velocity_home):
    return start(velocity_home)


def test_its_example_is_answered_with_its_fields(velocity):
    status, answer = post(velocity, "/v1/score", EXAMPLE)
    assert status == 200
    assert 0 <= answer["fraud_probability"] <= 1
    assert answer["decision"] == ("review" if answer["fraud_probability"] >= answer["threshold"] else "approve")
    assert answer["circuit_breaker_state"] == "closed"
    assert answer["degraded"] is None
    bundle = load_bundle(velocity.home / "models" / "v1")
    row = np.array([list(EXAMPLE.values())], np.float32)
    assert answer["fraud_probability"] == float(bundle.scorer.score(row)[0])
    assert answer["threshold"] == bundle.manifest.thresholds["review"]


def test_an_id_and_a_time_are_assigned_and_the_decision_can_be_read_back(velocity):
    _, first = post(velocity, "/v1/score", EXAMPLE)
    _, second = post(velocity, "/v1/score", EXAMPLE)
    assert first["transaction_id"] != second["transaction_id"]
    assert not second["replayed"]
    stored = json.loads(get(velocity, f"/v1/decisions/{first['transaction_id']}"))
    assert {name: stored["features"][name] for name in EXAMPLE} == EXAMPLE
    assert stored["fraud_probability"] == first["fraud_probability"]


def test_an_obvious_fraud_is_reviewed_and_a_usual_payment_is_not(velocity):
    burst = {**EXAMPLE, "amount": 900.0, "days_since_last_txn": 0.001, "txn_count_24h": 30,
             "distinct_merchants_24h": 20, "hour_of_day": 3}  # fmt: skip
    _, fraud = post(velocity, "/v1/score", burst)
    _, usual = post(velocity, "/v1/score", {**EXAMPLE, "amount": 20.0, "channel_online": 0, "txn_count_24h": 1,
                                            "distinct_merchants_24h": 1})  # fmt: skip
    assert (fraud["decision"], usual["decision"]) == ("review", "approve")
    assert fraud["fraud_probability"] > usual["fraud_probability"]


RANGES = {
    "amount": (0, None), "hour_of_day": (0, 23), "days_since_last_txn": (0, None), "txn_count_24h": (0, None),
    "distinct_merchants_24h": (0, None), "avg_amount_7d": (0, None), "channel_online": (0, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_its_ranges_hold_and_every_field_is_needed(velocity, name):
    least, most = RANGES[name]
    wrong = [least - 0.01, "1", None, True] + ([] if most is None else [most + 0.01])
    for value in wrong:
        status, answer = post(velocity, "/v1/score", {**EXAMPLE, name: value})
        assert (status, answer["status"], answer["path"]) == (422, 422, f"$.{name}")
    status, answer = post(velocity, "/v1/score", {key: value for key, value in EXAMPLE.items() if key != name})
    assert status == 422
    assert name in answer["error"]
    for value in [least] + ([] if most is None else [most]):
        assert post(velocity, "/v1/score", {**EXAMPLE, name: value})[0] == 200


CASES = [
    EXAMPLE,
    {**EXAMPLE, "amount": 2500.0},
    {**EXAMPLE, "amount": 2500.01},
    {**EXAMPLE, "amount": 8000.01, "channel_online": 0},
    {**EXAMPLE, "amount": 1500.01},
    {**EXAMPLE, "txn_count_24h": 16},
    {**EXAMPLE, "txn_count_24h": 9, "distinct_merchants_24h": 9},
    {**EXAMPLE, "txn_count_24h": 8, "distinct_merchants_24h": 9},
    {**EXAMPLE, "days_since_last_txn": 0.049, "amount": 200.01},
    {**EXAMPLE, "days_since_last_txn": 0.05, "amount": 200.01},
    {**EXAMPLE, "amount": 3000.0, "txn_count_24h": 16, "distinct_merchants_24h": 9},
    {**EXAMPLE, "amount": 9000.0, "txn_count_24h": 16, "distinct_merchants_24h": 9, "days_since_last_txn": 0.01},
]


def test_with_the_circuit_forced_open_its_rules_decide_exactly(start, velocity_home):
    server = start(velocity_home, SENTINEL_FORCE_CIRCUIT_OPEN="1")
    seen = set()
    for one in CASES:
        status, answer = post(server, "/v1/score", one)
        assert (status, answer["circuit_breaker_state"], answer["degraded"]) == (200, "open", "circuit open")
        assert answer["fraud_probability"] == pytest.approx(rules(one), abs=1e-12)
        assert answer["threshold"] == 0.35
        assert answer["decision"] == ("review" if round(rules(one), 9) >= 0.35 else "approve")
        seen.add(answer["decision"])
        stored = json.loads(get(server, f"/v1/decisions/{answer['transaction_id']}"))
        assert (stored["degraded"], stored["circuit_breaker_state"]) == ("circuit open", "open")
        vector = post(server, "/predict", {"features": one})[1]
        assert (vector["circuit_breaker_state"], vector["degraded"]) == ("open", "circuit open")
        assert vector["fraud_probability"] == pytest.approx(rules(one), abs=1e-12)
        assert not vector["cache_hit"]
    assert seen == {"approve", "review"}
    assert max(rules(one) for one in CASES) == pytest.approx(0.95)
    found = samples(server)
    assert found[("sentinel_breaker_state",)] == 2
    assert found[("sentinel_shed_decisions_total", "breaker_open")] == 2 * len(CASES)
    assert json.loads(get(server, "/health"))["circuit_breaker_state"] == "open"


def test_an_injected_latency_trips_the_breaker_and_nobody_waits_for_the_model(start, velocity_home):
    server = start(velocity_home, SENTINEL_INJECT_LATENCY_MS="100", SENTINEL_CIRCUIT_THRESHOLD_MS="20")
    answers, waits = [], []
    begun = time.monotonic()
    while time.monotonic() - begun < 2.5:  # beyond the second after which the model is tried again
        before = time.monotonic()
        status, answer = post(server, "/v1/score", EXAMPLE)
        waits.append(time.monotonic() - before)
        assert status == 200
        answers.append(answer)
        time.sleep(0.01)
    assert {one["degraded"] for one in answers} == {"model too slow", "circuit open"}
    assert [one["degraded"] for one in answers[:3]] == ["model too slow"] * 3
    assert {one["circuit_breaker_state"] for one in answers[3:40]} == {"open"}
    assert {one["fraud_probability"] for one in answers} == {0.05}
    assert sorted(waits)[-3] < 0.1  # a busy machine may stop us now and then, the model never does
    assert np.median(waits) < 0.02
    slow = sum(one["degraded"] == "model too slow" for one in answers)
    assert 4 <= slow <= 6  # three before it opened, then a probe after each pause
    found = samples(server)
    assert found[("sentinel_shed_decisions_total", "model_slow")] == slow
    assert found[("sentinel_shed_decisions_total", "breaker_open")] == len(answers) - slow
    assert found[("sentinel_breaker_openings_total",)] == slow - 2
    assert found[("sentinel_breaker_state",)] == 2


# the Go service


@pytest.fixture(scope="module")
def thirty(start, tmp_path_factory):
    """A server whose model learned from a file with the columns of the European card data."""
    rng, n = np.random.default_rng(3), 4000
    values = rng.normal(size=(n, 28))
    columns = {"Time": np.sort(rng.integers(0, 172_800, n))}
    columns |= {f"V{i + 1}": values[:, i] for i in range(28)}
    columns["Amount"] = np.round(rng.lognormal(3, 1, n), 2)
    columns["Class"] = (values[:, 13] + rng.normal(0, 0.3, n) < -2.0).astype(int)
    folder = tmp_path_factory.mktemp("thirty")
    pl.DataFrame(columns).write_csv(folder / "creditcard.csv")
    detector = load_detector("creditcard")
    return start(
        train_home(folder, detector, read_history(folder / "creditcard.csv", detector.schema, Reading(strict=True)))
    )


def test_its_example_of_thirty_floats_is_answered_unchanged(thirty):
    features = [0, -1.3598, -0.0728, 2.5363, 1.3782, -0.3383, 0.4624, 0.2396, 0.0987, 0.3638, 0.0908, -0.5516, -0.6178,
                -0.9914, -0.3112, 1.4682, -0.4704, 0.2079, 0.0258, 0.404, 0.2514, -0.0183, 0.2778, -0.1105, 0.0669,
                0.1285, -0.1891, 0.1336, -0.0211, 149.62]  # fmt: skip
    status, answer = post(thirty, "/predict", {"features": features})
    assert status == 200
    scorer = load_bundle(thirty.home / "models" / "v1").scorer
    assert answer["fraud_probability"] == float(scorer.score(np.array([features], np.float32))[0])
    assert answer["decision"] == "allow"
    fraud = [*features[:14], -6.0, *features[15:]]
    status, answer = post(thirty, "/predict", {"features": fraud})
    assert answer["decision"] in ("review", "block")
    for wrong in (features[:-1], [*features, 1.0], []):
        status, answer = post(thirty, "/predict", {"features": wrong})
        assert (status, answer["error"]) == (400, f"expected 30 features, got {len(wrong)}")


def test_a_payment_of_that_file_is_decided_as_its_vector_is(thirty):
    """Its fields by name, without an id or a clock of ours."""
    names = load_bundle(thirty.home / "models" / "v1").manifest.plan.names
    values = [406.0, *(i / 7 for i in range(28)), 12.5]
    status, decided = post(thirty, "/v1/score", dict(zip(names, values, strict=True)))
    assert status == 200
    assert decided["fraud_probability"] == post(thirty, "/predict", {"features": values})[1]["fraud_probability"]
    stored = json.loads(get(thirty, f"/v1/decisions/{decided['transaction_id']}"))
    assert (stored["features"]["Time"], stored["features"]["Amount"]) == (406.0, 12.5)
