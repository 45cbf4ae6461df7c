"""Tables: how they are declared, and the law: any table says the same of any transaction in a file, live, and by a scan."""

import csv
import ipaddress
import json
from datetime import UTC, datetime

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel import Detector, LookupTable, Schema, count, field
from sentinel.errors import DataProblem, InvalidDefinition, InvalidInput
from sentinel.events.columns import columns_of_transactions
from sentinel.events.context import event_schema
from sentinel.events.files import history_of_frame
from sentinel.events.reader import TransactionReader
from sentinel.events.reading import Dialect, Reading
from sentinel.events.reference_tables.files import read_table, with_tables
from sentinel.events.reference_tables.lookup import Lookup
from sentinel.events.reference_tables.rows import TableReader, row_schema, told_row
from sentinel.events.reference_tables.versions import Row, Tables
from sentinel.events.replay import columns_of_frame
from sentinel.events.secrets import HashKey, Secrets
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

KEY, FORMER = HashKey("2", b"a" * 32), HashKey("1", b"b" * 32)
SECRETS = Secrets(KEY)
SCHEMA = Schema(
    keys=("card", "shop"),
    categories=("ip", "bin"),
    optional=("ip", "bin", "shop"),
    secret=("card",),
    tables={
        "cards": LookupTable(
            by="card", columns={"limit": "amount", "home": "category", "score": "number", "opened": "time"}
        ),
        "bins": LookupTable(by="bin", ranges="digits", columns={"bank": "category"}),
        "nets": LookupTable(by="ip", ranges="networks", columns={"country": "category", "asn": "number"}),
    },
)
READER = TransactionReader(SCHEMA, SECRETS)
START_S = 1_735_689_600
BEGIN = "1970-01-01"


# declared


def test_what_tables_say_are_fields_of_the_transaction():
    assert SCHEMA.looked_up == {
        "bins_bank": "category", "cards_home": "category", "cards_limit": "amount", "cards_opened": "time",
        "cards_score": "number", "nets_asn": "number", "nets_country": "category",
    }  # fmt: skip
    assert SCHEMA.fields == ("transaction_id", "event_time", "amount", "card", "shop", "ip", "bin")
    assert SCHEMA.whole_numbers == {"amount": 2, "cards_limit": 2, "cards_opened": 0}
    assert SCHEMA.plain_numbers == ("cards_score", "nets_asn")
    assert SCHEMA.texts[-3:] == ("bins_bank", "cards_home", "nets_country")


def test_a_schema_that_was_written_down_is_the_same():
    again = msgspec.json.decode(msgspec.json.encode(SCHEMA, order="deterministic"), type=Schema)
    assert again == SCHEMA
    assert (again.kept, list(again.tables)) == (SCHEMA.kept, ["bins", "cards", "nets"])
    assert b"tables" not in msgspec.json.encode(Schema())


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"Cards": LookupTable(by="card", columns={"a": "number"})}, "'Cards' cannot name a table"),
        ({"cards": LookupTable(by="nobody", columns={"a": "number"})}, r"tables\['cards'\] names nobody"),
        ({"cards": LookupTable(by="amount", columns={"a": "number"})}, "names amount"),
        ({"cards": LookupTable(by="card", columns={"card": "number"})}, "'card' cannot name a column"),
        ({"cards": LookupTable(by="card", columns={"valid_from": "number"})}, "'valid_from' cannot name a column"),
        ({"cards": LookupTable(by="card", columns={"a b": "number"})}, "'cards_a b' is no field name"),
        ({"nets": LookupTable(by="card", columns={"a": "number"}, ranges="digits")}, "card, which is secret"),
        ({"a": LookupTable(by="card", columns={"b_c": "number"}), "a_b": LookupTable(by="shop", columns={"c": "time"})},
         "a_b_c declared twice"),
        ({f"t{n}": LookupTable(by="card", columns={"a": "number"}) for n in range(17)}, "17 tables; 16 are possible"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_is_refused(tables, said):
    with pytest.raises(InvalidDefinition, match=said):
        Schema(keys=("card", "shop"), secret=("card",), tables=tables)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"columns": {}}, "0 columns"),
        ({"columns": {"a": "date"}}, "'a' is 'date'; write one of amount, category, number, time"),
        ({"columns": {"a": "number"}, "ranges": "words"}, "ranges is 'words'"),
        ({"columns": {"a": "number"}, "max_rows": 0}, "max_rows and max_bytes are at least 1"),
    ],
)
def test_a_table_of_unknown_kinds_is_refused(given, said):
    with pytest.raises(InvalidDefinition, match=said):
        LookupTable(by="card", **given)


