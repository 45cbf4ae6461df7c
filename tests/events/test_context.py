"""Context events: how they are declared, read from the wire, hidden, kept and read again."""

import json

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.columns import (
    FIRST_CONTEXT,
    MISSING,
    NO_TEXT,
    OUTCOME,
    TRANSACTION,
    Outcome,
    columns_of_events,
    context_kinds,
    hash_text,
)
from sentinel.events.context import Context, ContextReader, event_schema
from sentinel.events.context_files import with_context
from sentinel.events.files import history_of_frame
from sentinel.events.reader import TransactionReader
from sentinel.events.replay import context_columns
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets, key_of
from sentinel.events.wire import HASHED_BEFORE, ContextEvent, before_of, event_of

SECRETS = Secrets(key_of("Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"))
PAN = "4111111111111111"
SCHEMA = Schema(
    keys=("user", "card", "device"),
    categories=("mail", "channel"),
    numbers=("risk",),
    exact={"points": 3},
    place=("lat", "lon"),
    optional=("device", "channel", "risk"),
    secret=("user",),
    keep_digits=("user",),
    personal={"mail": "card"},
    events={
        "login": ("user", "device", "lat", "lon"),
        "mail_change": ("card", "mail"),
        "refund": ("card", "amount", "points", "risk", "channel"),
    },
)
WHEN = "2025-02-01T10:00:00Z"
WHEN_US = 1_738_404_000_000_000


def read(event, schema=SCHEMA, seal=None):
    return ContextReader(schema, SECRETS, seal).decode(
        json.dumps({"event_id": "e", "event_time": WHEN} | event).encode()
    )


def test_an_event_has_what_its_kind_carries():
    found = read({"event": "refund", "event_id": 7, "card": 12, "amount": 1.25, "points": 0.125})
    assert (event_of(found), found.event_id, found.event_time) == ("refund", "7", WHEN_US)
    assert (found.card, found.amount, found.points, found.risk, found.channel) == ("12", 1.25, 0.125, None, None)
    assert event_schema(SCHEMA, "login").fields == (
        "event_id", "event_time", "lat", "lon", "user", "device", "user_first6", "user_last4",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ({"event": "refund", "card": "c", "amount": -1, "points": 0}, "$.amount"),
        ({"event": "refund", "card": "c", "amount": 1.005, "points": 0}, "$.amount"),
        ({"event": "refund", "card": "c", "amount": 1}, "$.points"),
        ({"event": "refund", "card": "c", "amount": 1, "points": 0, "risk": 1e39}, "$.risk"),
        ({"event": "login", "user": "u", "lat": 91, "lon": 0}, "$.lat"),
        ({"event": "login", "user": "u", "lat": 1, "lon": 0, "user_last4": "1111"}, "$.user_last4"),
        ({"event": "mail_change", "card": "c", "mail": "m", "mail_sealed": "x"}, "$.mail_sealed"),
        ({"event": "mail_change", "card": "c"}, "$.mail"),
        ({"event": "mail_change", "card": "c", "mail": "m", "shop": "s"}, "$.shop"),
        ({"event": "logout", "user": "u"}, "$.event"),
        ({}, "$.event"),
    ],
)
def test_what_a_transaction_could_not_have_an_event_cannot(event, path):
    with pytest.raises(InvalidInput) as error:
        read(event)
    assert error.value.path == path


def test_secrets_and_card_numbers_are_hidden_as_in_a_transaction():
    transaction = TransactionReader(SCHEMA, SECRETS, lambda *given: "|".join(map(str, given))).decode(
        json.dumps(
            {"transaction_id": PAN, "event_time": WHEN, "amount": 1, "user": PAN, "card": PAN, "mail": "a@b",
             "points": 0, "lat": 0, "lon": 0}
        ).encode()
    )  # fmt: skip
    login = read({"event": "login", "user": "4111 1111 1111 1111", "lat": 0, "lon": 0, "event_id": PAN})
    assert (login.user, login.user_first6, login.user_last4) == (transaction.user, "411111", "1111")
    assert login.event_id == transaction.transaction_id != PAN
    change = read({"event": "mail_change", "card": PAN, "mail": "a@b"}, seal=lambda *given: "|".join(map(str, given)))
    assert (change.card, change.mail, change.mail_sealed) == (
        transaction.card,
        transaction.mail,
        transaction.mail_sealed,
    )
    assert change.mail_sealed.startswith(f"card={transaction.card}|mail|a@b")
    refusing = Secrets(key_of("Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"), "refuse")
    with pytest.raises(InvalidInput, match="card number"):
        ContextReader(SCHEMA, refusing).decode(
            json.dumps({"event": "mail_change", "event_id": "e", "event_time": WHEN, "card": PAN, "mail": "m"}).encode()
        )


