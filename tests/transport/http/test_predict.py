"""`POST /predict` and the metrics: the contract that clients of a scoring service with feature vectors rely on."""

import contextlib
import json
import math
import os
import signal
import time

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sentinel.model.bundle import load_bundle
from sentinel.transport.http.wire.intake import MOST_PIPELINED

TTL_S = 0.6
VALUES = [20.5, 0.1, 1, 1, 2, 20.5, 3.5, 60, 1, 3600, 4, 0.02]
EXAMPLE = (
    "POST /predict HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
)  # what `curl -X POST localhost:8080/predict -H "Content-Type: application/json" -d '{"features":[...]}'` sends
TYPES = {
    "fraud_probability": float, "predicted_class": int, "decision": str, "threshold_used": float, "latency_us": int,
    "batch_size": int, "cache_hit": bool, "model_version": str, "variant": str,
}  # fmt: skip
FIGURES = [
    "total_requests", "allow", "block", "errors", "batches_run", "avg_batch_size", "cache_hits", "cache_misses",
    "cache_hit_rate", "cache_size", "predictions_a", "predictions_b", "ab_active", "split_percent", "drift_detected",
    "baseline_locked", "uptime_seconds", "avg_rps", "threshold", "approve", "review", "challenge",
]  # fmt: skip
LATENCY_BOUNDS = ["50", "100", "250", "500", "1000", "2500", "5000", "10000", "25000", "50000", "+Inf"]


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(shop_home, {"SENTINEL_CACHE_TTL_S": str(TTL_S)})


@pytest.fixture(scope="module")
def bundle(server):
    return load_bundle(server.home / "models" / "v1")


@pytest.fixture(scope="module")
def predict(server, ask):
    return lambda body: ask(server.port, "POST", "/predict", body, content_type="application/json")


@pytest.fixture(scope="module")
def figures(server, ask):
    return lambda: ask(server.port, "GET", "/metrics").json


@pytest.fixture(scope="module")
def samples(server, ask):
    def read():
        text = ask(server.port, "GET", "/metrics/prom").body.decode()
        return {
            (one.name, *sorted(one.labels.items())): one.value
            for family in text_string_to_metric_families(text)
            for one in family.samples
        }

    return read


def changed(after, before):
    return {name: after[name] - before[name] for name in after if after[name] != before.get(name)}


unused = iter(range(1, 1_000_000))


def fresh():
    """A vector that nobody has asked for."""
    return [float(next(unused)), *VALUES[1:]]


def expected(bundle, values):
    row = np.array([[math.nan if value is None else value for value in values]], np.float32)
    return float(bundle.scorer.score(row)[0])


def test_the_example_request_is_answered_with_its_fields_and_types(server, wire, bundle):
    body = json.dumps({"features": VALUES}, separators=(",", ":"))
    with wire(server.port) as connection:
        connection.send(EXAMPLE.format(len(body), body).encode())
        answer = connection.answer()
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json)[: len(TYPES)] == list(TYPES)
    assert {name: type(answer.json[name]) for name in TYPES} == TYPES
    assert answer.json["fraud_probability"] == expected(bundle, VALUES)
    assert answer.json["model_version"] == "v1"
    assert answer.json["variant"].upper() == "A"
    assert answer.json["batch_size"] == 1
    assert answer.json["latency_us"] >= 0
    assert (answer.json["degraded"], answer.json["circuit_breaker_state"]) == (None, "closed")


def test_the_decision_follows_the_thresholds_and_the_class_does_not(predict, bundle):
    review, block = bundle.manifest.thresholds["review"], bundle.manifest.thresholds["block"]
    seen = set()
    for amount in (0.5, 20, 60, 119, 121, 138, 300, 900, 5000):
        for ratio, shop_rate in ((1.0, 0.0), (1.0, 0.1), (1.0, 0.4), (2.6, 0.32)):
            answer = predict({"features": [float(amount), -0.75, 0, *VALUES[3:8], ratio, 15_000, 1, shop_rate]}).json
            probability = answer["fraud_probability"]
            wanted = "block" if probability >= block else "review" if probability >= review else "allow"
            assert answer["decision"] == wanted
            assert answer["threshold_used"] == (block if wanted == "block" else review)
            assert answer["predicted_class"] == (probability >= 0.5)
            seen.add(wanted)
    assert len(seen) > 1


def test_by_name_in_any_order_it_is_the_same(predict, bundle):
    values = fresh()
    by_name = dict(reversed(list(zip(bundle.manifest.plan.names, values, strict=True))))
    found = predict({"features": by_name}).json
    assert found["fraud_probability"] == expected(bundle, values)
    assert predict({"features": values}).json["cache_hit"]  # it is the same vector


def test_null_is_a_missing_value(predict, bundle):
    values = fresh()
    values[1] = values[6] = None
    assert predict({"features": values}).json["fraud_probability"] == expected(bundle, values)
    by_name = dict(zip(bundle.manifest.plan.names, values, strict=True))
    assert predict({"features": by_name}).json["cache_hit"]
    assert predict({"features": [None] * 12}).json["fraud_probability"] == expected(bundle, [None] * 12)


