"""The figures of business over HTTP, and the same from the command line."""

import json
import time

import pytest
from typer.testing import CliRunner

from sentinel.cli import app


@pytest.fixture(scope="module")
def server(start_server, two_models_home):
    return start_server(two_models_home, {"SENTINEL_LABEL_DELAY": "1s"})


def test_money_and_outcomes_are_summed_as_they_come(server, ask, monkeypatch):
    payments = [
        {"transaction_id": f"p{n}", "event_time": "2025-02-01T10:00:00Z", "amount": 12.34, "card": "c", "shop": "s"}
        for n in range(5)
    ]
    assert ask(server.port, "POST", "/v1/score", payments).status == 200
    assert ask(server.port, "POST", "/v1/outcomes", {"transaction_id": "p1", "is_fraud": True}).status == 200
    until = time.monotonic() + 60
    while (found := ask(server.port, "GET", "/v1/business").json)["total"]["frauds"] < 1:
        assert time.monotonic() < until, found
        time.sleep(0.2)
    total = found["total"]
    assert (total["decisions"], sum(total["actions"].values()), total["fraud_bps"]) == (5, 5, 2_000)
    (money,) = total["money"]
    assert (money["volume"], money["fraud"], money["digits"], money["currency"]) == (6_170, 1_234, 2, None)
    assert found["is_mature"] is False  # today is not over
    answer = ask(server.port, "GET", "/v1/business?by=field:nothing")
    assert (answer.status, answer.json["path"]) == (422, "$.by")
    monkeypatch.setenv("SENTINEL_LABEL_DELAY", "1s")
    said = CliRunner().invoke(app, ["business", "--home", str(server.home), "--json"])
    assert said.exit_code == 0, said.output
    same = ("total", "before", "periods", "chargebacks", "actions")
    assert {one: json.loads(said.stdout)[one] for one in same} == {one: found[one] for one in same}
    told = CliRunner().invoke(app, ["business", "--home", str(server.home)])
    assert "5 decisions" in told.output
    assert "12.34" in told.output