def test_what_is_looked_up_is_no_field_of_events_or_of_what_is_sent():
    with pytest.raises(InvalidDefinition, match="cards_home"):
        msgspec.structs.replace(SCHEMA, events={"login": ("card", "cards_home")})
    with_events = msgspec.structs.replace(SCHEMA, events={"login": ("card", "ip")})
    assert event_schema(with_events, "login").looked_up == {}
    with pytest.raises(InvalidDefinition, match="login events have no cards_home"):
        Detector(schema=with_events, features=(count(event="login", by="cards_home", over="1d"),))
    with pytest.raises(InvalidDefinition, match="'nets_x' is no number"):
        Detector(schema=SCHEMA, features=(field("nets_x"),))
    body = {"transaction_id": "t", "event_time": START_S, "amount": 1, "card": "c"}
    for name, value in (("cards_limit", 5), ("nets_country", "DE"), ("cards_opened", 5)):
        raw = json.dumps(body | {name: value}).encode()
        with pytest.raises(InvalidInput, match=f"Expected none: it is looked up in the table {name.split('_', 1)[0]}"):
            READER.decode(raw)
        assert READER.decode_array(b"[" + raw + b"]") is None
    assert READER.decode(json.dumps(body | {"cards_limit": None}).encode()).cards_limit is None


# told


def row(table, secrets=SECRETS, schema=SCHEMA, **fields):
    return TableReader(schema, table, secrets, TransactionReader(schema, secrets)).decode(json.dumps(fields).encode())


def test_a_row_is_read_as_transactions_are():
    told = row(
        "cards", card="c1", limit=12.5, score=3, home="DE", opened="2020-01-01", valid_from="2025-01-01T00:00:00Z"
    )
    assert told.key == KEY.hash("c1")  # as the card of a transaction
    assert told.valid_from_us == START_S * 1_000_000
    assert told.values == b'{"home":"DE","limit":12.5,"opened":1577836800000000,"score":3.0}'
    assert row("cards", card="c1", home=7, limit=None).values == b'{"home":"7"}'
    assert row("cards", card=7, home="", limit=None).values == b""  # removed
    assert row("nets", first="10.0.0.0/8", asn=1)[::2] == ("10.0.0.0-10.255.255.255", b'{"asn":1.0}')
    assert row("bins", first=4111, last=4119, bank="B").key == "4111-4119"


@pytest.mark.parametrize(
    ("table", "fields", "path"),
    [
        ("cards", {"limit": 1}, "$.card"),
        ("cards", {"card": "c", "limit": 1.234}, "$.limit"),
        ("cards", {"card": "c", "limit": 1e12}, "$.limit"),
        ("cards", {"card": "c", "score": 1e39}, "$.score"),
        ("cards", {"card": "c", "score": "1"}, "$.score"),
        ("cards", {"card": "c", "opened": "yesterday"}, "$.opened"),
        ("cards", {"card": "c", "valid_from": "1969-12-31"}, "$.valid_from"),
        ("cards", {"card": "c", "country": "DE"}, "$.country"),
        ("cards", {"card": "", "limit": 1}, "$.card"),
        ("nets", {"first": "10.0.0.1/8", "asn": 1}, "$.first"),
        ("nets", {"first": "10.0.0.1", "last": "10.0.0.0", "asn": 1}, "$.last"),
        ("nets", {"ip": "10.0.0.1", "asn": 1}, "$.ip"),
    ],
)
def test_a_row_that_cannot_be_is_refused(table, fields, path):
    with pytest.raises(InvalidInput) as refused:
        row(table, **fields)
    assert refused.value.path == path


def test_a_card_number_in_a_column_is_hashed_and_a_key_is_as_in_transactions():
    schema = Schema(keys=("card",), tables={"cards": LookupTable(by="card", columns={"note": "category"})})
    told = row("cards", schema=schema, card="4111111111111111", note="old 5500005555555559")
    assert (
        told.key == TransactionReader(schema, SECRETS).text("card", "4111111111111111") == KEY.hash("4111111111111111")
    )
    assert b"5500005555555559" not in told.values


def test_a_row_comes_back_as_it_would_be_told():
    told = row("cards", card="c1", limit=12.5, opened="1950-01-01", valid_from="2025-01-01T00:00:00.5Z")
    again = told_row(SCHEMA, "cards", Row(*told))
    assert row("cards", **again) == told
    net = row("nets", first="10.0.0.0/8", asn=1, valid_from=START_S)
    assert row("nets", **told_row(SCHEMA, "nets", Row(*net))) == net


# looked up


