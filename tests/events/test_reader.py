"""A reader hides secrets and card numbers, and a file and a live transaction come out the same."""

import json
import re
from datetime import datetime

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import DataProblem, InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import masked
from sentinel.events.columns import columns_of_transactions
from sentinel.events.files import history_of_frame
from sentinel.events.reader import TransactionReader
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame
from sentinel.events.schema import Schema
from sentinel.events.secrets import HashKey, Secrets, key_of
from sentinel.events.times import LONG_AGO_US, instant_us

KEY = key_of("Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ")
SCHEMA = Schema(
    keys=("card", "shop", "own"), categories=("channel",), optional=("channel", "shop", "own", "card"),
    secret=("card",), keep_digits=("card",), not_card_numbers=("own",),
)  # fmt: skip
READER = TransactionReader(SCHEMA, Secrets(KEY))
PAN, OTHER_PAN = "4111111111111111", "5500000000000004"


def read(reader=READER, /, **fields):
    body = {"transaction_id": "t", "event_time": 1_735_689_600, "amount": 1} | fields
    transaction = reader.decode(json.dumps(body).encode())
    found = reader.decode_array(json.dumps([body, body]).encode())
    assert found == [transaction, transaction]
    return transaction


def test_a_secret_is_hashed_and_the_digits_that_are_wanted_are_kept():
    for card in (PAN, int(PAN), "4111 1111-1111 1111"):
        found = read(card=card)
        assert found.card == KEY.hash(PAN)
        assert (found.card_first6, found.card_last4) == ("411111", "1111")
    token = read(card="token-7")
    assert (token.card, token.card_first6, token.card_last4) == (KEY.hash("token-7"), None, None)
    assert read().card is None
    assert SCHEMA.restore(SCHEMA.encode(found)) == found


def test_digits_cannot_be_sent_but_from_a_file_with_a_hash_that_they_were_kept_of():
    with pytest.raises(InvalidInput, match="taken from card"):
        READER.decode(
            json.dumps({"transaction_id": "t", "event_time": 1750000000, "amount": 1, "card_first6": "1"}).encode()
        )
    of_files = TransactionReader(SCHEMA, Secrets(KEY), takes_parts=True)
    again = read(of_files, card=KEY.hash(PAN), card_first6="411111", card_last4="1111")
    assert again == read(card=PAN)
    for wrong in ("41111", "41111x", PAN):
        body = {
            "transaction_id": "t",
            "event_time": 1750000000,
            "amount": 1,
            "card": KEY.hash(PAN),
            "card_first6": wrong,
        }
        with pytest.raises(InvalidInput, match="Expected 6 digits"):
            of_files.decode(json.dumps(body).encode())


def test_card_numbers_elsewhere_are_hashed_and_our_own_numbers_stay():
    found = read(transaction_id=int(PAN), shop=f"at {PAN}", channel="4111-1111-1111-1111", own=PAN)
    assert found.transaction_id == found.channel == KEY.hash(PAN)
    assert found.shop == f"at {KEY.hash(PAN)}"
    assert found.own == PAN
    assert READER.text("transaction_id", PAN) == READER.text("card", PAN) == KEY.hash(PAN)
    assert READER.text("own", PAN) == PAN


@pytest.mark.parametrize(
    "between", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\u200e", "\ufe0f", "\uff0d", "\u0301", ".", "/"]
)
def test_card_numbers_are_hashed_whatever_stands_between_their_digits(between):
    number = between.join(["4111"] + ["1111"] * 3)
    found = read(transaction_id=number, shop=f"at {number}", card=number)
    assert found.transaction_id == found.card == KEY.hash(PAN)
    assert found.shop == f"at {KEY.hash(PAN)}"


def test_two_secrets_that_differ_in_where_a_slash_stands_are_two():
    assert read(card="12/345678901234").card != read(card="123/45678901234").card
    assert read(card="12 345678901234").card == read(card="12345678901234").card


def test_limits_hold_after_hashing():
    assert read(transaction_id=PAN).transaction_id == KEY.hash(PAN)
    with pytest.raises(InvalidInput, match="at most 128") as error:
        READER.decode(json.dumps({"transaction_id": "x" * 112 + PAN, "event_time": 1750000000, "amount": 1}).encode())
    assert error.value.path == "$.transaction_id"


