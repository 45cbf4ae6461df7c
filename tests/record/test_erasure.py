"""Erasure destroys a subject's key; what of it waits to be recorded is sealed with the next one."""

import json
from contextlib import closing

import pytest

from sentinel.events.context import ContextReader
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets, key_of
from sentinel.events.wire import Unsealed, seal_what_waits
from sentinel.record.erasure import erase
from sentinel.record.subjects import SubjectKeys

SCHEMA = Schema(
    keys=("card", "mail", "shop"),
    personal={"mail": "card"},
    optional=("mail", "shop"),
    events={"mail_change": ("card", "mail"), "visit": ("shop",)},
)
SECRETS = Secrets(key_of("Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"))


@pytest.fixture
def subjects(tmp_path):
    with closing(SubjectKeys(tmp_path)) as keys:
        yield keys


def test_what_waits_while_its_subject_is_erased_can_be_read_once_it_is_recorded(subjects, fake_log):
    """A transaction and a context event that were read before: they are sealed as they are recorded, with a new key."""
    reader, context = TransactionReader(SCHEMA, SECRETS, Unsealed), ContextReader(SCHEMA, SECRETS, Unsealed)
    times = {"event_time": 1_738_404_000}

    def read(card, mail):
        body = times | {"transaction_id": "t", "amount": 1, "card": card} | ({"mail": mail} if mail else {})
        return reader.decode(json.dumps(body).encode())

    def told(fields):
        return context.decode(json.dumps({"event_id": "e"} | times | fields).encode())

    def record(*transactions):
        for one in transactions:
            seal_what_waits(one, ["mail_sealed"], subjects.sealed)
        subjects.sync(0)

    def shown(transaction):
        return subjects.opened(f"card={transaction.card}", "mail", transaction.mail_sealed)

    recorded, waiting, bare, other = read("c", "a@b"), read("c", "a@b"), read("c", None), read("d", "d@b")
    change, visit = told({"event": "mail_change", "card": "c", "mail": "a@b"}), told({"event": "visit", "shop": "s"})
    assert b"a@b" not in SCHEMA.encode(waiting)
    assert json.loads(SCHEMA.encode(waiting))["mail_sealed"] is None
    assert not subjects.are_new
    record(recorded)
    assert shown(recorded) == "a@b"
    assert erase(fake_log.FakeLog(), subjects, reader, ("card", "c"), 0).found
    record(waiting, bare, other, change, visit)
    assert [shown(one) for one in (recorded, waiting, other, change)] == [None, "a@b", "d@b", "a@b"]
    assert waiting.mail_sealed != recorded.mail_sealed
    assert bare.mail_sealed is None