def filled(bodies, tables, secrets=SECRETS, schema=SCHEMA):
    reader = TransactionReader(schema, secrets)
    transactions = [reader.decode(json.dumps(body).encode()) for body in bodies]
    Lookup(schema, tables).fill(transactions)
    return transactions


def tables_of(told, schema=SCHEMA, now_us=0):
    """Tables that were told these rows, `(name, Told)`."""
    tables = Tables()
    for name, one in told:
        versions = tables.of(name, schema.tables[name].kind)
        draft = versions.draft([one], now_us)
        versions.check(draft, name, schema.tables[name])
        versions.put(draft.rows, now_us)
    return tables


def body(n=0, **fields):
    return {"transaction_id": f"t{n}", "event_time": START_S, "amount": 1, "card": "c1"} | fields


def test_a_repeat_is_compared_without_what_was_looked_up():
    first, again = (
        filled([body()], tables_of(told))[0]
        for told in ([], [("cards", row("cards", card="c1", limit=5, valid_from=BEGIN))])
    )
    other = filled([body(amount=2)], Tables())[0]
    contents = [SCHEMA.encode(one) for one in (first, again, other)]
    assert b'"cards_limit":5.0' in contents[1]
    assert SCHEMA.is_same(contents[0], contents[1])
    assert not SCHEMA.is_same(contents[0], contents[2])
    assert SCHEMA.is_same(json.dumps(json.loads(contents[0]) | {"old_field": 1}).encode(), contents[1]) is False
    assert SCHEMA.restore(contents[1]).cards_limit == 5
    without = {name: one for name, one in json.loads(contents[0]).items() if name not in SCHEMA.looked_up}
    assert SCHEMA.is_same(json.dumps(without).encode(), contents[1])  # decided before there were tables


def test_a_row_is_found_after_the_hash_key_was_changed():
    rotated = Secrets(KEY, before=Secrets(FORMER))
    tables = tables_of([("cards", row("cards", secrets=Secrets(FORMER), card="c1", limit=5, valid_from=BEGIN))])
    assert filled([body()], tables, rotated)[0].cards_limit == 5
    assert filled([body()], tables)[0].cards_limit is None
    newer = tables_of([("cards", row("cards", card="c1", limit=6, valid_from=BEGIN))])
    assert filled([body()], newer, rotated)[0].cards_limit == 6


def test_a_row_of_columns_that_have_other_types_by_now_says_nothing():
    tables = Tables()
    tables.of("cards", "exact").put([Row(KEY.hash("c1"), 0, b'{"limit":"much","old":1}')], 0)
    assert filled([body()], tables)[0].cards_limit is None
    tables.of("cards", "exact").put([Row(KEY.hash("c1"), 0, b'{"limit":2.0,"old":1}')], 0)
    assert filled([body()], tables)[0].cards_limit == 2


# files


def test_a_file_is_read_with_or_without_moments(tmp_path):
    path = tmp_path / "cards.csv"
    path.write_text("card,limit,home\nc1,12.50,DE\nc2,,\nc3,x,\nc1,13,DE\n")
    file = read_table(path, SCHEMA, "cards", secrets=SECRETS)
    assert (file.is_dated, file.repeated, file.skipped) == (False, 1, {"limit is no number": 1})
    assert file.examples == {"limit is no number": "row 3, 'x'"}
    assert file.rows == [Row(KEY.hash("c2"), 0, b""), Row(KEY.hash("c1"), 0, b'{"home":"DE","limit":13.0}')]
    path.write_text("card;limit;valid_from\n0012;1;2025-01-01\n0012;2;2099-01-01\n0012;3;\n")
    file = read_table(path, SCHEMA, "cards", secrets=SECRETS)
    assert file.is_dated
    assert [one.valid_from_us for one in file.rows] == [START_S * 1_000_000, 4_070_908_800_000_000]
    assert file.rows[0].key == KEY.hash("0012")
    assert file.skipped == {"valid_from is missing": 1}
    with pytest.raises(DataProblem, match="rows of the table cards that cannot be used"):
        read_table(path, SCHEMA, "cards", Reading(strict=True), secrets=SECRETS)


