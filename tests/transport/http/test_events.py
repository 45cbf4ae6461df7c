"""Context events on a running server: what is taken and kept, what is refused, and who may send them."""

import json
import shutil
import uuid
from contextlib import closing

import msgspec
import pytest

from sentinel.commands.keys import create_key
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.entries import context_rows
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.train.pipeline import train

WHEN = "2025-02-01T10:00:00Z"


@pytest.fixture(scope="module")
def server(start_server, event_shop_home):
    return start_server(event_shop_home)


@pytest.fixture
def post(server, ask):
    return lambda body, path="/v1/events", **headers: ask(server.port, "POST", path, body, **headers)


@pytest.fixture
def get(server, ask):
    return lambda path: ask(server.port, "GET", path)


def login(**changes):
    return {
        "event": "login",
        "event_id": uuid.uuid4().hex,
        "event_time": WHEN,
        "card": "c1",
        "channel": "web",
    } | changes


def records_in(home):
    with closing(FileLogReader(log_folder(home))) as log:
        return [record for page in Follower(log, 0).rest() for record in page if record.kind != Kind.HEARTBEAT]


def test_an_event_is_in_the_log_when_it_is_answered_and_found_by_its_id(server, post, get):
    event = login()
    assert post(event).json == {"event_id": event["event_id"], "event": "login", "replayed": False}
    (row,) = [row for one in records_in(server.home) if one.kind == Kind.CONTEXT for row in context_rows(one)
              if row.event_id == event["event_id"]]  # fmt: skip
    found = get(f"/v1/events/{event['event_id']}").json
    assert found.pop("received_at")
    assert found == {
        "event_id": event["event_id"], "told_by": "operator", "position": row.position,
        "event": event | {"event_time": "2025-02-01T10:00:00Z"},
    }  # fmt: skip


def test_the_same_again_is_known_and_other_content_is_a_conflict(post):
    event = login()
    assert post(event).json["replayed"] is False
    assert post(event).json["replayed"] is True
    assert post(event | {"event_time": "2025-02-01T11:00:00+01:00"}).json["replayed"] is True
    for other in ({"card": "c2"}, {"channel": None}):
        refused = post(event | other)
        assert (refused.status, refused.json["status"]) == (409, 409)
    other_kind = {name: one for name, one in event.items() if name != "channel"} | {"event": "password_change"}
    assert post(other_kind).status == 409
    twice = login()
    answers = post([twice, twice, twice | {"card": "c9"}]).json
    assert [one.get("replayed") for one in answers] == [False, True, None]
    assert answers[2]["status"] == 409


