"""Context events in files: what is read, what is left out and why, and where they stand among the transactions."""

import json

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import DataProblem, InvalidInput
from sentinel.events.columns import FIRST_CONTEXT, OUTCOME, TRANSACTION, columns_of_events
from sentinel.events.context import ContextReader
from sentinel.events.context_files import read_whole_history, with_context, with_context_of_frame
from sentinel.events.files import History, history_of_frame
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame, context_columns
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets

SCHEMA = Schema(
    keys=("card", "shop"),
    categories=("channel",),
    exact={"points": 3},
    numbers=("risk",),
    optional=("channel", "risk", "points"),
    outcome_time="known",
    events={"login": ("card", "channel", "risk"), "refund": ("card", "amount", "points")},
)
DAY_US = 86_400_000_000
BEGIN_US = 1_738_368_000_000_000  # 2025-02-01
WHEN = "2025-02-01T10:00:00Z"


@pytest.fixture
def history() -> History:
    rows = {"transaction_id": ["a", "b"], "event_time": ["2025-02-01", "2025-02-03"], "amount": [1.0, 2.0],
            "card": ["c", "c"], "shop": ["s", "s"]}  # fmt: skip
    return history_of_frame(pl.DataFrame(rows), SCHEMA)


def written(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_csv_json_lines_and_parquet_are_read_alike(tmp_path, history):
    rows = [
        {"event": "login", "event_id": "1", "event_time": WHEN, "card": "0012", "channel": "web"},
        {"event": "refund", "event_id": "2", "event_time": WHEN, "card": "0012", "amount": 3.5},
    ]
    text = "event,event_id,event_time,card,channel,amount,other\n"
    text += f"login,1,{WHEN},0012,web,,x\nrefund,2,{WHEN},0012,,3.50,y\n"
    written(tmp_path / "e.csv", [text.strip()])
    written(tmp_path / "e.jsonl", map(json.dumps, rows))
    pl.DataFrame(rows).write_parquet(tmp_path / "e.parquet")
    found = [with_context(history, tmp_path / f"e.{kind}", SCHEMA) for kind in ("csv", "jsonl", "parquet")]
    assert found[0].context["card"].to_list() == ["0012", "0012"]
    for one in found:
        assert not one.skipped
        assert one.context.equals(found[0].context)


def test_what_cannot_be_used_is_left_out_counted_and_shown(tmp_path, history):
    path = written(
        tmp_path / "e.csv",
        ["event,event_id,event_time,card,amount", f"login,1,{WHEN},c,", f"login,1,{WHEN},c,", f"logout,2,{WHEN},c,",
         f",3,{WHEN},c,", "login,4,today,c,", f"refund,5,{WHEN},c,", f"refund,6,{WHEN},,1", f"login,,{WHEN},c,",
         "login,7,2025-02-04,c,", f"refund,8,{WHEN},c,1.005"],
    )  # fmt: skip
    found = with_context(history, path, SCHEMA)
    assert found.context["event_id"].to_list() == ["1"]
    assert found.skipped == {
        "events: event is none of login, refund": 1,
        "events: event is missing": 1,
        "events: login: event_time is no time from 1970 to 2100, or a number before 1980": 1,
        "events: login: event_id is missing": 1,
        "events: refund: amount is missing": 1,
        "events: refund: card is missing": 1,
        "events: refund: amount has more than 2 decimals": 1,
        "events: event_id seen before": 1,
        "events: later than the last transaction": 1,
    }
    assert str(found.examples["events: event is none of login, refund"]) == "row 3, 'logout'"
    assert str(found.examples["events: refund: amount has more than 2 decimals"]) == "row 10, '1.005'"
    with pytest.raises(DataProblem, match="leave out --strict"):
        with_context(history, path, SCHEMA, Reading(strict=True))


def test_broken_lines_are_counted(tmp_path, history):
    lines = [
        "nope",
        '{"event":"login","event":"login"}',
        json.dumps({"event": "login", "event_id": "1", "event_time": WHEN, "card": "c"}),
    ]
    found = with_context(history, written(tmp_path / "e.jsonl", reversed(lines)), SCHEMA)
    assert len(found.context) == 1
    assert found.skipped == {"events: it is no JSON object": 1, "events: it has a name twice": 1}


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("event_id,event_time,card", "lacks the column event"),
        ("event,event_time,card", "lacks event_id"),
        ("event,event_id,card", "lacks event_time"),
        ("event,event_id,event_time", "lacks card"),
    ],
)
def test_a_file_without_a_column_is_refused(tmp_path, history, head, says):
    with pytest.raises(DataProblem, match=says):
        with_context(history, written(tmp_path / "e.csv", [head, ",".join(["login"] * (head.count(",") + 1))]), SCHEMA)