def test_card_numbers_can_be_refused():
    reader = TransactionReader(SCHEMA, Secrets(KEY, "refuse"))
    body = json.dumps({"transaction_id": "t", "event_time": 1750000000, "amount": 1, "shop": PAN}).encode()
    with pytest.raises(InvalidInput, match="no card number"):
        reader.decode(body)
    assert reader.decode_array(b"[%b]" % body) is None
    assert read(reader, card=PAN).card == KEY.hash(PAN)


def test_a_schema_with_secrets_is_refused_without_a_key():
    with pytest.raises(InvalidDefinition, match="declares card secret, and there is no key"):
        TransactionReader(SCHEMA, Secrets())
    with pytest.raises(InvalidDefinition, match="there is no key"):
        history_of_frame(pl.DataFrame({"transaction_id": ["t"], "event_time": [1750000001], "amount": [1.0]}), SCHEMA)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"secret": ("amount",)}, "secret names amount"),
        ({"secret": ("transaction_id",)}, "secret names transaction_id"),
        ({"keep_digits": ("x",)}, "keep_digits names x, which is not declared"),
        ({"keep_domain": ("amount",)}, "keep_domain names amount, which is not declared"),
        ({"times": ("card",)}, "card declared twice"),
        ({"not_card_numbers": ("x",)}, "not_card_numbers names x"),
        ({"secret": ("card",), "keep_digits": ("card",), "categories": ("card_last4",)}, "card_last4 declared twice"),
    ],
)
def test_what_cannot_be_declared_is_named(given, said):
    with pytest.raises(InvalidDefinition, match=said):
        Schema(keys=("card",), **given)


PERSONAL = Schema(
    keys=("card", "shop"), categories=("email",), optional=("card", "email"), secret=("card",),
    personal={"email": "card"},
)  # fmt: skip


def test_what_is_personal_is_a_hash_and_sealed_for_its_subject():
    sealed = TransactionReader(PERSONAL, Secrets(KEY), lambda *given: "|".join(map(str, given)))
    found = read(sealed, card=PAN, shop="s", email="a@b")
    assert found.email == KEY.hash("a@b")
    assert found.email_sealed == f"card={KEY.hash(PAN)}|email|a@b|None"
    assert PERSONAL.restore(PERSONAL.encode(found)) == found
    assert read(sealed, shop="s", email="a@b").email_sealed is None
    assert read(sealed, card=PAN, shop="s").email_sealed is None
    assert read(sealed, card=PAN, shop="s", email=KEY.hash("a@b")).email_sealed is None
    assert read(TransactionReader(PERSONAL, Secrets(KEY)), card=PAN, shop="s", email="a@b").email_sealed is None
    with pytest.raises(InvalidInput, match="made from email"):
        sealed.decode(b'{"transaction_id":"t","event_time":1750000000,"amount":1,"shop":"s","email_sealed":"x"}')
    frame = pl.DataFrame(
        {"transaction_id": ["t"], "event_time": [1750000001], "amount": [1.0], "shop": ["s"], "email": ["a@b"]}
    )
    assert history_of_frame(frame, PERSONAL, secrets=Secrets(KEY)).frame["email"].to_list() == [KEY.hash("a@b")]


REFUSED = [
    {"card": "c", "email": "a@b", "shop": f"shop {PAN}"},
    {"card": "c", "email": "a@b", "phone": "7", "shop": "s", "phone_sealed": "x"},
    {"card": "c", "email": "a@b", "shop": "s", "amount": -1},
]


@pytest.mark.parametrize("fields", REFUSED)
def test_what_is_refused_is_sealed_for_no_one(fields):
    schema = Schema(
        keys=("card", "shop"), categories=("email", "phone"), optional=("email", "phone"),
        personal={"email": "card", "phone": "card"},
    )  # fmt: skip
    sealed = []
    reader = TransactionReader(schema, Secrets(KEY, "refuse"), lambda *given: sealed.append(given) or "x")
    with pytest.raises(InvalidInput):
        read(reader, **fields)
    good = {"transaction_id": "t", "event_time": 1, "amount": 1, "card": "c", "email": "a@b", "shop": "s"}
    assert reader.decode_array(msgspec.json.encode([good, good | fields])) is None
    assert sealed == []


