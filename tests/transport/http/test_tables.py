"""Reference tables on a running server: rows are told, found, and part of what is decided from then on."""

import json
import re
import shutil
import time
import uuid
from contextlib import closing

import pytest

from sentinel.commands.keys import create_key
from sentinel.commands.load_table import load_table
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import Settings
from sentinel.errors import DataProblem, InvalidDefinition, InvalidInput
from sentinel.events.reading import Reading
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.entries import decision_rows, table_in
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.verify import verify

WHEN = "2025-02-01T10:00:00Z"
NETS, CARDS = "/v1/tables/nets", "/v1/tables/cards"
LINES = "application/x-ndjson"


@pytest.fixture(scope="module")
def server(start_server, table_shop_home):
    return start_server(table_shop_home)


@pytest.fixture
def post(server, ask):
    return lambda body, path=CARDS, **headers: ask(server.port, "POST", path, body, **headers)


@pytest.fixture
def get(server, ask):
    return lambda path: ask(server.port, "GET", path)


def payment(**changes):
    return {
        "transaction_id": uuid.uuid4().hex, "event_time": WHEN, "amount": 5, "card": "c1", "shop": "s", "ip": "10.0.0.1",
    } | changes  # fmt: skip


def card(**changes):
    return {"card": uuid.uuid4().hex, "valid_from": "2025-01-01T00:00:00Z", "limit": 500, "home": "DE"} | changes


def records_in(home):
    with closing(FileLogReader(log_folder(home))) as log:
        return [record for page in Follower(log, 0).rest() for record in page]


def stored_of(home, transaction_id):
    rows = [row for one in records_in(home) if one.kind == Kind.DECIDED for row in decision_rows(one)]
    (row,) = [row for row in rows if row.transaction_id == transaction_id]
    return json.loads(row.content)


def test_a_row_counts_from_the_next_transaction_on_as_of_its_time(server, post, get):
    row = card()
    told = post(row)
    assert told.status == 200
    assert {name: told.json[name] for name in ("table", "rows", "changed")} == {
        "table": "cards",
        "rows": 1,
        "changed": 1,
    }
    (entry,) = [
        table_in(one)
        for one in records_in(server.home)
        if one.kind == Kind.TABLE and one.position == told.json["position"]
    ]
    assert (entry.keys, entry.told_by) == ([row["card"]], "operator")
    for when, limit in (("2025-01-01T00:00:00Z", 500), ("2024-12-31T23:59:59Z", None)):
        paid = payment(card=row["card"], event_time=when)
        assert post(paid, "/v1/score").status == 200
        stored = stored_of(server.home, paid["transaction_id"])
        assert (stored["cards_limit"], stored["cards_home"]) == (limit, limit and "DE")
        assert stored["cards_score"] is stored["nets_country"] is None
        shown = get(f"/v1/decisions/{paid['transaction_id']}").json
        assert shown["transaction"]["cards_limit"] == limit
        assert shown["features"]["cards_limit"] == limit
        assert shown["features"]["ratio_amount_to_cards_limit"] == (limit and 0.01)


def test_a_repeat_keeps_its_answer_when_the_table_has_changed(server, post):
    row = card()
    paid = payment(card=row["card"])
    first = post(paid, "/v1/score").json
    assert post(row).json["changed"] == 1
    again = post(paid, "/v1/score").json
    assert again == first | {"replayed": True}
    assert post([paid, paid | {"amount": 6}], "/v1/score").json[1]["status"] == 409
    assert stored_of(server.home, paid["transaction_id"])["cards_limit"] is None


def test_what_is_looked_up_cannot_be_sent(post):
    for body in (payment(cards_limit=5), [payment(nets_country="DE")]):
        answer = post(body, "/v1/score").json
        answer = answer[0] if isinstance(answer, list) else answer
        assert answer["status"] == 422
        assert "it is looked up in the table" in answer["error"]


