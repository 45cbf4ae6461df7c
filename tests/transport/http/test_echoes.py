"""What a caller sends is neither told again nor kept without a limit, wherever it stands."""

import json

import pytest

LONGEST_ERROR = 1_000

LONG = "long" * 1_500
PAYMENT = {"event_time": 1_738_400_000, "amount": 12.5, "card": "c", "shop": "s"}
KEY = "an-admin-key-of-the-test"


@pytest.fixture(scope="module")
def server(start_server, two_models_home):
    return start_server(two_models_home, {"SENTINEL_ADMIN_KEY": KEY})


@pytest.fixture(scope="module")
def told(server, ask):
    def asking(method, path, body=b"", **headers):
        return ask(server.port, method, path, body, authorization=f"Bearer {KEY}", **headers)

    return asking


def test_an_outcome_s_id_has_the_limits_of_a_transaction_s(told):
    for wrong in ("", "i" * 129, int("9" * 129), "4111111111111111 " * 7):
        of_transaction = told("POST", "/v1/score", {**PAYMENT, "transaction_id": wrong, "channel": 1, "risk": 0})
        of_outcome = told("POST", "/v1/outcomes", {"transaction_id": wrong, "is_fraud": True})
        assert of_outcome.status == 422, wrong
        assert of_outcome.json == of_transaction.json
    for right in ("i" * 128, int("9" * 128)):
        assert told("POST", "/v1/outcomes", {"transaction_id": right, "is_fraud": True}).status == 202


PLACES = [
    ("POST", "/v1/score", {**PAYMENT, "transaction_id": LONG}),
    ("POST", "/v1/score", {**PAYMENT, "transaction_id": "t", LONG: 1}),
    ("POST", "/v1/score", {**PAYMENT, "transaction_id": "t", "amount": LONG}),
    ("POST", "/v1/score", {**PAYMENT, "transaction_id": "t", "event_time": LONG}),
    ("POST", "/v1/score", {**PAYMENT, "transaction_id": "t", "card": LONG}),
    ("POST", "/v1/score", LONG),
    ("POST", "/predict", {"features": {LONG: 1}}),
    ("POST", "/predict", {"features": {f"{LONG}{n}": n for n in range(100)}}),
    ("POST", "/predict", {LONG: 1}),
    ("POST", "/v1/outcomes", {"transaction_id": LONG, "is_fraud": True}),
    ("POST", "/v1/outcomes", {"transaction_id": "t", "is_fraud": True, "source": LONG}),
    ("POST", "/v1/outcomes", {"transaction_id": "t", "is_fraud": True, "reason": LONG}),
    ("POST", "/v1/outcomes", {"transaction_id": "t", "is_fraud": True, "time": LONG}),
    ("POST", "/v1/outcomes", {"transaction_id": "t", "is_fraud": True, LONG: LONG}),
    ("GET", f"/v1/decisions/{LONG}", b""),
    ("GET", f"/v1/decisions/t?position={LONG}", b""),
    *(
        ("GET", f"/v1/decisions?{name}={LONG}", b"")
        for name in ("card", "shop", "from", "to", "action", "model", "degraded", "limit", "cursor", LONG[:1_000])
    ),
    ("GET", f"/{LONG}", b""),
    ("PUT", f"/v1/decisions/{LONG}", b""),
    ("GET", f"/admin/audit?limit={LONG}", b""),
    ("GET", f"/admin/audit?cursor={LONG}", b""),
    *(
        ("POST", path, {name: LONG} | more)
        for path, name, more in (
            ("/admin/reload", "version", {}),
            ("/admin/reload", LONG, {}),
            ("/admin/ab/setup", "candidate_version", {}),
            ("/admin/ab/split", "percent", {}),
            ("/admin/shadow/start", "version", {}),
            ("/admin/thresholds", "variant", {"review": 0.1}),
            ("/admin/fallback", "only", {}),
            ("/admin/log/prune", "keep", {}),
            ("/admin/log/prune", "archive", {"keep": "200d"}),
            ("/admin/erase", "key", {"value": "v"}),
            ("/admin/erase", "value", {"key": "card"}),
            ("/admin/outcomes/revoke", "key", {"reason": "r"}),
            ("/admin/outcomes/revoke", "reason", {"key": "k"}),
            ("/admin/outcomes/revoke", "from", {"key": "k", "reason": "r"}),
        )
    ),
]


@pytest.mark.parametrize(("method", "path", "body"), PLACES)
def test_no_answer_has_all_that_was_sent(told, method, path, body):
    answer = told(method, path, body)
    assert 200 <= answer.status < 500
    assert len(answer.body) < 2 * LONGEST_ERROR, answer.body[:300]
    assert answer.status == 200 or len(answer.json["error"]) <= LONGEST_ERROR
    assert LONG.encode() not in answer.head + answer.body


@pytest.mark.parametrize("name", ["x_request_id", "origin", "host", "content_type", "sec_fetch_site", "x_deadline_ms"])
def test_no_answer_has_all_of_a_header(told, name):
    answer = told("POST", "/v1/score", {**PAYMENT, "transaction_id": "t"}, **{name: LONG})
    assert len(answer.head + answer.body) < 2 * LONGEST_ERROR


def test_a_request_id_comes_back_up_to_its_length(told):
    for sent, back in (("r" * 128, "r" * 128), ("r" * 129, None), ("", None)):
        answer = told("POST", "/v1/score", {**PAYMENT, "transaction_id": "t"}, x_request_id=sent)
        assert answer.headers.get("x-request-id") == back


def test_what_to_do_stands_in_a_long_error_too(told):
    said = told("POST", "/v1/score", {**PAYMENT, "transaction_id": "t", LONG: 1}).json
    assert said["error"].startswith("Object contains unknown field `longlong")
    assert said["error"].endswith("...`")
    assert said["path"].startswith("$.longlong")
    assert said["path"].endswith("...")


def test_why_an_experiment_ends_has_a_length(told):
    """It is kept in the log, and repeated at the head of each segment."""
    assert told("POST", "/admin/ab/setup", {"candidate_version": "v2"}).status == 200
    for reason, status in (("r" * 257, 400), ("r" * 256, 200)):
        assert told("POST", "/admin/ab/abort", {"reason": reason}).status == status
    assert json.dumps(told("GET", "/admin/ab/status").json).count("r" * 256) == 1


def test_where_a_path_leads_holds_no_card_number(told):
    for path in ("/metrics/?pan=4111111111111111", "/v1/score/?pan=4111-1111-1111-1111"):
        answer = told("GET", path)
        assert b"11111111" not in (answer.head + answer.body).replace(b"-", b"")
