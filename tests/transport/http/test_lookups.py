"""Looking up what was decided, over HTTP: one by its id, and pages of those that fit."""

import contextlib
import json
import math
import sqlite3
import time
import urllib.parse
import uuid
from contextlib import closing
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import pytest

from sentinel.errors import NotFound
from sentinel.events.columns import Outcome
from sentinel.events.secrets import Secrets
from sentinel.events.times import instant_us, iso
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.policy.model_call import Limits
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.snapshots import Snapshots
from sentinel.record.views.place import ViewPlace
from sentinel.record.views.sqlite import FILE
from sentinel.serve.batch import Arrivals
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import load_lineup
from sentinel.telemetry.counters import Counters
from sentinel.transport.http.lookups import Lookups

LATER_US = 1_738_400_000_000_000  # after the history


@pytest.fixture(scope="module")
def server(start_server, two_models_home):
    return start_server(two_models_home)


@pytest.fixture(scope="module")
def get(server, ask):
    return lambda path: ask(server.port, "GET", path)


@pytest.fixture(scope="module")
def post(server, ask):
    def posting(path, body=b""):
        answer = ask(server.port, "POST", path, body)
        assert answer.status == 200, answer.body
        return answer.json

    return posting


def payment(card, **changes):
    fields = {"transaction_id": uuid.uuid4().hex, "event_time": "2025-02-01T10:00:00Z", "amount": 12.5,
              "card": card, "shop": "shop-1", "channel": "web", "risk": 0.1}  # fmt: skip
    return fields | changes


@pytest.fixture(scope="module")
def decided(get, post):
    """Decisions of all kinds in their order, as a list should show them, apart from positions and times."""
    assert get("/v1/decisions").json["decisions"] == []  # tests that decide something else come after those of these
    rows = []

    def decide(*payments):
        answers = post("/v1/score", list(payments))
        for asked, answer in zip(payments, answers, strict=True):
            names = ("transaction_id", "decision", "fraud_probability", "model_version", "degraded", "features_state")
            keys = {"card": asked["card"], "shop": asked["shop"]}
            rows.append({name: answer[name] for name in names} | {"amount": asked["amount"], "keys": keys})

    card = ["a&b", 'é"€', "c"]
    for action in ({"review": 0, "block": 0}, {"review": 0}, {"review": 1}):
        post("/admin/thresholds", action)
        decide(payment(card[0]), payment(card[1], amount=3.25, shop="shop-2"))
        decide(payment(card[0], event_time="2025-01-31T10:00:00Z"))
    post("/admin/fallback", {"only": True})
    decide(payment(card[0]), payment(card[2]))
    post("/admin/fallback", {"only": False})
    post("/admin/reload", {"version": "v2"})
    decide(*(payment(card[2], shop=f"shop-{n % 3}") for n in range(6)))
    return rows


@pytest.fixture
def search(get):
    """All rows that fit, over all pages."""

    def searching(**asked):
        asked = {name.removesuffix("_"): value for name, value in asked.items()}
        found = []
        while True:
            answer = get(f"/v1/decisions?{urlencode(asked)}")
            assert answer.status == 200, answer.body
            page = answer.json
            assert len(page["decisions"]) <= int(asked.get("limit", 50))
            found += page["decisions"]
            if page["next"] is None:
                return found
            asked["cursor"] = page["next"]

    return searching


def shown(rows):
    """Without what only the server knows."""
    return [
        {name: value for name, value in row.items() if name not in ("decided_at", "position", "variant", "state")}
        for row in rows
    ]


def caught_up(get):
    """Wait until the view has everything."""
    until = time.monotonic() + 120
    while get("/health").json["view"].get("lag") != 0:
        assert time.monotonic() < until, get("/health").body
        time.sleep(0.05)


def test_the_newest_come_first_and_say_what_was_answered(decided, search):
    found = search()
    assert shown(found) == decided[::-1]
    positions = [row["position"] for row in found]
    assert positions == sorted(positions, reverse=True)
    times = [instant_us(row["decided_at"]) for row in found]
    assert times == sorted(times, reverse=True)
    assert {row["variant"] for row in found} == {None}


WANTED = [
    ({"card": "a&b"}, lambda row: row["keys"]["card"] == "a&b"),
    ({"card": 'é"€'}, lambda row: row["keys"]["card"] == 'é"€'),
    ({"card": "nobody"}, lambda _: False),
    ({"card": "c", "shop": "shop-2"}, lambda row: row["keys"] == {"card": "c", "shop": "shop-2"}),
    ({"action": "block"}, lambda row: row["decision"] == "block"),
    (
        {"action": "review", "shop": "shop-2"},
        lambda row: (row["decision"], row["keys"]["shop"]) == ("review", "shop-2"),
    ),
    ({"action": "approve"}, lambda row: row["decision"] == "approve"),
    ({"model": "v2"}, lambda row: row["model_version"] == "v2"),
    ({"model": "v1", "card": "c"}, lambda row: row["model_version"] == "v1" and row["keys"]["card"] == "c"),
    ({"model": "v9"}, lambda _: False),
    ({"degraded": "true"}, lambda row: row["degraded"] is not None),
    ({"degraded": "false"}, lambda _: True),
    ({"degraded": "true", "card": "a&b"}, lambda row: row["degraded"] is not None and row["keys"]["card"] == "a&b"),
]