def test_the_same_again_changes_nothing(server, post):
    row = card()
    assert post([row, row]).json["changed"] == 1
    before = len(records_in(server.home))
    assert post(row).json == {"table": "cards", "rows": 1, "changed": 0, "position": None}
    now = {name: one for name, one in row.items() if name != "valid_from"}
    assert post(now).json["changed"] == 0  # it is in force
    assert len(records_in(server.home)) == before
    assert post(now | {"limit": 7}).json["changed"] == 1


def test_a_row_without_columns_is_removed(post, get):
    row = card()
    post(row)
    post({"card": row["card"], "valid_from": "2025-01-15"})
    path = f"{CARDS}/{row['card']}"
    assert get(path).status == 404
    found = get(f"{path}?as_of=2025-01-14T23:00:00%2B00:00").json
    assert found == {
        "table": "cards", "as_of": "2025-01-14T23:00:00Z", "card": row["card"], "valid_from": "2025-01-01T00:00:00Z",
        "columns": {"limit": 500.0, "home": "DE"},
    }  # fmt: skip
    assert get(f"{path}?as_of=2024-12-31").status == 404
    assert get(f"{path}?as_of=soon").status == 422


def test_lines_and_arrays_are_taken_as_a_whole_or_not_at_all(post, get):
    rows = [card() for _ in range(3)]
    lines = b"\n".join(json.dumps(one).encode() for one in rows)
    assert post(lines, **{"content-type": LINES}).json["changed"] == 3
    others = [card() for _ in range(3)]
    refused = post([*others[:2], others[2] | {"limit": "much"}])
    assert refused.status == 422
    assert "$[2].limit" in refused.json["error"]
    assert get(f"{CARDS}/{others[0]['card']}").status == 404
    assert post(b"[").status == 400
    assert post(b"[]").status == 400
    assert post([card()] * 1001).status == 413
    assert post(b"a,b", **{"content-type": "text/csv"}).status == 415
    assert post(card(), "/v1/tables/nobody").status == 404
    assert get("/v1/tables/nobody/x").status == 404


def test_ranges_do_not_overlap_and_addresses_find_them(server, post, get):
    told = post([{"first": "10.0.0.0/24", "country": "DE", "valid_from": "2025-01-01"},
                 {"first": "10.0.1.0", "last": "10.0.1.99", "asn": 7, "valid_from": "2025-01-01"}], NETS)  # fmt: skip
    assert told.json["changed"] == 2
    refused = post({"first": "10.0.0.128/25", "country": "FR", "valid_from": "2025-02-01"}, NETS)
    assert refused.status == 422
    assert "'10.0.0.128-10.0.0.255' and '10.0.0.0-10.0.0.255' of the table nets overlap" in refused.json["error"]
    assert "2025-02-01T00:00:00Z" in refused.json["error"]
    assert get(f"{NETS}/10.0.0.200").json["first"] == "10.0.0.0"
    for ip, country, asn in (("10.0.0.9", "DE", None), ("10.0.1.99", None, 7.0), ("10.0.1.100", None, None)):
        paid = payment(ip=ip)
        post(paid, "/v1/score")
        stored = stored_of(server.home, paid["transaction_id"])
        assert (stored["nets_country"], stored["nets_asn"]) == (country, asn)
    replaced = post([{"first": "10.0.0.0/24", "valid_from": "2025-02-01"},
                     {"first": "10.0.0.128/25", "country": "FR", "valid_from": "2025-02-01"}], NETS)  # fmt: skip
    assert replaced.json["changed"] == 2


def test_the_tables_are_listed(post, get):
    post(card(valid_from="2025-01-02"))
    nets, cards = sorted(get("/v1/tables").json["tables"], key=lambda one: one["name"] == "cards")
    assert (cards["name"], cards["by"], cards["ranges"]) == ("cards", "card", None)
    assert cards["columns"] == {"home": "category", "limit": "amount", "opened": "time", "score": "number"}
    assert cards["versions"] >= cards["rows"] > 0
    assert cards["bytes"] > 0
    assert cards["last_change"].startswith("20")
    assert (nets["name"], nets["ranges"]) == ("nets", "networks")
    figures = get("/metrics/prom").body.decode()
    assert f'sentinel_table_versions{{table="cards"}} {cards["versions"]}' in figures
    (changed,) = re.findall(r'sentinel_table_changed_seconds{table="cards"} (\S+)', figures)
    assert abs(time.time() - float(changed)) < 600


