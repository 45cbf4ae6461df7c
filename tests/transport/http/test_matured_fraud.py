"""The report on drift says how much of what was decided long enough ago was fraud."""

import time

import pytest


@pytest.fixture(scope="module")
def server(start_server, two_models_home):
    return start_server(two_models_home, {"SENTINEL_LABEL_DELAY": "2s"})


def test_newest_outcomes_count_and_what_was_blocked_without_one_does_not(server, ask):
    def post(path, body):
        answer = ask(server.port, "POST", path, body)
        assert answer.status == 200, answer.body

    def payments(name, n):
        return [
            {
                "transaction_id": f"{name}{i}",
                "event_time": "2025-02-01T10:00:00Z",
                "amount": 12.5,
                "card": "c",
                "shop": "s",
            }
            for i in range(n)
        ]

    post("/admin/thresholds", {"review": 1})
    post("/v1/score", payments("a", 6))
    post("/admin/thresholds", {"review": 0, "block": 0})
    post("/v1/score", payments("b", 3))
    post("/v1/outcomes", [{"transaction_id": one, "is_fraud": True} for one in ("a0", "a1", "b0")])
    post("/v1/outcomes", [{"transaction_id": "a1", "is_fraud": False}])
    until = time.monotonic() + 60
    while (found := ask(server.port, "GET", "/admin/drift").json["matured_fraud"])["labelled"] < 3:
        assert time.monotonic() < until, found
        time.sleep(0.5)
    assert (found["decisions"], found["labelled"], found["frauds"]) == (7, 3, 2)
    assert found["share"] == pytest.approx(2 / 7)
    assert found["low"] < found["share"] < found["high"]
    assert 0 < found["training_share"] < 0.1
    assert found["differs"]


def test_before_they_have_matured_nothing_is_said(start_server, two_models_home, ask):
    server = start_server(two_models_home)
    payment = {"transaction_id": "new", "event_time": "2025-02-01T10:00:00Z", "amount": 1, "card": "c", "shop": "s"}
    ask(server.port, "POST", "/v1/score", payment)
    found = ask(server.port, "GET", "/admin/drift").json["matured_fraud"]
    assert (found["decisions"], found["share"], found["differs"]) == (0, None, False)