def test_the_same_transaction_is_known_whatever_it_was_sealed_with():
    one, other, another = (
        PERSONAL.encode(
            read(TransactionReader(PERSONAL, Secrets(KEY), lambda *_, to=to: to), card=PAN, shop="s", email=e)
        )
        for to, e in (("x", "a@b"), ("y", "a@b"), ("x", "c@d"))
    )
    assert one != other
    assert PERSONAL.is_same(one, other)
    assert not PERSONAL.is_same(one, another)
    assert not SCHEMA.is_same(b'{"a":1}', b'{"a":2}')


@pytest.mark.parametrize(
    ("personal", "said"),
    [
        ({"amount": "card"}, "personal names amount"),
        ({"email": "amount"}, "personal names amount"),
        ({"email": "shop", "shop": "card"}, "shop is personal and names a subject"),
    ],
)
def test_what_can_be_personal(personal, said):
    with pytest.raises(InvalidDefinition, match=said):
        Schema(keys=("card", "shop"), categories=("email",), personal=personal)


def test_a_schema_without_secrets_has_the_fields_it_had():
    assert Schema(keys=("card",)).texts == ("card",)
    assert Schema(keys=("card",)).may_lack == ()


CARDS = st.sampled_from([PAN, "5555 5555 5555 4444", "378282246310005", "501971701010", "token", "", None, "41111"])
TEXTS = st.sampled_from(["a", PAN, "x 4111-1111-1111-1111 y", "\uff14" + "\uff11" * 15, "", None, "12345678901234567"])


@settings(deadline=None)
@given(st.lists(st.tuples(CARDS, TEXTS, TEXTS, TEXTS), min_size=1, max_size=6))
def test_a_file_and_live_transactions_have_the_same_bits_and_no_card_number(rows):
    names = ("card", "shop", "channel", "own")
    fields = [dict(zip(names, row, strict=True)) for row in rows]
    frame = pl.DataFrame({name: [row[name] for row in fields] for name in names}, dict.fromkeys(names, pl.String))
    ids = [f"{n} 5555555555554444" for n in range(len(rows))]
    frame = frame.with_columns(
        pl.Series("transaction_id", ids), pl.Series("event_time", range(1_000_000_000, 1_000_000_000 + len(rows))),
        pl.lit(1.5).alias("amount"),
    )  # fmt: skip
    history = history_of_frame(frame, SCHEMA, Reading(strict=True), secrets=Secrets(KEY)).frame
    live = [
        READER.decode(
            json.dumps(
                {"transaction_id": ids[n], "event_time": 1_000_000_000 + n, "amount": 1.5}
                | {name: value for name, value in row.items() if value}
            ).encode()
        )
        for n, row in enumerate(fields)
    ]
    for name in SCHEMA.fields:
        assert history[name].to_list() == [getattr(one, name) for one in live], name
    of_live = columns_of_transactions(SCHEMA)(live, 5)
    of_file = columns_of_frame(SCHEMA, history)
    assert of_live.texts.tolist() == of_file.texts.tolist()
    assert of_live.ids.tolist() == of_file.ids.tolist()
    again = history_of_frame(history, SCHEMA, Reading(strict=True), secrets=Secrets(KEY)).frame
    assert again.equals(history)
    stored = "\n".join(SCHEMA.encode(one).decode() for one in live)
    assert masked(re.sub(r'"own":"[^"]*"', "", stored)) == re.sub(r'"own":"[^"]*"', "", stored)


def test_rows_with_card_numbers_are_left_out_where_those_are_refused():
    frame = pl.DataFrame(
        {
            "transaction_id": ["a", "b"],
            "event_time": [1750000001, 1750000002],
            "amount": [1.0, 1.0],
            "shop": [PAN, "s"],
            "card": PAN,
        }
    )
    history = history_of_frame(frame, SCHEMA, secrets=Secrets(KEY, "refuse"))
    assert history.frame["transaction_id"].to_list() == ["b"]
    assert history.skipped == {"it holds a card number": 1}
    with pytest.raises(DataProblem, match="it holds a card number"):
        history_of_frame(frame, SCHEMA, Reading(strict=True), secrets=Secrets(KEY, "refuse"))


