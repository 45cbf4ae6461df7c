"""Erasure: the key of a subject is destroyed, and the log says so."""

from itertools import chain
from typing import Any

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.record.audit import Change, append_change
from sentinel.record.entries import Erased, body_of
from sentinel.record.log import Kind, Log
from sentinel.record.subjects import SubjectKeys


class Erasure(msgspec.Struct, frozen=True):
    """What was erased: `key` is the field, `value` what is stored of it. `found` when there was anything personal.

    `cases` is in how many cases what people wrote was deleted as well.
    """

    key: str
    value: str
    found: bool
    position: int
    cases: int = 0


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
    note: Change | None = None,
) -> Erasure:  # fmt: skip
    """Erase what is personal of the subject with this key, as (field, value); from the thread of the log's writer.

    `note` goes to the audit before, once it is clear that something personal can belong to the key.
    A subject whose hash was another one before the hash key was changed is erased under both.
    What was read and will be recorded after this is sealed then, with a new key.
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
    found = [subjects.erase(subject) for subject in erased]
    for subject in erased:
        body = body_of(Erased(key, subject.removeprefix(f"{key}=")))
        position = log.write(Kind.ERASED, 1, log.clock(now_us), body)
    return Erasure(key, names[0], any(found), position)
