"""Erasure destroys a subject's key; what of it waits to be recorded is sealed with the next one."""

import json
from contextlib import closing

import pytest

from sentinel.events.context import ContextReader
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets, key_of
from sentinel.record.erasure import erase
from sentinel.record.subjects import SubjectKeys
from sentinel.serve.batch import Report
from sentinel.serve.queue import Queue, Request

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
    reader, log = TransactionReader(SCHEMA, SECRETS, subjects.sealed), fake_log.FakeLog()

    def read(card, mail):
        body = {"transaction_id": "t", "event_time": 1_738_404_000, "amount": 1, "card": card} | (
            {"mail": mail} if mail else {}
        )
        return reader.decode(json.dumps(body).encode())

    def shown(transaction):
        return subjects.opened(f"card={transaction.card}", "mail", transaction.mail_sealed)

    recorded, waiting, bare, other = read("c", "a@b"), read("c", "a@b"), read("c", None), read("d", "d@b")
    queue = Queue(100)
    queue.put(Request([waiting, bare, other], 0, 0, lambda _: None))
    subjects.sync(0)
    assert erase(log, subjects, reader, ("card", "c"), 0, waiting=queue.transactions).found
    subjects.sync(0)
    assert shown(recorded) is None
    assert (shown(waiting), shown(other)) == ("a@b", "d@b")
    assert waiting.mail_sealed != recorded.mail_sealed
    assert bare.mail_sealed is None


def test_an_event_that_waits_while_its_subject_is_erased_can_be_read_once_it_is_recorded(subjects, fake_log):
    context, queue = ContextReader(SCHEMA, SECRETS, subjects.sealed), Queue(100)

    def read(fields):
        return context.decode(json.dumps({"event_id": "e", "event_time": 1_738_404_000} | fields).encode())

    recorded, waiting = (read({"event": "mail_change", "card": "c", "mail": "a@b"}) for _ in range(2))
    visit = read({"event": "visit", "shop": "s"})
    queue.put_events(Request([Report(waiting, "app"), Report(visit, "app")], 0, 0, lambda _: None))
    subjects.sync(0)
    assert erase(
        fake_log.FakeLog(), subjects, TransactionReader(SCHEMA, SECRETS), ("card", "c"), 0, waiting=queue.events
    ).found
    subjects.sync(0)
    shown = [subjects.opened("card=c", "mail", one.mail_sealed) for one in (recorded, waiting)]
    assert shown == [None, "a@b"]