def test_a_schema_that_declares_none_takes_none(tmp_path, history):
    with pytest.raises(DataProblem, match="declares none"):
        with_context(history, written(tmp_path / "e.csv", ["event", "login"]), Schema(keys=("card",)))


def test_columns_are_found_under_the_names_that_are_given(tmp_path, history):
    path = written(tmp_path / "e.csv", ["event,event_id,at,pan", f"login,1,{WHEN},c"])
    found = with_context(history, path, SCHEMA, Reading(renames={"at": "event_time", "pan": "card", "unused": "shop"}))
    assert found.context["card"].to_list() == ["c"]


def test_the_names_that_are_given_are_those_of_either_file(tmp_path):
    """A name need not be in both, two names may be of one field, and the event's own fields have names, too."""
    written(tmp_path / "p.csv", ["txn,when,amount,card_no,shop", "a,2025-02-01,1,c,s", "b,2025-02-03,2,c,s"])
    written(tmp_path / "e.csv", ["what,number,at,pan,fee", f"login,1,{WHEN},c,", f"refund,2,{WHEN},c,3.5"])
    ours = {"txn": "transaction_id", "when": "event_time", "card_no": "card"}
    theirs = {"what": "event", "number": "event_id", "at": "event_time", "pan": "card", "fee": "amount"}
    reading = Reading(renames=ours | theirs, events=tmp_path / "e.csv")
    found = read_whole_history(tmp_path / "p.csv", SCHEMA, reading)
    assert found.frame["card"].to_list() == ["c", "c"]
    assert found.context.select("event", "event_id", "card", "amount").rows() == [
        ("login", "1", "c", None),
        ("refund", "2", "c", 3.5),
    ]
    for wrong, says in (
        ({"nope": "card"}, "no column nope in .* or the file of events"),
        ({"at": "no"}, "no field no"),
    ):
        with pytest.raises(DataProblem, match=says):
            read_whole_history(tmp_path / "p.csv", SCHEMA, Reading(renames=wrong, events=tmp_path / "e.csv"))
    with pytest.raises(DataProblem, match="no field event_id"):
        read_whole_history(tmp_path / "p.csv", SCHEMA, Reading(renames={"txn": "event_id"}))


