"""Ids that are assigned: a transaction is found again by the one that was told."""

import secrets
import uuid

from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets, key_of
from sentinel.transport.http.api import new_id


def test_an_id_that_is_assigned_never_looks_like_a_card_number(monkeypatch):
    reader = TransactionReader(Schema(optional=("transaction_id",)), Secrets(key_of(secrets.token_hex(32))))
    like_one = uuid.UUID("4111111111111111aaaaaaaaaaaaaaaa")
    monkeypatch.setattr(uuid, "uuid4", lambda: like_one)
    assert reader.text("transaction_id", new_id()) == new_id()
    monkeypatch.undo()
    assert len({new_id() for _ in range(1_000)}) == 1_000
    assert new_id().isalpha()
