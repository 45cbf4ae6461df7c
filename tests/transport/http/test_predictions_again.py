"""`GET /predict/{transaction_id}`: what the champion says now of a transaction that was decided before."""

import numpy as np
import pytest

from sentinel.model.bundle import load_bundle


@pytest.fixture(scope="module")
def server(start_server, two_models_home):
    return start_server(two_models_home)


def test_the_champion_answers_from_stored_features(server, ask, two_models_home):
    payment = {"transaction_id": "2987000", "event_time": "2025-02-01T10:00:00Z", "amount": 812.5, "card": "card-3",
               "shop": "shop-3", "channel": "web", "risk": 0.1}  # fmt: skip
    decided = ask(server.port, "POST", "/v1/score", payment).json
    again = ask(server.port, "GET", "/predict/2987000").json
    assert again == {
        "transaction_id": "2987000",
        "is_fraud": decided["fraud_probability"] >= 0.5,
        "fraud_probability": decided["fraud_probability"],
        "status": "Success",
        "model_version": "v1",
        "decision": decided["decision"],
    }
    stored = ask(server.port, "GET", "/v1/decisions/2987000").json
    ask(server.port, "POST", "/admin/reload", {"version": "v2"})
    later = ask(server.port, "GET", "/predict/2987000").json
    assert later["model_version"] == "v2"
    bundle = load_bundle(two_models_home / "models" / "v2")
    features = np.array([[np.nan if one is None else one for one in stored["features"].values()]], float)
    assert later["fraud_probability"] == bundle.scorer.score(features)[0]
    assert later["fraud_probability"] != again["fraud_probability"]
    assert ask(server.port, "GET", "/v1/decisions/2987000").json["model_version"] == "v1"


def test_an_unknown_id_is_404(server, ask):
    answer = ask(server.port, "GET", "/predict/never-seen")
    assert answer.status == 404
    assert "No decision is stored" in answer.json["error"]