def test_who_changes_a_table_is_in_the_audit_without_whose_row_it_is(post, get):
    row = card()
    post([row, card()])
    newest = get("/admin/audit?limit=1").json["changes"][0]
    assert (newest["who"], newest["what"]) == ("operator", "POST /v1/tables/cards")
    assert (json.loads(newest["asked"]), json.loads(newest["after"])) == (
        {"table": "cards", "rows": 2}, {"table": "cards", "changed": 2},
    )  # fmt: skip
    assert row["card"] not in json.dumps(newest)


def test_a_key_needs_the_scope_to_change_a_table_and_another_to_look(start_server, table_shop_home, tmp_path, ask):
    home = tmp_path / "home"
    shutil.copytree(table_shop_home, home)
    settings = Settings(home=home)
    tokens = {
        name: create_key(settings, name, name, "never", None, None).key for name in ("tables", "read", "score", "admin")
    }
    server = start_server(home, {"SENTINEL_AUTH": "required"})

    def status(method, path, key, body=b""):
        return ask(server.port, method, path, body, authorization=f"Bearer {tokens[key]}").status

    assert [status("POST", CARDS, key, card()) for key in tokens] == [200, 403, 403, 200]
    assert [status("GET", f"{CARDS}/x", key) for key in tokens] == [403, 404, 403, 404]
    assert [status("GET", "/v1/tables", key) for key in tokens] == [403, 200, 403, 200]
    (entry, *_) = [table_in(one) for one in records_in(server.home) if one.kind == Kind.TABLE]
    assert entry.told_by == "tables"


# loaded


@pytest.fixture
def settings(server):
    return Settings(home=server.home)


def test_a_file_is_loaded_through_the_server_that_runs(settings, tmp_path, get):
    path = tmp_path / "cards.csv"
    path.write_text("card,limit,home\nl1,10,DE\nl2,20,\nl3,1.234,\n")
    done = load_table(settings, "cards", path, Reading(), valid_from="2025-01-01", replaces=False)
    assert (done.rows, done.changed, done.removed) == (2, 2, 0)
    assert done.skipped == {"limit has more than 2 decimals": 1}
    assert get(f"{CARDS}/l2").json["columns"] == {"limit": 20.0}
    path.write_text("card,limit,home\nl1,10,DE\nl2,21,\n")
    assert load_table(settings, "cards", path, Reading(), valid_from="2025-01-02", replaces=False).changed == 1
    path.write_text("card,limit,home\nl1,10,DE\n")
    done = load_table(settings, "cards", path, Reading(), valid_from="2025-01-03", replaces=True)
    assert (done.changed, done.removed > 0) == (0, True)
    assert get(f"{CARDS}/l2").status == 404
    assert get(f"{CARDS}/l2?as_of=2025-01-02").json["columns"] == {"limit": 21.0}
    path.write_text("card,limit\nl1,x\n")
    with pytest.raises(DataProblem, match="--strict"):
        load_table(settings, "cards", path, Reading(strict=True), valid_from=None, replaces=False)
    path.write_text("card,limit,valid_from\nl1,1,2025-01-01\n")
    with pytest.raises(DataProblem, match="leave out --valid-from and --replace"):
        load_table(settings, "cards", path, Reading(), valid_from="2025-01-03", replaces=False)
    path.write_text("first,country\n99.0.0.0/8,DE\n99.1.0.0/16,FR\n")
    with pytest.raises(InvalidInput, match="overlap"):
        load_table(settings, "nets", path, Reading(), valid_from=None, replaces=False)