def test_ranges_in_files(tmp_path):
    path = tmp_path / "nets.csv"
    path.write_text("network,country\n10.0.0.0/8,DE\n11.0.0.1/8,FR\n2001:db8::/32,US\n")
    file = read_table(path, SCHEMA, "nets", Reading(renames={"network": "first"}), secrets=SECRETS)
    assert [one.key for one in file.rows] == [
        "10.0.0.0-10.255.255.255",
        "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    ]
    assert file.skipped == {"first is no range of networks": 1}
    assert file.examples == {"first is no range of networks": "row 2, '11.0.0.1/8'"}
    history = history_of_frame(pl.DataFrame([body(ip="10.0.0.1")]), SCHEMA, secrets=SECRETS)
    path.write_text("first,last,country\n10.0.0.0,10.0.0.9,DE\n10.0.0.9,10.0.1.0,FR\n")
    file = read_table(path, SCHEMA, "nets", secrets=SECRETS)
    with pytest.raises(DataProblem, match=r"'10.0.0.0-10.0.0.9' and '10.0.0.9-10.0.1.0' of the table nets overlap"):
        with_tables(history, SCHEMA, {"nets": file, "cards": None, "bins": None})


def test_a_table_without_a_file_is_asked_for(tmp_path):
    history = history_of_frame(pl.DataFrame([body()]), SCHEMA, secrets=SECRETS)
    with pytest.raises(DataProblem, match="--table bins=FILE, or --table bins=none to do without"):
        with_tables(history, SCHEMA, {"cards": None})
    found = with_tables(history, SCHEMA, dict.fromkeys(SCHEMA.tables))
    assert found.frame["cards_limit"].to_list() == [None]
    assert found.tables == {}


def test_the_fingerprint_of_a_file_is_of_what_it_says(tmp_path):
    one, other = tmp_path / "cards.csv", tmp_path / "cards.jsonl"
    one.write_text("card,limit,score\nc1,1.50,1e1\nc2,2,\n")
    other.write_text('{"card": "c2", "limit": 2.0}\n{"card": "c1", "limit": 1.5, "score": 10}\n')
    first, second = (read_table(path, SCHEMA, "cards", secrets=SECRETS) for path in (one, other))
    assert first.sha256() == second.sha256()
    other.write_text('{"card": "c2", "limit": 2.01}\n{"card": "c1", "limit": 1.5, "score": 10}\n')
    assert read_table(other, SCHEMA, "cards", secrets=SECRETS).sha256() != first.sha256()


# the law

MOMENTS = st.integers(0, 12).map(lambda hours: START_S + 3600 * hours)
CARDS, SHOPS = st.sampled_from(("c1", "0012", "12", "4111111111111111")), st.sampled_from(("s1", "s2"))
IPS = st.sampled_from(("10.0.0.1", "10.0.3.200", "10.255.0.1", "2001:db8::1", "::1", "nowhere"))
AMOUNTS = st.integers(-(10**6), 10**6).map(lambda cents: cents / 100)
NUMBERS = st.floats(-1e30, 1e30) | st.sampled_from((-0.0, 0.1, 1e-300, 5e-324))
WORDS = st.sampled_from(("DE", "007", "7", "true", "München", 'a"b', "a;b"))
OPENED = st.integers(-2_000_000_000, 2_000_000_000).map(lambda s: datetime.fromtimestamp(s, UTC).isoformat())


def rows_with(**columns):
    return st.fixed_dictionaries({}, optional=columns)


def dated(keys, columns):
    return st.tuples(keys, MOMENTS, columns).map(lambda one: {**one[0], "valid_from": one[1], **one[2]})


CARD_ROWS = st.lists(
    dated(st.fixed_dictionaries({"card": CARDS}), rows_with(limit=AMOUNTS, score=NUMBERS, home=WORDS, opened=OPENED)),
    max_size=12,
)
NETWORKS = st.sampled_from(
    ("10.0.0.0/8", "10.0.0.0/22", "10.0.0.0/24", "10.0.3.0/24", "10.0.3.200", "2001:db8::/32", "::/16", "0.0.0.0/0")
)
NET_ROWS = st.lists(
    dated(st.fixed_dictionaries({"first": NETWORKS}), rows_with(country=WORDS, asn=NUMBERS)), max_size=12
)
PAYMENTS = st.lists(
    st.fixed_dictionaries({"event_time": MOMENTS, "card": CARDS, "amount": AMOUNTS.map(abs), "shop": SHOPS},
                          optional={"ip": IPS}),
    min_size=1, max_size=8,
)  # fmt: skip
LAW = msgspec.structs.replace(SCHEMA, tables={name: SCHEMA.tables[name] for name in ("cards", "nets")})
PLAN = FeaturePlan(
    LAW,
    (
        field("cards_limit"), field("cards_score"), field("nets_asn"), count(by="cards_home", over="2h"),
        count(by=("shop", "nets_country"), over="5h"),
    ),
)  # fmt: skip


def last_of(rows, key, moment):
    """The columns that the newest row with this key says that is not later; a later line counts before an earlier one."""
    at = [
        (one["valid_from"], n, one)
        for n, one in enumerate(rows)
        if one[key[0]] == key[1] and one["valid_from"] <= moment
    ]
    found = max(at, key=lambda one: one[:2], default=(0, 0, {}))[2]
    return {name: one for name, one in found.items() if name not in ("card", "first", "valid_from")}


def oracle(payment, cards, nets):
    """What the tables say of a payment, by looking at every row of them."""
    found = {
        f"cards_{name}": one for name, one in last_of(cards, ("card", payment["card"]), payment["event_time"]).items()
    }
    try:
        address = ipaddress.ip_address(payment.get("ip", ""))
    except ValueError:
        return found
    for network in {one["first"] for one in nets}:
        if address in ipaddress.ip_network(network):
            said = last_of(nets, ("first", network), payment["event_time"])
            found |= {f"nets_{name}": one for name, one in said.items()}
    return found


def do_overlap(nets):
    """Whether two different networks with an address in common are in force at once."""
    networks = {one["first"]: ipaddress.ip_network(one["first"]) for one in nets}
    for moment in {one["valid_from"] for one in nets}:
        live = [networks[name] for name in networks if last_of(nets, ("first", name), moment)]
        if any(a is not b and a.version == b.version and a.overlaps(b) for a in live for b in live):
            return True
    return False


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@given(cards=CARD_ROWS, nets=NET_ROWS.filter(lambda rows: not do_overlap(rows)), payments=PAYMENTS)
def test_a_file_a_live_lookup_and_a_scan_say_the_same_to_the_bit(tmp_path, suffix, cards, nets, payments):
    files = {}
    for name, rows in (("cards", cards), ("nets", nets)):
        path = tmp_path / f"{name}{suffix}"
        written(path, rows, row_schema(LAW, name).fields)
        files[name] = read_table(path, LAW, name, secrets=SECRETS) if rows else None
        assert not rows or not files[name].skipped
    payments = [
        {"transaction_id": f"t{n}", **one} for n, one in enumerate(sorted(payments, key=lambda p: p["event_time"]))
    ]
    frame = pl.DataFrame([{"ip": None} | one for one in payments], infer_schema_length=None)
    history = with_tables(history_of_frame(frame, LAW, secrets=SECRETS), LAW, files)
    offline = columns_of_frame(LAW, history.frame)

    told = [("cards", row("cards", schema=LAW, **one)) for one in cards]
    # one by one a network may be told before the one is removed that it takes the place of
    told += [("nets", row("nets", schema=LAW, **one)) for one in sorted(unique(nets), key=removals_first)]
    transactions = filled(payments, tables_of(told, LAW), schema=LAW)
    arrived = np.array([one.event_time for one in transactions])
    live = columns_of_transactions(LAW)(transactions, arrived)

    for one, other in zip(offline.columns(), live.columns(), strict=True):
        assert one.tobytes() == other.tobytes()
    for payment, found in zip(payments, transactions, strict=True):
        expected = dict.fromkeys(LAW.looked_up) | oracle(payment, cards, nets)
        if expected["cards_opened"] is not None:
            expected["cards_opened"] = round(datetime.fromisoformat(expected["cards_opened"]).timestamp() * 1e6)
        assert {name: getattr(found, name) for name in LAW.looked_up} == expected
    rows = [MemoryStore(PLAN).advance(events).rows.tobytes() for events in (offline, live)]
    assert rows[0] == rows[1]


def unique(rows):
    return {(one["first"], one["valid_from"]): one for one in rows}.values()


def removals_first(one):
    return one["valid_from"], bool(one.keys() - {"first", "valid_from"})


def written(path, rows, names):
    names = [name for name in names if name != "last"]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in rows) or "\n")
    elif path.suffix == ".parquet":
        frame = pl.DataFrame([{**dict.fromkeys(names), **one} for one in rows], infer_schema_length=None)
        frame.write_parquet(path)
    else:
        with path.open("w", newline="") as file:
            lines = csv.DictWriter(file, names, delimiter=";")
            lines.writeheader()
            lines.writerows(
                [{name: repr(one) if isinstance(one, float) else one for name, one in each.items()} for each in rows]
            )


def test_dialects_of_table_files_are_their_own(tmp_path):
    path = tmp_path / "cards.csv"
    path.write_bytes("card;home\nc1;Köln\n".encode("latin-1"))
    reading = Reading(dialect=Dialect(separator="|", encoding="latin-1"), renames={"a": "b"})
    assert (
        read_table(path, SCHEMA, "cards", reading.of_tables(), secrets=SECRETS).rows[0].values
        == '{"home":"Köln"}'.encode()
    )