@pytest.mark.parametrize("n", [0, 1, 11, 13, 30, 5000])
def test_another_number_of_features_is_400_with_both_numbers(predict, n):
    answer = predict({"features": [1.0] * n})
    assert (answer.status, answer.json["error"]) == (400, f"expected 12 features, got {n}")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "No valid JSON"),
        (b"{", 400, "No valid JSON"),
        (b"features=1", 400, "No valid JSON"),
        (b'{"features":[NaN]}', 400, "No valid JSON"),
        (b'{"features":{"amount":1}}', 400, "missing risk"),
        (b'{"features":{"nobody":1}}', 400, "unknown nobody"),
        (b"[]", 422, "Expected `object`"),
        (b"{}", 422, "missing required field `features`"),
        (b'{"features":null}', 422, "$.features"),
        (b'{"features":["1"]}', 422, "$.features[0]"),
        (b'{"features":[true]}', 422, "$.features[0]"),
        (b'{"features":[1],"kye":"x"}', 422, "unknown field `kye`"),
    ],
)
def test_what_is_no_question_is_refused_and_counted(predict, figures, body, status, text):
    before = figures()
    answer = predict(body)
    assert (answer.status, answer.json["status"]) == (status, status)
    assert text in answer.json["error"]
    assert changed(figures(), before).get("errors") == 1


def test_values_beyond_a_float_are_refused_by_their_place(predict):
    answer = predict({"features": [*VALUES[:-1], 1e300]})
    assert (answer.status, answer.json["path"]) == (422, f"$.features[{len(VALUES) - 1}]")
    assert predict({"features": [3e38, *VALUES[1:]]}).status == 200


def test_a_repetition_comes_from_the_cache_until_it_is_too_old(predict):
    values = fresh()
    first = predict({"features": values}).json
    again = predict({"features": values, "key": "someone"}).json
    assert (first["cache_hit"], again["cache_hit"]) == (False, True)
    assert again["batch_size"] == 0
    same = ("fraud_probability", "predicted_class", "decision", "threshold_used", "model_version", "variant")
    assert [again[name] for name in same] == [first[name] for name in same]
    time.sleep(TTL_S + 0.05)
    late = predict({"features": values}).json
    assert not late["cache_hit"]
    assert late["fraud_probability"] == first["fraud_probability"]


def test_a_hit_does_not_make_it_live_longer(predict):
    values, until = fresh(), time.monotonic() + TTL_S + 0.05
    predict({"features": values})
    assert predict({"features": values}).json["cache_hit"]
    time.sleep(TTL_S / 2)
    predict({"features": values})
    time.sleep(max(0.0, until - time.monotonic()))
    assert not predict({"features": values}).json["cache_hit"]


def test_vectors_that_differ_in_the_last_bit_are_not_confused(predict):
    values = fresh()
    predict({"features": values})
    for i, value in enumerate(values):
        other = [*values]
        other[i] = float(np.nextafter(np.float32(value), np.float32(np.inf)))
        assert not predict({"features": other}).json["cache_hit"]


def test_the_metrics_have_their_fields_in_order_and_their_types(figures):
    found = figures()
    assert list(found) == FIGURES
    assert {type(found[name]) for name in ("ab_active", "drift_detected", "baseline_locked")} == {bool}
    rest = set(FIGURES) - {"ab_active", "drift_detected", "baseline_locked"}
    assert all(type(found[name]) in (int, float) for name in rest)
    assert 0 < found["uptime_seconds"] < 600
    assert found["threshold"] > 0
    assert (found["ab_active"], found["split_percent"], found["predictions_b"]) == (False, 0, 0)


def test_counters_add_up(predict, figures, bundle):
    before, asked = figures(), [fresh() for _ in range(7)]
    answers = [predict({"features": values}).json for values in asked + asked[:3]]
    predict({"features": [1]})
    found = figures()
    more = changed(found, before)
    decisions = [answer["decision"] for answer in answers]
    hits = sum(answer["cache_hit"] for answer in answers)
    assert more["total_requests"] == 10
    assert more.get("allow", 0) == decisions.count("allow")
    assert more.get("block", 0) == decisions.count("block")
    assert more["cache_hits"] == hits == 3
    assert more["cache_misses"] == more["batches_run"] == 7
    assert more["predictions_a"] == 10
    assert more["errors"] == 1
    assert found["cache_hit_rate"] == pytest.approx(found["cache_hits"] / (found["cache_hits"] + found["cache_misses"]))
    assert found["avg_rps"] == pytest.approx(found["total_requests"] / found["uptime_seconds"])
    assert found["threshold"] == bundle.manifest.thresholds["review"]


