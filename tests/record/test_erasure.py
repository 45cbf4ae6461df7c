"""Erasure destroys a subject's key; what of it waits to be recorded is sealed with the next one."""

import json
from contextlib import closing

import pytest

from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets, key_of
from sentinel.record.erasure import erase
from sentinel.record.subjects import SubjectKeys
from sentinel.serve.queue import Queue, Request

SCHEMA = Schema(keys=("card", "mail"), personal={"mail": "card"}, optional=("mail",))
SECRETS = Secrets(key_of("Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"))


@pytest.fixture
def subjects(tmp_path):
    with closing(SubjectKeys(tmp_path)) as keys:
        yield keys


def test_what_waits_while_its_subject_is_erased_can_be_read_once_it_is_recorded(subjects, fake_log):
    reader, log = TransactionReader(SCHEMA, SECRETS, subjects.sealed), fake_log.FakeLog()

    def read(card, mail):
        body = {"transaction_id": "t", "event_time": 1, "amount": 1, "card": card} | ({"mail": mail} if mail else {})
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