BEFORE = HashKey("1", b"k" * 32)
ROTATED = Secrets(HashKey("2", b"l" * 32), before=Secrets(BEFORE))


def test_what_was_hashed_before_comes_along_while_the_former_key_is_given():
    sealed = TransactionReader(PERSONAL, ROTATED, lambda *given: "|".join(map(str, given)))
    found = read(sealed, transaction_id=f"t-{PAN}", card=PAN, shop=PAN, email="a@b")
    names = {"card": PAN, "shop": PAN, "email": "a@b"}
    assert {name: getattr(found, name) for name in names} == {
        name: ROTATED.hidden(text) for name, text in names.items()
    }
    assert found.hashed_before == {"transaction_id": f"t-{BEFORE.hash(PAN)}"} | {
        name: BEFORE.hash(text) for name, text in names.items()
    }
    assert found.email_sealed == f"card={ROTATED.hidden(PAN)}|email|a@b|card={BEFORE.hash(PAN)}"
    assert PERSONAL.restore(PERSONAL.encode(found)) == found
    plain = read(sealed, card=BEFORE.hash(PAN), shop="s", email="a@b")
    assert plain.hashed_before == {"email": BEFORE.hash("a@b")}  # a hash stays what it is
    assert sealed.texts("card", PAN) == [ROTATED.hidden(PAN), BEFORE.hash(PAN)]
    assert sealed.texts("shop", "s") == ["s"]
    forged = b'{"transaction_id":"t","event_time":1750000000,"amount":1,"shop":"s","hashed_before":{"card":"x"}}'
    with pytest.raises(InvalidInput, match="Expected none") as error:
        sealed.decode(forged)
    assert error.value.path == "$.hashed_before"
    assert sealed.decode_array(b"[" + forged + b"]") is None


def test_the_same_transaction_is_known_whatever_it_was_hashed_with():
    def content(secrets, pan=PAN, **more):
        return PERSONAL.encode(read(TransactionReader(PERSONAL, secrets), card=pan, shop="s", **more))

    former, both, after = Secrets(BEFORE), ROTATED, Secrets(HashKey("2", b"l" * 32))
    for one in (former, both, after):
        for other in (former, both, after):
            assert PERSONAL.is_same(content(one), content(other))
            assert not PERSONAL.is_same(content(one, amount=1), content(other, amount=2))
            if {one, other} != {former, after}:  # which have nothing in common
                assert not PERSONAL.is_same(content(one), content(other, OTHER_PAN))
    assert PERSONAL.is_same(content(former), content(after, OTHER_PAN))
    assert not PERSONAL.is_same(content(former), content(after, None))


TAKING = Schema(
    keys=("card", "email"), times=("opened",), optional=("card", "email", "opened"), secret=("email",),
    keep_digits=("card",), keep_domain=("email",), timezone="Europe/Madrid",
)  # fmt: skip
TAKER = TransactionReader(TAKING, Secrets(KEY))


def test_what_is_taken_from_a_field_is_taken_before_that_is_hidden():
    found = read(TAKER, card=PAN, email=" Ann@Mail.Example")
    assert (found.card_first6, found.card_last4, found.email_domain) == ("411111", "1111", "mail.example")
    assert found.card == KEY.hash(PAN)  # no secret, but a card number in a text
    assert found.email == KEY.hash(" Ann@Mail.Example")
    assert TAKING.restore(TAKING.encode(found)) == found
    of_files = TransactionReader(TAKING, Secrets(KEY), takes_parts=True)
    again = read(of_files, card=PAN, email=found.email, email_domain="mail.example", card_first6="411111")
    assert again.email_domain == "mail.example"
    assert read(TAKER, email="nobody").email_domain is None