def test_vectors_that_arrive_together_are_one_batch(server, wire, figures):
    """From twenty clients, while the server has no turn."""
    requests = [json.dumps({"features": fresh()}) for _ in range(20)]
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(wire(server.port)) for _ in requests]
        for connection in connections:
            connection.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.answer().status == 200
        before = figures()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for connection, body in zip(connections, requests, strict=True):
                connection.send(EXAMPLE.format(len(body), body).encode())
        finally:
            os.kill(server.pid, signal.SIGCONT)
        found = [connection.answer().json for connection in connections]
    assert {one["batch_size"] for one in found} == {20}
    assert changed(figures(), before)["batches_run"] == 1


def test_vectors_that_one_client_sends_together_are_one_batch_up_to_its_share(server, wire, figures):
    tried = []
    for _ in range(5):  # its share is of time as well, and the machine has other things to do
        before = figures()
        requests = [json.dumps({"features": fresh()}) for _ in range(MOST_PIPELINED + 4)]
        with wire(server.port) as connection:
            connection.send("".join(EXAMPLE.format(len(body), body) for body in requests).encode())
            sizes = [connection.answer().json["batch_size"] for _ in requests]
        assert max(sizes) <= MOST_PIPELINED
        tried.append((sizes, changed(figures(), before)["batches_run"]))
        if tried[-1] == ([MOST_PIPELINED] * MOST_PIPELINED + [4] * 4, 2):
            return
    pytest.fail(f"sizes of their batches, and how many there were: {tried}")


def test_prometheus_has_its_names_and_tells_the_same(predict, figures, samples):
    predict({"features": fresh()})
    found, told = samples(), figures()
    assert found[("sentinel_requests_total",)] == told["total_requests"]
    assert found[("sentinel_errors_total",)] == told["errors"]
    by_decision = [found[("sentinel_decisions_total", ("decision", name))] for name in ("allow", "review", "block")]
    assert (by_decision[0], by_decision[2]) == (told["allow"], told["block"])
    assert sum(by_decision) == told["total_requests"]
    assert found[("sentinel_cache_total", ("result", "hit"))] == told["cache_hits"]
    assert found[("sentinel_cache_total", ("result", "miss"))] == told["cache_misses"]
    assert found[("sentinel_variant_predictions_total", ("variant", "A"))] == told["predictions_a"]
    assert found[("sentinel_variant_predictions_total", ("variant", "B"))] == 0
    assert found[("sentinel_drift_detected",)] in (0, 1)
    assert found[("sentinel_model_info", ("detector", "shop"), ("role", "champion"), ("version", "v1"))] == 1
    buckets = [(key[1][1], value) for key, value in found.items() if key[0] == "sentinel_latency_microseconds_bucket"]
    shown = [float(bound) for bound, _ in buckets]
    assert {float(bound) for bound in LATENCY_BOUNDS} <= set(shown)
    counts = [value for _, value in buckets]
    assert counts == sorted(counts)
    assert counts[-1] == found[("sentinel_latency_microseconds_count",)]
    assert found[("sentinel_latency_microseconds_sum",)] > 0


def test_prometheus_is_text_0_0_4(server, ask):
    answer = ask(server.port, "GET", "/metrics/prom")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")


def test_transactions_that_get_no_decision_are_counted_too(server, ask, figures):
    before = figures()
    good = {"transaction_id": "t1", "event_time": 1_738_400_000, "amount": 1, "card": "c", "shop": "s"}
    ask(server.port, "POST", "/v1/score", [good, {**good, "amount": -1}, {**good, "amount": 2}, 17])
    ask(server.port, "POST", "/v1/score", {**good, "amount": 2})
    ask(server.port, "POST", "/v1/score", {**good, "nobody": 2})
    ask(server.port, "POST", "/v1/score", b"", content_type="application/xml")
    ask(server.port, "POST", "/v1/score", b"x", content_encoding="gzip")
    ask(server.port, "POST", "/v1/outcomes", {"transaction_id": "nobody", "is_fraud": True})
    more = changed(figures(), before)
    assert (more["total_requests"], more["errors"]) == (1, 7)


def test_the_log_and_what_follows_it_are_measured(server, ask):
    """How far the followers are behind is looked at once a second."""
    until = time.monotonic() + 120
    wanted = b"\nsentinel_snapshot_lag", b"\nsentinel_view_lag"
    while not all(name in (text := ask(server.port, "GET", "/metrics/prom").body) for name in wanted):
        assert time.monotonic() < until
        time.sleep(0.1)
    found = {family.name: family.samples[0].value for family in text_string_to_metric_families(text.decode())}
    assert found["sentinel_log_bytes"] > 0
    assert found["sentinel_log_segments"] >= found["sentinel_log_writable"] == 1
    assert 1.7e9 < found["sentinel_log_oldest_seconds"] <= time.time()
    assert found["sentinel_view_lag"] >= 0
    assert found["sentinel_snapshot_lag"] > 0
    assert found["sentinel_snapshotter_restarts"] == 0
    assert found["sentinel_state_keys"] > 0
    assert found["sentinel_state_keys_forgotten"] >= 0
    assert found["sentinel_state_bytes"] > 200 * found["sentinel_state_keys"]