cells = {
    "card": st.one_of(st.text("0123abc .", min_size=1, max_size=4), st.none()),
    "channel": st.one_of(st.none(), st.sampled_from(["web", "", "true"])),
    "risk": st.one_of(st.none(), st.floats(-(2.0**80), 2.0**80)),
    "amount": st.one_of(st.none(), st.integers(-5, 10**6).map(lambda n: n / 100)),
    "points": st.one_of(st.none(), st.integers(-(10**6), 10**6).map(lambda n: n / 1000)),
    "event_time": st.one_of(st.just("never"), st.integers(BEGIN_US // 10**6, BEGIN_US // 10**6 + 3 * 86_400)),
    "event": st.sampled_from(["login", "refund", "logout"]),
    "event_id": st.integers(0, 12).map(str),
}


def live(rows):
    """What the service makes of the rows, one after the other."""
    reader, accepted, seen = ContextReader(SCHEMA, Secrets(card_numbers="allow")), [], set()
    for row in rows:
        carried = ("event", "event_id", "event_time", *SCHEMA.events.get(row["event"], ()))
        body = {name: row[name] for name in carried if row[name] is not None}
        try:
            event = reader.decode(json.dumps(body).encode())
        except InvalidInput:
            continue
        if event.event_id not in seen:
            seen.add(event.event_id)
            accepted.append(event)
    return sorted(accepted, key=lambda event: event.event_time)


@settings(max_examples=120, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=12), kind=st.sampled_from(["jsonl", "csv"]))
def test_a_file_gives_the_events_that_the_service_would_take(tmp_path_factory, rows, kind):
    path = tmp_path_factory.mktemp("events") / f"e.{kind}"
    if kind == "csv":
        pl.DataFrame(rows, infer_schema_length=None, strict=False,
                     schema_overrides={"event_time": pl.String, "risk": pl.Float64, "points": pl.Float64}
                     ).write_csv(path)  # fmt: skip
        rows = [{**row, "channel": row["channel"] or None} for row in rows]
    else:
        written(path, map(json.dumps, rows))
    ends = {"transaction_id": ["z"], "event_time": ["2025-03-01"], "amount": [1.0], "card": ["c"], "shop": ["s"]}
    found = with_context(history_of_frame(pl.DataFrame(ends), SCHEMA), path, SCHEMA,
                         secrets=Secrets(card_numbers="allow"))  # fmt: skip
    expected = live(rows)
    assert found.context["event_id"].to_list() == [event.event_id for event in expected]
    offline = context_columns(SCHEMA, found.context)
    online = columns_of_events(SCHEMA)(expected, np.array([event.event_time for event in expected], np.int64))
    if expected:
        for one, other in zip(offline.columns(), online.columns(), strict=True):
            assert one.tolist() == other.tolist() or np.array_equal(one, other, equal_nan=True)


hours = st.integers(0, 60).map(lambda n: BEGIN_US + n * 3_600_000_000)


@settings(max_examples=150, deadline=None)
@given(
    paid=st.lists(st.tuples(hours, st.one_of(st.none(), hours)), min_size=1, max_size=8),
    told=st.lists(st.tuples(hours, st.sampled_from(["login", "refund"])), max_size=8),
)
def test_events_stand_where_the_server_would_have_heard_them(paid, told):
    """By brute force: a clock goes over all hours; in each, events come first, then outcomes, then transactions."""
    frame = pl.DataFrame(
        {
            "transaction_id": [f"t{n}" for n in range(len(paid))], "event_time": [one for one, _ in paid],
            "amount": [1.0] * len(paid), "card": ["c"] * len(paid), "shop": ["s"] * len(paid),
            "is_fraud": [1] * len(paid), "known": [known for _, known in paid],
        },
        schema_overrides={"known": pl.Int64},
    )  # fmt: skip
    events = pl.DataFrame(
        {
            "event": [kind for _, kind in told], "event_id": [f"e{n}" for n in range(len(told))],
            "event_time": [when for when, _ in told], "card": ["c"] * len(told), "amount": [1.0] * len(told),
        },
        schema={"event": pl.String, "event_id": pl.String, "event_time": pl.Int64, "card": pl.String, "amount": pl.Float64},
    )  # fmt: skip
    history = with_context_of_frame(history_of_frame(frame, SCHEMA), events, SCHEMA)
    found = columns_of_frame(SCHEMA, history.frame, None, history.context)
    kinds = {"login": FIRST_CONTEXT, "refund": FIRST_CONTEXT + 1}
    expected = []
    for hour in range(61):
        now = BEGIN_US + hour * 3_600_000_000
        expected += [(kinds[kind], now) for when, kind in told if when == now]
        expected += [(OUTCOME, now) for _, known in paid if known == now]
        expected += [(TRANSACTION, now) for when, _ in paid if when == now]
    last = max(n for n, (kind, _) in enumerate(expected) if kind == TRANSACTION)
    assert [*zip(found.kinds.tolist(), found.time_us.tolist(), strict=True)] == expected[: last + 1]
    assert (np.diff(found.received_us) >= 0).all()


def test_a_kind_that_a_model_does_not_know_is_left_out(history):
    events = pl.DataFrame({"event": ["login", "refund"], "event_id": ["1", "2"], "event_time": [WHEN, WHEN],
                           "card": ["c", "c"], "amount": [None, 1.0]})  # fmt: skip
    context = with_context_of_frame(history, events, SCHEMA).context
    fewer = msgspec.structs.replace(SCHEMA, events={"refund": SCHEMA.events["refund"]})
    assert columns_of_frame(fewer, history.frame, None, context).kinds.tolist() == [
        TRANSACTION,
        FIRST_CONTEXT,
        TRANSACTION,
    ]
    none = msgspec.structs.replace(SCHEMA, events={})
    assert columns_of_frame(none, history.frame, None, context).kinds.tolist() == [TRANSACTION, TRANSACTION]