@pytest.mark.parametrize(
    "wrong", [{"email": "a@b.c", "email_domain": "b.d"}, {"card": PAN, "card_first6": "411112"}, {"card_last4": "1111"}]
)
def test_what_was_not_taken_from_a_field_is_refused(wrong):
    body = json.dumps({"transaction_id": "t", "event_time": 1_735_689_600, "amount": 1} | wrong).encode()
    with pytest.raises(InvalidInput, match="it is taken from"):
        TAKER.decode(body)
    assert TAKER.decode_array(b"[" + body + b"]") is None


HASHES = {"card": "s1_" + "a" * 26, "email": "s1_" + "b" * 26}


@pytest.mark.parametrize("part", [{"card_first6": "999999"}, {"card_last4": "1234"}, {"email_domain": "mail.example"}])
def test_what_is_sent_as_a_hash_brings_nothing_that_was_taken_from_it(part):
    """Whoever may score would choose it freely. Only what is sent on from a file may, in the form of such a part."""
    body = json.dumps({"transaction_id": "t", "event_time": 1_735_689_600, "amount": 1} | HASHES | part).encode()
    with pytest.raises(InvalidInput, match="nothing can be taken from") as error:
        TAKER.decode(body)
    assert error.value.path == f"$.{next(iter(part))}"
    assert TAKER.decode_array(b"[" + body + b"]") is None
    of_files = TransactionReader(TAKING, Secrets(KEY), takes_parts=True)
    assert TAKING.encode(of_files.decode(body)).decode().count(next(iter(part.values()))) == 1
    for wrong in ("Ann Smith, 5 Main street", "4111111111111111", "x"):
        with pytest.raises(InvalidInput, match="Expected"):
            of_files.decode(body.replace(next(iter(part.values())).encode(), wrong.encode()))


@pytest.mark.parametrize(
    "text",
    ["@john.doe private 555-1234", "@mail.example", "x@4111111111111111", "x@4111.1111.1111.1111", "a b@mail.example",
     "ann@localhost", "ann@mail..example", "ann@-mail.example", "ann@mail.example, Main street", "ann@" + "m" * 64 + ".example",
     "ann@" + "m." * 130 + "example", "a@b@mail.example"],
)  # fmt: skip
def test_of_what_is_no_address_no_domain_is_kept(text):
    assert read(TAKER, email=text[:256]).email_domain is None


@pytest.mark.parametrize("domain", ["mail.example", "a-b.co.uk", "bücher.example", "xn--bcher-kva.example", "почта.рф"])
def test_domains_in_any_letters_are_kept(domain):
    assert read(TAKER, email=f"ann.o'x+y@{domain.upper()}").email_domain == domain


def test_further_times_are_read_as_the_time_is_and_may_be_of_long_ago():
    born = read(TAKER, opened="1961-05-03T12:00:00")
    assert born.opened == instant_us("1961-05-03T11:00:00Z", earliest_us=LONG_AGO_US)
    assert read(TAKER, opened=1_735_689_600).opened == 1_735_689_600_000_000
    assert TAKING.restore(TAKING.encode(born)) == born
    for wrong in ("1861-05-03", "later", 20260131, "2101-01-01"):
        with pytest.raises(InvalidInput) as error:
            read(TAKER, opened=wrong)
        assert error.value.path == "$.opened"


@given(
    st.one_of(st.none(), st.text(max_size=12), st.emails().map(lambda one: one[:60]), st.just(PAN)),
    st.one_of(st.none(), st.datetimes(datetime(1900, 1, 2), datetime(2099, 1, 1)).map(datetime.isoformat)),
)
def test_a_file_has_what_was_taken_and_the_times_as_the_server_has_them(text, opened):
    live = {"transaction_id": "t", "event_time": 1_735_689_600, "amount": 1, "card": text, "email": text}
    given = {name: value for name, value in (live | {"opened": opened}).items() if value is not None}
    frame = pl.DataFrame([given | {"event_time": "2025-01-01T00:00:00Z"}])
    found = TAKER.decode(json.dumps(given).encode())
    row = history_of_frame(frame, TAKING, secrets=Secrets(KEY)).frame.row(0, named=True)
    assert row == {name: getattr(found, name) for name in TAKING.fields}