@pytest.mark.parametrize("limit", [1, 4, 50])
@pytest.mark.parametrize(("asked", "fits"), WANTED)
def test_what_fits_is_found_page_by_page(decided, search, asked, fits, limit):
    found = search(**asked, limit=limit)
    assert shown(found) == [row for row in reversed(decided) if fits(row)]


def test_it_is_the_same_when_the_view_has_all_of_it(decided, search, get):
    caught_up(get)
    for asked, fits in WANTED:
        assert shown(search(**asked, limit=2)) == [row for row in reversed(decided) if fits(row)]


@pytest.mark.usefixtures("decided")
def test_times_are_when_it_was_decided_from_the_first_up_to_the_second(search):
    everything = search()
    since, until = everything[-4]["decided_at"], everything[3]["decided_at"]
    expected = [row for row in everything if instant_us(since) <= instant_us(row["decided_at"]) < instant_us(until)]
    assert 0 < len(expected) < len(everything)
    for write in (str, instant_us, lambda text: text.replace("Z", "+00:00")):
        assert search(from_=write(since), to=write(until)) == expected
        assert search(from_=write(since), to=write(until), limit=2) == expected
    assert search(from_=until, to=since) == []
    assert search(from_="2099-01-01") == search(to="2025-01-01T00:00") == []


@pytest.mark.usefixtures("decided")
def test_a_plus_that_was_not_escaped_is_understood(get, search):
    since = search()[0]["decided_at"].replace("Z", "+00:00")
    assert get(f"/v1/decisions?from={since}").json == get(f"/v1/decisions?from={quote(since)}").json


def test_pages_do_not_move_while_decisions_arrive(get, post):
    card = uuid.uuid4().hex
    before = [one["transaction_id"] for one in post("/v1/score", [payment(card) for _ in range(7)])]
    first = get(f"/v1/decisions?card={card}&limit=3").json
    post("/v1/score", [payment(card) for _ in range(5)])
    second = get(f"/v1/decisions?card={card}&limit=3&cursor={first['next']}").json
    caught_up(get)
    third = get(f"/v1/decisions?card={card}&limit=3&cursor={second['next']}").json
    found = [row["transaction_id"] for page in (first, second, third) for row in page["decisions"]]
    assert (found, third["next"]) == (before[::-1], None)


def test_what_was_answered_is_found_at_once_though_the_view_stands_still(server, get, post, search):
    with closing(sqlite3.connect(server.home / FILE)) as tool:
        tool.execute("BEGIN IMMEDIATE")  # the projector has to wait
        card = uuid.uuid4().hex
        asked = [payment(card) for _ in range(5)]
        post("/v1/score", asked[:3])
        post("/v1/score", asked[3:])
        rows = search(card=card, limit=2)
        one = get(f"/v1/decisions/{asked[0]['transaction_id']}").json
        health = get("/health").json
        tool.rollback()
    assert [row["transaction_id"] for row in reversed(rows)] == [row["transaction_id"] for row in asked]
    assert (one["position"], one["decided_at"]) == (rows[-1]["position"], rows[-1]["decided_at"])
    assert health["status"] == "ready"
    assert health["view"]["lag"] >= 5
    caught_up(get)
    assert search(card=card) == rows


@pytest.mark.parametrize(
    ("asked", "path", "text"),
    [
        ("colour=red", "$.colour", "There is no search by colour; give card, shop, from, to, action, model"),
        ("card=c&card_id=c", "$.card_id", "There is no search by card_id"),
        ("action=decline", "$.action", "Expected one of approve, challenge, review, block, got 'decline'"),
        ("degraded=maybe", "$.degraded", "Expected true or false, got 'maybe'"),
        ("limit=0", "$.limit", "from 1 to 500"),
        ("limit=501", "$.limit", "from 1 to 500"),
        (f"limit=1{'0' * 50}", "$.limit", "at most 18 digits"),
        ("limit=-1", "$.limit", "whole number"),
        ("limit=1.5", "$.limit", "whole number"),
        (f"limit=50{'0' * 17}", "$.limit", "at most 18 digits"),
        ("cursor=zebra", "$.cursor", "`next` of a page"),
        (f"cursor={'f' * 30}", "$.cursor", "Expected `int`"),
        ("from=yesterday", "$.from", "ISO 8601"),
        ("to=", "$.to", "ISO 8601"),
        (f"to={'9' * 400}", "$.to", "from 1970"),
        ("from=2200-01-01", "$.from", "from 1970"),
    ],
)
def test_what_cannot_be_searched_for_is_named(get, asked, path, text):
    answer = get(f"/v1/decisions?{asked}")
    assert (answer.status, answer.json["path"]) == (422, path)
    assert text in answer.json["error"]


