"""Erasure: the key of a subject is destroyed, and the log says so."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.events.wire import Transaction
from sentinel.record.audit import Change, append_change
from sentinel.record.entries import Erased, body_of
from sentinel.record.log import Kind, Log
from sentinel.record.subjects import SubjectKeys


class Erasure(msgspec.Struct, frozen=True):
    """What was erased: `key` is the field, `value` what is stored of it. `found` when there was anything personal."""

    key: str
    value: str
    found: bool
    position: int


def personal_in(fields: dict[str, Any], schema: Schema, subjects: SubjectKeys | None) -> dict[str, str | None]:
    """What is personal in a transaction as it is stored, by field; None for what was erased.

    Raises StorageProblem, KeyError and TypeError for fields that do not fit the schema.
    """
    found = {}
    for name, sealed in schema.sealed.items():
        if (kept := fields.get(sealed)) is not None:
            subject = schema.personal[name]
            found[name] = subjects.opened(f"{subject}={fields[subject]}", name, kept) if subjects else None
    return found


def erase(
    log: Log, subjects: SubjectKeys, reader: TransactionReader, asked: tuple[str, str], now_us: int,
    note: Change | None = None, waiting: Iterable[Transaction] = (),
) -> Erasure:  # fmt: skip
    """Erase what is personal of the subject with this key, as (field, value); from the thread of the log's writer.

    `note` goes to the audit before, once it is clear that something personal can belong to the key.
    A subject whose hash was another one before the hash key was changed is erased under both.
    `waiting` are transactions and context events that were read and will be recorded after this: what is personal in
    them is sealed anew.
    `subjects.purge` has to follow, from any thread; all may be done again after a fault. Raises StorageProblem, and
    InvalidInput for a field that nothing personal belongs to.
    """
    key, value = asked
    known = sorted(set(reader.schema.personal.values()))
    if key not in known:
        raise InvalidInput(f"Nothing personal belongs to {key}; subjects are named by {', '.join(known) or 'no key'}")
    if note is not None:
        append_change(log, note, log.clock(now_us))
    names = reader.texts(key, value)
    erased = dict.fromkeys(chain.from_iterable(subjects.names_of(f"{key}={one}") for one in names))
    stored = {subject.removeprefix(f"{key}=") for subject in erased}
    theirs = [one for one in waiting if getattr(one, key, None) in stored]
    texts = list(_texts_of(key, theirs, reader.schema, subjects))
    found = [subjects.erase(subject) for subject in erased]
    for transaction, name, text in texts:
        subject = f"{key}={getattr(transaction, key)}"
        setattr(transaction, reader.schema.sealed[name], subjects.sealed(subject, name, text))
    for subject in erased:
        body = body_of(Erased(key, subject.removeprefix(f"{key}=")))
        position = log.write(Kind.ERASED, 1, log.clock(now_us), body)
    return Erasure(key, names[0], any(found), position)


def _texts_of(
    key: str, theirs: Iterable[Transaction], schema: Schema, subjects: SubjectKeys
) -> Iterator[tuple[Transaction, str, str]]:
    """What is personal of the subjects with this key in their transactions: transaction, field, and text."""
    for transaction in theirs:
        subject = f"{key}={getattr(transaction, key)}"
        for name in (name for name, whose in schema.personal.items() if whose == key):
            sealed = getattr(transaction, schema.sealed[name], None)  # a context event may not carry it
            text = None if sealed is None else subjects.reopened(subject, name, sealed)
            if text is not None:
                yield transaction, name, text