def test_an_id_and_a_time_may_lack_where_a_transactions_may():
    schema = msgspec.structs.replace(SCHEMA, optional=("transaction_id", "event_time", *SCHEMA.optional))
    reader = ContextReader(schema, SECRETS)
    found = reader.decode(b'{"event":"mail_change","card":"c","mail":"m"}')
    assert (found.event_id, found.event_time) == (None, None)
    with pytest.raises(InvalidInput):
        ContextReader(SCHEMA, SECRETS).decode(b'{"event":"mail_change","card":"c","mail":"m"}')


def test_times_are_read_as_a_transactions():
    schema = Schema(keys=("card",), timezone="Europe/Madrid", events={"login": ("card",)}, time="when")
    found = ContextReader(schema, Secrets()).decode(
        b'{"event":"login","event_id":1,"card":1,"when":"2025-02-01T11:00:00"}'
    )
    assert found.when == WHEN_US


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"events": {"login": ("nobody",)}}, "nobody, which is not declared"),
        ({"events": {"login": ("transaction_id", "card")}}, "transaction_id, which is not declared"),
        ({"events": {"login": ("risk",)}}, "carries no key"),
        ({"events": {"login": ()}}, "carries no key"),
        ({"events": {"login": ("card", "card")}}, "names a field twice"),
        ({"events": {"log in": ("card",)}}, "cannot name a kind"),
        ({"events": {"x" * 65: ("card",)}}, "cannot name a kind"),
        ({"events": {"login": ("device", "mail")}}, "mail, which is personal, without card"),
        ({"events": {f"e{n}": ("card",) for n in range(65)}}, "64 are possible"),
        (
            {"events": {"login": ("card",)}, "categories": ("mail", "channel", "event")},
            "event is a field of every context event",
        ),
        ({"events": {"login": ("card",)}, "time": "event_id"}, "event_id is a field of every context event"),
    ],
)
def test_a_wrong_declaration_fails(changes, says):
    with pytest.raises(InvalidDefinition, match=says):
        msgspec.structs.replace(SCHEMA, **changes)


def test_the_order_in_which_kinds_are_declared_means_nothing():
    other = msgspec.structs.replace(SCHEMA, events=dict(reversed(SCHEMA.events.items())))
    assert [*other.events] == [*SCHEMA.events]
    assert context_kinds(other) == {
        "login": FIRST_CONTEXT,
        "mail_change": FIRST_CONTEXT + 1,
        "refund": FIRST_CONTEXT + 2,
    }
    assert msgspec.json.decode(msgspec.json.encode(SCHEMA), type=Schema) == SCHEMA
    assert b"events" not in msgspec.json.encode(Schema(keys=("card",))), "a schema without is written as it was"


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
names = st.text("abcdefgh", min_size=1, max_size=6).map(lambda name: f"f_{name}")


@st.composite
def schemas(draw):
    """A schema with fields and kinds of events of any sort."""
    fields = draw(st.lists(names, min_size=4, max_size=9, unique=True))
    keys = fields[: draw(st.integers(1, 3))]
    rest = fields[len(keys) :]
    categories, numbers = rest[::3], rest[1::3]
    exact = {name: draw(st.integers(0, 4)) for name in rest[2::3]}
    optional = draw(st.lists(st.sampled_from(fields), unique=True))
    carried = st.tuples(
        st.sampled_from(keys), st.lists(st.sampled_from([*fields, "amount"]), unique=True, max_size=5)
    ).map(lambda some: tuple(dict.fromkeys((some[0], *some[1]))))
    events = draw(st.dictionaries(st.sampled_from(["login", "refund", "a", "Z9"]), carried, min_size=1, max_size=4))
    return Schema(
        keys=tuple(keys), categories=tuple(categories), numbers=tuple(numbers), exact=exact, optional=tuple(optional),
        events=events,
    )  # fmt: skip


