"""Erasure: the key of a subject is destroyed, and the log says so."""

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.reader import TransactionReader
from sentinel.record.entries import Erased, body_of
from sentinel.record.log import Kind, Log
from sentinel.record.subjects import SubjectKeys


class Erasure(msgspec.Struct, frozen=True):
    """What was erased: `key` is the field, `value` what is stored of it. `found` when there was anything personal."""

    key: str
    value: str
    found: bool
    position: int


def erase(log: Log, subjects: SubjectKeys, reader: TransactionReader, asked: tuple[str, str], now_us: int) -> Erasure:
    """Erase what is personal of the subject with this key, as (field, value); from the thread of the log's writer.

    `subjects.purge` has to follow, from any thread; all may be done again after a fault. Raises StorageProblem, and
    InvalidInput for a field that nothing personal belongs to.
    """
    key, value = asked
    known = sorted(set(reader.schema.personal.values()))
    if key not in known:
        raise InvalidInput(f"Nothing personal belongs to {key}; subjects are named by {', '.join(known) or 'no key'}")
    stored = reader.text(key, value)
    found = subjects.erase(f"{key}={stored}")
    position = log.write(Kind.ERASED, 1, log.clock(now_us), body_of(Erased(key, stored)))
    return Erasure(key, stored, found, position)
