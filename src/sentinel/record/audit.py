"""The audit: who changed what, from where, and when. Each change is one more entry of the log, bounded in size.

Every entry names the one before it, and the newest can be found by its name, so that they are read without a search.
"""

from typing import Any

import msgspec

from sentinel.errors import NotFound, StorageProblem
from sentinel.events.card_numbers import masked_ends
from sentinel.events.times import iso
from sentinel.record.log import Kind, Log, LogReader, Record

NAME = "audit"
LONGEST = 1_000
"""Characters of a text in an entry."""

_encode = msgspec.msgpack.Encoder().encode


class By(msgspec.Struct, frozen=True):
    """Who asks for a change: a key or a user, from which address, with which call, and what the call said."""

    who: str
    where: str
    what: str
    asked: str = ""


SENTINEL = By("sentinel", "itself", "on its own")
"""A change that nobody asked for, such as the end of an experiment that does harm."""


class Change(msgspec.Struct, frozen=True):
    """A change that was asked for; `before` and `after` are the JSON of what it changed, `at_us` is when."""

    who: str
    where: str
    what: str
    asked: str
    before: str
    after: str
    at_us: int

    @classmethod
    def of(cls, by: By, before: Any, after: Any, at_us: int) -> "Change":
        """What `by` made of `before`; long texts are cut, and card numbers hidden, whoever wrote them."""
        texts = (by.who, by.where, by.what, by.asked, _json(before), _json(after))
        who, where, what, asked, was, is_now = map(_cut, texts)
        return cls(who, where, what, asked, was, is_now, at_us)


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    previous: int  # position of the entry before it, 0 where there is none
    change: Change


class Audited(msgspec.Struct, frozen=True):
    """One entry of the audit, for people. `before` and `after` are the JSON of what changed, cut where it is long."""

    position: int
    at: str
    who: str
    where: str
    what: str
    asked: str
    before: str
    after: str


class AuditPage(msgspec.Struct, frozen=True):
    """Entries, the newest first; `next` is the cursor of the page after this one, None at the end."""

    changes: list[Audited]
    next: int | None


_decode = msgspec.msgpack.Decoder(_Entry).decode


def differences(before: msgspec.Struct, after: msgspec.Struct) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields in which two structs of one kind differ, as they were and as they are."""
    names = [name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    return {name: getattr(before, name) for name in names}, {name: getattr(after, name) for name in names}


def append_change(log: Log, change: Change, now_us: int) -> int:
    """Append an entry, from the thread of the log's writer; its position. Raises StorageProblem."""
    newest = log.standing().get(NAME)
    body = _encode(_Entry(newest.position if newest else 0, change))
    return log.write(Kind.AUDIT, 1, now_us, body, standing=NAME)


def audit_page(log: LogReader, limit: int, cursor: int = 0) -> AuditPage:
    """The entries from the cursor on, as far back as the log is kept; the newest when it is 0.

    Raises NotFound for a cursor that is none, StorageProblem when the log cannot be read.
    """
    newest = log.standing().get(NAME)
    position = cursor or (newest.position if newest else 0)
    found: list[Audited] = []
    while position >= max(log.first, 1):
        if len(found) == limit:
            return AuditPage(found, position)
        entry = _entry_at(log, position)
        if entry is None:
            if not found and cursor:
                raise NotFound(f"There is no entry of the audit at position {cursor}; begin without a cursor")
            break
        change = entry.change
        found.append(
            Audited(
                position, iso(change.at_us), change.who, change.where, change.what, change.asked, change.before,
                change.after,
            )
        )  # fmt: skip
        position = entry.previous
    return AuditPage(found, None)


def _entry_at(log: LogReader, position: int) -> _Entry | None:
    """The entry at this position, or None where there is none, or it was pruned meanwhile."""
    try:
        record = log.at(position)
    except StorageProblem:
        if log.first <= position < log.durable:
            raise
        return None
    is_entry = record.kind == Kind.AUDIT and record.position == position
    return _entry_in(record) if is_entry else None


def _entry_in(record: Record) -> _Entry:
    try:
        return _decode(record.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(
            f"the entry of the audit at position {record.position} is of another version of Sentinel "
            f"({error}); run that one"
        ) from error


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _cut(text: str) -> str:
    """A text that fits an entry, without card numbers; it says how much it lacks.

    >>> _cut("a" * 1001)[-15:], _cut("for 4111111111111111")
    ('aaa... (1 more)', 'for [card number]')
    """
    lacks = f" ({len(text) - LONGEST} more)" if len(text) > LONGEST else ""
    return masked_ends(text, LONGEST) + lacks