@st.composite
def events_of(draw, schema):
    kind = draw(st.sampled_from([*schema.events]))
    one = event_schema(schema, kind)
    event = {"event": kind, "event_id": draw(texts), "event_time": draw(st.integers(10**9, 2 * 10**9))}
    for name in schema.events[kind]:
        if name in schema.optional and draw(st.booleans()):
            continue
        if name in one.decimals:
            scale = 10 ** one.decimals[name]
            event[name] = draw(st.integers(0 if name == "amount" else -(10**9), 10**9)) / scale
        elif name in schema.numbers:
            event[name] = draw(st.floats(-(2.0**100), 2.0**100))
        else:
            event[name] = draw(st.one_of(texts, st.integers(-(10**30), 10**30)))
    return event


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_an_event_that_was_kept_is_read_again_as_it_was(data):
    schema = data.draw(schemas())
    reader, context = ContextReader(schema, Secrets(card_numbers="allow")), Context(schema)
    events = [reader.decode(json.dumps(one).encode()) for one in data.draw(st.lists(events_of(schema), max_size=6))]
    contents = [context.schemas[event_of(one)].encode(one) for one in events]
    again = context.restore(contents)
    assert [*again.places] == [*range(len(events))]
    assert not again.misfits
    assert [(event_of(one), msgspec.to_builtins(one)) for one in again.transactions] == [
        (event_of(one), msgspec.to_builtins(one)) for one in events
    ]
    assert [context.schemas[event_of(one)].encode(one) for one in again.transactions] == contents
    convert = columns_of_events(schema)
    for one, other in zip(convert(events, 5).columns(), convert(again.transactions, 5).columns(), strict=True):
        assert one.tobytes() == other.tobytes()


def test_what_another_schema_wrote_is_left_out_or_named():
    kept = [event_schema(SCHEMA, "mail_change").encode(read({"event": "mail_change", "card": "c", "mail": "m"})),
            event_schema(SCHEMA, "login").encode(read({"event": "login", "user": "u", "lat": 1, "lon": 2}))]  # fmt: skip
    fewer = msgspec.structs.replace(SCHEMA, events={"mail_change": ("card", "mail")})
    assert [*Context(fewer).restore(kept).places] == [0]
    assert not Context(fewer).restore(kept).misfits
    other = msgspec.structs.replace(SCHEMA, events={"mail_change": ("card", "mail"), "login": ("card",)})
    found = Context(other).restore([*kept, b"no json"])
    assert [*found.places] == [0]
    assert [misfit.place for misfit in found.misfits] == [1]
    assert Context(Schema(keys=("card",))).restore(kept).transactions == []
    long = Schema(keys=("card",), events={"login": ("card",)})
    written = b'{"event":"login","event_id":"e","event_time":5,"card":"%b"}' % (b"x" * 300)
    found = Context(long).restore([written])
    assert found.transactions[0].card == "x" * 300, "features count it as they did"
    assert len(found.misfits) == 1


def test_transactions_outcomes_and_events_are_columns_in_their_order():
    transaction = TransactionReader(SCHEMA, SECRETS).decode(
        json.dumps(
            {"transaction_id": "t", "event_time": WHEN, "amount": 2.5, "user": "u", "card": "c", "mail": "m",
             "points": 1, "lat": 0, "lon": 0}
        ).encode()
    )  # fmt: skip
    refund = read({"event": "refund", "card": "c", "amount": 1.25, "points": 0.5})
    login = read({"event": "login", "user": "u", "device": "d", "lat": 1.5, "lon": -2})
    events = [login, transaction, refund, Outcome("t", is_fraud=True, time_us=WHEN_US), login]
    received = np.arange(5, dtype=np.int64)
    found = columns_of_events(SCHEMA)(events, received)
    kinds = context_kinds(SCHEMA)
    assert found.kinds.tolist() == [kinds["login"], TRANSACTION, kinds["refund"], OUTCOME, kinds["login"]]
    assert found.received_us.tolist() == [0, 1, 2, 3, 4]
    assert found.ids.tolist() == [NO_TEXT, hash_text("t"), NO_TEXT, hash_text("t"), NO_TEXT]
    assert found.exact[0].tolist() == [MISSING, MISSING, 1_500_000, -2_000_000]
    assert found.exact[2].tolist() == [125, 500, MISSING, MISSING]
    card, device = SCHEMA.texts.index("card"), SCHEMA.texts.index("device")
    assert found.texts[2, card] == found.texts[1, card] == hash_text("c")
    assert found.texts[:, device].tolist() == [hash_text("d"), NO_TEXT, NO_TEXT, NO_TEXT, hash_text("d")]
    assert found.labels.tolist() == [-1, -1, -1, 1, -1]