def test_an_event_may_have_the_id_of_a_transaction(post, get):
    event = login()
    payment = {"transaction_id": event["event_id"], "event_time": WHEN, "amount": 12.5, "card": "c1", "shop": "s"}
    assert post(payment, "/v1/score").json["replayed"] is False
    assert post(event).json["replayed"] is False
    assert post(payment, "/v1/score").json["replayed"] is True
    assert get(f"/v1/decisions/{event['event_id']}").json["transaction"]["shop"] == "s"
    told = {"transaction_id": event["event_id"], "is_fraud": True}
    assert post(told, "/v1/outcomes").json["replayed"] is False
    assert post(login() | {"event_id": "only-an-event"}).status == 200
    assert post(told | {"transaction_id": "only-an-event"}, "/v1/outcomes").json["known"] is False


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"event": "nope"}, "$.event"), ({"event": 1}, "$.event"), ({"card": None}, "$.card"), ({"card": ""}, "$.card"),
        ({"shop": "s"}, "$.shop"), ({"event_id": ""}, "$.event_id"), ({"event_id": None}, "$.event_id"),
        ({"event_id": "x" * 129}, "$.event_id"), ({"event_time": "today"}, "$.event_time"),
        ({"event_time": "2099-01-01"}, "$.event_time"), ({"event_time": None}, "$.event_time"),
        ({"card": "x" * 257}, "$.card"), ({"hashed_before": {}}, "$.hashed_before"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_422_and_names_the_field(post, changes, path):
    refused = post(login(**changes))
    assert (refused.status, refused.json["path"]) == (422, path)


def test_an_unknown_kind_is_told_which_there_are(post):
    assert "login, password_change, refund" in post(login(event="nope")).json["error"]


def test_each_of_a_batch_has_its_own_answer_as_array_and_as_lines(post):
    some = [login(), login(event="nope"), {"event": "refund", "event_id": uuid.uuid4().hex, "event_time": WHEN,
            "card": "c1", "shop": "s", "amount": 5.25}, login(card=7)]  # fmt: skip
    for answers in (
        post(some).json,
        [json.loads(line) for line in post(b"\n".join(json.dumps(one).encode() for one in some),
                                           content_type="application/x-ndjson").body.splitlines()],
    ):  # fmt: skip
        assert [one.get("status", 200) for one in answers] == [200, 422, 200, 200]


def test_what_is_no_request_for_events_is_refused_as_elsewhere(post, get, server, ask):
    assert post(b"[").status == 400
    assert post(b"[]").status == 400
    assert post([login()] * 1_001).status == 413
    assert post(b" " * (2**20 + 1)).status == 413
    assert post(login(), content_type="text/plain").status == 415
    assert get("/v1/events").status == 405
    assert get("/v1/events/nobody").status == 404
    assert ask(server.port, "POST", "/v1/events/one", {}).status == 405


def test_a_detector_that_declares_none_says_so(start_server, shop_home, ask):
    port = start_server(shop_home).port
    assert ask(port, "POST", "/v1/events", login()).status == 404
    refused = ask(port, "GET", "/v1/events/e1")
    assert refused.status == 404
    assert "declares none" in refused.json["error"]


def test_a_card_number_in_an_event_is_hashed_as_in_a_transaction(server, post, get):
    number, event = "4111111111111111", login(card="4111 1111 1111 1111", event_id="4111111111111111-e")
    assert post(event).json["event_id"] != event["event_id"]
    payment = {
        "transaction_id": uuid.uuid4().hex,
        "event_time": WHEN,
        "amount": 12.5,
        "card": event["card"],
        "shop": "s",
    }
    post(payment, "/v1/score")
    kept = get(f"/v1/events/{event['event_id']}").json["event"]["card"]
    assert kept.startswith("s0_")
    assert get(f"/v1/decisions/{payment['transaction_id']}").json["transaction"]["card"] == kept
    assert post(event).json["replayed"] is True
    assert not any(number.encode() in one.body for one in records_in(server.home))
    assert number not in (server.home / "server.log").read_text()


def test_metrics_count_what_was_new_by_kind(post, get):
    before = get("/metrics/prom").body.decode()
    event = {"event": "password_change", "event_id": uuid.uuid4().hex, "event_time": WHEN, "card": "c1"}
    post([event, event])

    def told(text):
        lines = [one for one in text.splitlines() if one.startswith('sentinel_events_told{event="password_change"}')]
        return float(lines[0].split()[-1]) if lines else 0.0

    assert told(get("/metrics/prom").body.decode()) == told(before) + 1


SCOPES = {"scorer": "score,outcomes", "teller": "events", "reader": "read", "fast": "events,read"}


@pytest.fixture(scope="module")
def behind_keys(start_server, event_shop_home, ask, tmp_path_factory):
    """Asks with the key of that name; five events a minute are taken of each."""
    home = tmp_path_factory.mktemp("keys") / "home"
    shutil.copytree(event_shop_home, home)
    keys = {
        name: create_key(Settings(home=home), name, scopes, "1d", None, None).key for name, scopes in SCOPES.items()
    }
    server = start_server(home, {"SENTINEL_EVENTS_PER_MINUTE": "5", "SENTINEL_AUTH": "required"})

    def asker(name):
        bearer = f"Bearer {keys[name]}"
        return lambda method, path, body=b"": ask(server.port, method, path, body, authorization=bearer)

    return asker


def test_only_a_key_with_the_scope_sends_them_and_its_name_is_kept(behind_keys):
    scorer, teller, reader = map(behind_keys, ("scorer", "teller", "reader"))
    event = login()
    assert scorer("POST", "/v1/events", event).status == 403
    assert reader("POST", "/v1/events", event).status == 403
    assert teller("POST", "/v1/events", event).status == 200
    assert teller("POST", "/v1/score", {}).status == 403
    assert teller("GET", f"/v1/events/{event['event_id']}").status == 403
    assert reader("GET", f"/v1/events/{event['event_id']}").json["told_by"] == "teller"


def test_a_key_is_limited_and_nothing_of_what_is_too_much_is_stored(behind_keys):
    teller = behind_keys("fast")
    assert teller("POST", "/v1/events", [login() for _ in range(4)]).status == 200
    more = [login() for _ in range(2)]
    refused = teller("POST", "/v1/events", more)
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "SENTINEL_EVENTS_PER_MINUTE" in refused.json["error"]
    assert teller("GET", f"/v1/events/{more[0]['event_id']}").status == 404
    assert teller("POST", "/v1/events", more[0]).status == 200


def test_where_ids_and_times_are_assigned_an_event_gets_them_too(
    start_server, tmp_path, shop_detector, shop_history, ask
):
    detector = load_detector(shop_detector)
    optional = ("transaction_id", "event_time", *detector.schema.optional)
    schema = msgspec.structs.replace(detector.schema, optional=optional, events={"login": ("card",)})
    detector = msgspec.structs.replace(detector, schema=schema)
    history = history_of_frame(shop_history, schema)
    HomeDeployment(tmp_path).promote(train(detector, history, Registry(tmp_path / "models"), lambda *_: None).version)
    port = start_server(tmp_path).port
    names = {ask(port, "POST", "/v1/events", {"event": "login", "card": "c"}).json["event_id"] for _ in range(2)}
    assert len(names) == 2
    shown = ask(port, "GET", f"/v1/events/{names.pop()}").json
    assert shown["event"]["event_time"] == shown["received_at"]
    named = {"event": "login", "event_id": "mine", "card": "c"}
    assert [ask(port, "POST", "/v1/events", named).json["replayed"] for _ in range(2)] == [False, True]


def test_events_go_to_the_detector_that_is_named(start_server, event_shop_home, shop_home, tmp_path, ask):
    home = tmp_path / "both"
    shutil.copytree(shop_home, home)
    shutil.copytree(event_shop_home, home / "detectors" / "wallet")
    port, event = start_server(home).port, login()
    assert ask(port, "POST", "/v1/events", event).status == 404
    assert ask(port, "POST", "/v1/wallet/events", event).json["replayed"] is False
    assert ask(port, "GET", f"/v1/wallet/events/{event['event_id']}").json["event"]["card"] == "c1"
    assert ask(port, "POST", "/v1/nobody/events", event).status == 404