def test_many_rows_go_in_several_requests(settings, tmp_path, get):
    path = tmp_path / "cards.csv"
    path.write_text("card,limit,home\n" + "".join(f"m{n},{n},{'x' * 200}\n" for n in range(3_000)))
    done = load_table(settings, "cards", path, Reading(), valid_from="2025-05-01", replaces=False)
    assert done.changed == 3_000
    assert [get(f"{CARDS}/m{n}").json["columns"]["limit"] for n in (0, 249, 250, 2_999)] == [0.0, 249.0, 250.0, 2_999.0]
    assert load_table(settings, "cards", path, Reading(), valid_from="2025-05-01", replaces=False).changed == 0


def test_an_edition_of_ranges_takes_the_place_of_the_one_before(settings, tmp_path, get):
    path = tmp_path / "nets.csv"
    path.write_text("first,country\n77.0.0.0/8,DE\n78.0.0.0/16,FR\n")
    load_table(settings, "nets", path, Reading(), valid_from="2025-03-01", replaces=True)
    path.write_text("first,country\n77.0.0.0/9,DE\n77.128.0.0/9,ES\n78.0.0.0/16,FR\n")
    done = load_table(settings, "nets", path, Reading(), valid_from="2025-04-01", replaces=True)
    assert (done.rows, done.changed, done.removed) == (3, 2, 1)
    found = {(ip, when): get(f"{NETS}/{ip}?as_of={when}").json.get("columns")
             for ip in ("77.1.1.1", "77.200.1.1", "78.0.1.1") for when in ("2025-03-31", "2025-04-01")}  # fmt: skip
    assert found == {
        ("77.1.1.1", "2025-03-31"): {"country": "DE"}, ("77.1.1.1", "2025-04-01"): {"country": "DE"},
        ("77.200.1.1", "2025-03-31"): {"country": "DE"}, ("77.200.1.1", "2025-04-01"): {"country": "ES"},
        ("78.0.1.1", "2025-03-31"): {"country": "FR"}, ("78.0.1.1", "2025-04-01"): {"country": "FR"},
    }  # fmt: skip


def test_acknowledged_rows_are_there_after_kills_and_restarts(tmp_path, table_shop_home, ask):
    home = tmp_path / "home"
    shutil.copytree(table_shop_home, home)
    path = tmp_path / "cards.csv"
    path.write_text("card,limit\nbefore,10\n")
    done = load_table(Settings(home=home), "cards", path, Reading(), valid_from=None, replaces=False)
    assert done.valid_from == "1970-01-01T00:00:00Z"  # nothing was there
    (noted, *_) = HomeDeployment(home).audit(1).changes
    assert (noted.where, noted.what) == ("command line", "tables load")
    server = ServerProcess(home, "127.0.0.1", free_port("127.0.0.1"))
    known = {"before": 10.0}
    try:
        for life in range(3):
            server.start()
            for n in range(20):
                row = card(card=f"{life}-{n}", limit=life * 100 + n)
                assert ask(server.port, "POST", CARDS, row).json["changed"] == 1
                known[row["card"]] = float(row["limit"])
            server.kill()
        server.start()
        for name, limit in known.items():
            assert ask(server.port, "GET", f"{CARDS}/{name}").json["columns"]["limit"] == limit
        paid = payment(card="2-19")
        assert ask(server.port, "POST", "/v1/score", paid).status == 200
        assert stored_of(home, paid["transaction_id"])["cards_limit"] == 219
    finally:
        server.stop()
    assert verify(log_folder(home)).findings == []


def test_a_table_that_the_champion_does_not_declare_cannot_be_loaded(tmp_path, shop_home):
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    path = tmp_path / "cards.csv"
    path.write_text("card,limit\nc,10\n")
    with pytest.raises(InvalidDefinition, match="has no table 'cards'; it has none"):
        load_table(Settings(home=home), "cards", path, Reading(), valid_from=None, replaces=False)