NAMES = ("kind", "before", "event_of", "before_of", "tag", "mro", "keys", "kinds", "columns", "class", "self", "encode")
"""What a field may be called like: what we ask of transactions, and what Python and msgspec have for themselves."""


def test_a_transaction_has_no_attribute_that_a_field_could_hide():
    """Every other name of the base classes begins with an underscore, and none of a field does."""
    ours = {name for one in ContextEvent.__mro__ for name in vars(one)} | set(dir(ContextEvent))
    assert {name for name in ours if name[0].isalpha()} == {HASHED_BEFORE}
    with pytest.raises(InvalidDefinition, match="hashed_before is kept"):
        Schema(keys=("card", HASHED_BEFORE))


@pytest.mark.parametrize("name", NAMES)
def test_a_field_of_any_name_is_a_field(name, tmp_path):
    """Live and from files: what a caller writes in it says nothing of what the event is, or of whose it is."""
    schema = Schema(
        keys=("card", name), categories=("mail",), optional=(name, "mail"), personal={"mail": "card"}, secret=("card",),
        events={"login": ("card", name), "mail_change": ("card", "mail", name), "visit": ("card",)},
    )  # fmt: skip
    rotated = Secrets(key_of("2:Xr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"), before=SECRETS)
    reader = ContextReader(schema, rotated, lambda *_: "sealed")
    context, transactions = Context(schema), TransactionReader(schema, rotated, lambda *_: "sealed")
    events, columns_of = [], columns_of_events(schema)
    for value in ("login", "visit", "no_kind", "card", None):
        for kind in ("mail_change", "login", "visit"):
            body = {"event": kind, "event_id": "e", "event_time": WHEN, "card": "c"}
            body |= {} if kind == "visit" else {name: value}
            body |= {"mail": "ann@private.example"} if kind == "mail_change" else {}
            found = reader.decode(json.dumps(body).encode())
            events.append(found)
            assert event_of(found) == kind
            assert "ann@private" not in context.schemas[kind].encode(found).decode()
            assert getattr(found, name, None) == (None if kind == "visit" else value)
            assert before_of(found, "card") == SECRETS.hidden("c")
        body = {"transaction_id": "t", "event_time": WHEN, "amount": 1, "card": "c", name: value, "mail": "a@b"}
        found = transactions.decode(json.dumps(body).encode())
        assert getattr(found, name) == value
        assert (before_of(found, "card"), before_of(found, name)) == (SECRETS.hidden("c"), None)
        assert schema.restore(schema.encode(found)) == found
    columns = columns_of(events, WHEN_US)
    numbers = context_kinds(schema)
    assert columns.kinds.tolist() == [numbers[event_of(one)] for one in events]
    place = schema.texts.index(name)
    assert columns.texts[:, place].tolist() == [
        NO_TEXT if (text := getattr(one, name, None)) is None else hash_text(text) for one in events
    ]
    restored = context.restore([context.schemas[event_of(one)].encode(one) for one in events])
    assert restored.misfits == []
    assert list(map(msgspec.to_builtins, restored.transactions)) == list(map(msgspec.to_builtins, events))
    path, frame = tmp_path / "e.jsonl", {"transaction_id": ["z"], "event_time": ["2025-03-01"], "amount": [1.0]}
    path.write_text(
        json.dumps(
            {"event": "mail_change", "event_id": "e", "event_time": WHEN, "card": "c", "mail": "a@b", name: "login"}
        )
        + "\n"
        + json.dumps({"event": "visit", "event_id": "e2", "event_time": WHEN, "card": "c"})
    )
    history = history_of_frame(
        pl.DataFrame(frame | {"card": ["c"], name: ["login"], "mail": ["a@b"]}), schema, secrets=SECRETS
    )
    read_back = with_context(history, path, schema, secrets=SECRETS).context
    assert context_columns(schema, read_back).kinds.tolist() == [numbers["mail_change"], numbers["visit"]]
    assert (history.frame[name].to_list(), read_back[name].to_list()) == (["login"], ["login", None])