def test_outcomes_and_features_are_with_the_decision(get, post):
    asked = payment(uuid.uuid4().hex)
    post("/v1/score", asked)
    name = asked["transaction_id"]
    for is_fraud in (True, False):
        post("/v1/outcomes", {"transaction_id": name, "is_fraud": is_fraud, "time": "2025-02-03"})
    found = get(f"/v1/decisions/{name}").json
    assert [one["is_fraud"] for one in found["outcomes"]] == [True, False]
    assert found["features"]["amount"] == 12.5
    why = found["why"]
    log_odds = why["expected"] + why["others"] + sum(one["contribution"] for one in why["reasons"])
    assert 1 / (1 + math.exp(-log_odds)) == pytest.approx(found["fraud_probability"], rel=1e-4)
    assert {one["feature"]: one["value"] for one in why["reasons"]}.items() <= found["features"].items()
    assert found["transaction"] == asked
    assert (found["detector"], found["degraded"], found["shadow"]) == ("shop", None, [])
    assert get(f"/v1/decisions/{name}?position={found['position']}").json == found
    assert get(f"/v1/decisions/{name}?position={found['position'] + 10**6}").status == 404
    assert get(f"/v1/decisions/{name}?position=-1").status == 422
    far = f"{found['position']:018}7"  # of which the first 18 digits are those of another position
    assert get(f"/v1/decisions/{name}?position={far}").status == 422


def test_people_with_sql_tools_find_transactions(server, get, post, search):
    card = uuid.uuid4().hex
    asked = [payment(card, amount=1.25 * n) for n in range(1, 4)]
    post("/v1/score", asked)
    caught_up(get)
    with closing(sqlite3.connect(f"file:{server.home / FILE}?mode=ro", uri=True)) as tool:
        tool.row_factory = sqlite3.Row
        found = tool.execute("SELECT * FROM transactions WHERE user_id = ? ORDER BY amount", (card,)).fetchall()
        (content,) = tool.execute(
            "SELECT content FROM decisions WHERE transaction_id = ?", (asked[0]["transaction_id"],)
        ).fetchone()
    rows = search(card=card)[::-1]
    assert [row["transaction_id"] for row in found] == [one["transaction_id"] for one in asked]
    assert [row["amount"] for row in found] == [1.25, 2.5, 3.75]
    assert [row["risk_score"] for row in found] == [row["fraud_probability"] for row in rows]
    assert [row["created_at"][:19] for row in found] == [row["decided_at"][:19] for row in rows]
    assert json.loads(content)["card"] == card


def test_what_is_not_durable_is_not_shown_yet(two_models_home, fake_log, tmp_path):
    log = fake_log.FakeLog(delayed=True)
    lineup = load_lineup(Deployment(champion="v1"), Registry(two_models_home / "models"))
    journal, snapshots = Journal(log, IdIndex(tmp_path / "ids", log)), Snapshots(tmp_path / "snapshots")
    engine = Engine(lineup, journal, snapshots, Limits(deadline_s=10.0), Counters())
    engine.begin(LATER_US)
    lookups = Lookups(
        two_models_home, SimpleNamespace(ready_engine=lambda: engine), Secrets(), ViewPlace(two_models_home)
    )

    def handle(step, event):
        step(Arrivals([event], [0], [2**62]), LATER_US)

    with closing(engine):
        handle(engine.decide, engine.schema.wire_type(**payment("c", transaction_id="t", event_time=LATER_US)))
        handle(engine.learn, Outcome("t", True, LATER_US))
        with pytest.raises(NotFound):
            lookups.decision("t")
        outcomes = []
        while log.durable < log.end:
            log.advance()
            with contextlib.suppress(NotFound):
                outcomes.append(json.loads(lookups.decision("t").body)["outcomes"])
        assert [[one["time"] for one in told] for told in outcomes] == [[], [iso(LATER_US)]]


@pytest.mark.parametrize("name", ["a/b/1", "a b", "%41", "ü?x=1"])
def test_an_id_is_found_whatever_is_in_it(get, post, name):
    post("/v1/score", json.dumps(payment("card-odd", transaction_id=name)).encode())
    found = get(f"/v1/decisions/{urllib.parse.quote(name, safe='')}")
    assert (found.status, found.json["transaction_id"]) == (200, name)
