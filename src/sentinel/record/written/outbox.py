"""The outbox: messages that are put down with what they are about, in one transaction, and sent at least once.

A message becomes one delivery for every destination that wants its kind. A delivery is tried until it succeeds, or is
parked: then somebody has to look at it. Whoever receives a message twice knows it by its `id`.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sentinel.errors import Conflict, NotFound
from sentinel.record.written.tables import deliveries, messages

WAITING, DELIVERED, PARKED = "waiting", "delivered", "parked"
STATES = (WAITING, DELIVERED, PARKED)
OLDEST_US = 3 * 86_400_000_000
"""A message that waited for longer before anybody wanted it is told to nobody."""

_MOST_OF_ERROR, _MOST_OF_ABOUT = 500, 256


class Message(NamedTuple):
    """What is to be sent: a JSON `body`, of a `kind`, `about` something; equal ones of one moment are one."""

    id: str
    kind: str
    about: str
    body: str
    put_us: int


class Delivery(NamedTuple):
    """One message on its way to one destination. `attempts` is how often it was tried.

    `next_us` is when it is tried next while it waits, else when it was tried last.
    """

    number: int
    destination: str
    state: str
    attempts: int
    next_us: int
    last_error: str | None
    message: Message


def put(writer: sa.Connection, kind: str, about: str, body: object, now_us: int) -> str:
    """Put a message down in the caller's transaction; its id. The same at the same moment is one message.

    `body` is anything that becomes JSON. The id is of what the message says and when, and so the same wherever the
    message is put again.
    """
    said = msgspec.json.encode(body, order="deterministic").decode()
    about = _storable(about, _MOST_OF_ABOUT)
    of = msgspec.json.encode([kind, about, said, now_us])
    name = hashlib.sha256(of).hexdigest()[:32]
    row = {"id": name, "kind": kind, "about": about, "body": said, "put_us": now_us}
    insert = sqlite.insert if writer.dialect.name == "sqlite" else postgresql.insert
    writer.execute(insert(messages).values(row).on_conflict_do_nothing(index_elements=["id"]))
    return name


def deal(
    writer: sa.Connection, wanted: Callable[[Message], Sequence[str]], now_us: int, limit: int, since_us: int = 0
) -> int:
    """Make the deliveries of the oldest messages that have none yet, at most `limit`; how many there were.

    `wanted` names the destinations of a message. What was put down before `since_us` is told to nobody.
    """
    asked = sa.select(messages).where(messages.c.dealt_us.is_(None)).order_by(messages.c.number).limit(limit)
    rows = writer.execute(asked).all()
    new = [
        {"message": row.number, "destination": destination, "state": WAITING, "attempts": 0, "next_us": now_us}
        for row in rows
        if row.put_us >= since_us
        for destination in wanted(_message(row))
    ]
    if new:
        writer.execute(deliveries.insert(), new)
    if rows:
        done = messages.c.number.in_([row.number for row in rows])
        writer.execute(messages.update().where(done).values(dealt_us=now_us))
    return len(rows)


def has_new(reader: sa.Connection) -> bool:
    """Whether there are messages that have no deliveries yet."""
    asked = sa.select(messages.c.number).where(messages.c.dealt_us.is_(None)).limit(1)
    return reader.scalar(asked) is not None


def due(reader: sa.Connection, now_us: int, limit: int, destination: str | None = None) -> list[Delivery]:
    """What is to be tried by now, to one destination or to any; the longest due first."""
    waits = sa.and_(deliveries.c.state == WAITING, deliveries.c.next_us <= now_us)
    if destination is not None:
        waits = sa.and_(waits, deliveries.c.destination == destination)
    return _found(reader, waits, deliveries.c.next_us, deliveries.c.number, limit=limit)


def next_due_us(reader: sa.Connection) -> int | None:
    """When the next delivery is due; None where none waits."""
    found: int | None = reader.scalar(sa.select(sa.func.min(deliveries.c.next_us)).where(deliveries.c.state == WAITING))
    return found


def claim(writer: sa.Connection, delivery: Delivery, until_us: int) -> bool:
    """Take a delivery that is due, so that nobody else tries it before that moment; false where another one has it.

    Whoever takes one and dies leaves it to be tried again then.
    """
    same = sa.and_(
        deliveries.c.number == delivery.number,
        deliveries.c.state == WAITING,
        deliveries.c.next_us == delivery.next_us,
        deliveries.c.attempts == delivery.attempts,
    )
    return bool(writer.execute(deliveries.update().where(same).values(next_us=until_us)).rowcount)


def delivered(writer: sa.Connection, number: int, now_us: int) -> None:
    """Note that a delivery has arrived."""
    _tried(writer, number, {"state": DELIVERED, "next_us": now_us, "last_error": None})


def failed(writer: sa.Connection, number: int, error: str, next_us: int) -> None:
    """Note that a try has failed, and when it is tried again."""
    _tried(writer, number, {"next_us": next_us, "last_error": _storable(error, _MOST_OF_ERROR)})


def park(writer: sa.Connection, number: int, error: str, now_us: int) -> None:
    """Note that the last try has failed: it waits for somebody who has it tried again."""
    _tried(writer, number, {"state": PARKED, "next_us": now_us, "last_error": _storable(error, _MOST_OF_ERROR)})


def try_again(writer: sa.Connection, number: int, now_us: int) -> Delivery:
    """Have a parked delivery tried again, as if it were new. Raises NotFound, Conflict for one that is not parked."""
    found = _found(writer, deliveries.c.number == number, limit=1)
    if not found:
        raise NotFound(f"there is no delivery {number}; `sentinel notifications list` shows which there are")
    if found[0].state != PARKED:
        raise Conflict(f"delivery {number} is {found[0].state}: only a parked one is tried again")
    again = {"state": WAITING, "attempts": 0, "next_us": now_us}
    writer.execute(deliveries.update().where(deliveries.c.number == number).values(again))
    return _found(writer, deliveries.c.number == number, limit=1)[0]


def newest(reader: sa.Connection, limit: int, state: str | None = None) -> list[Delivery]:
    """The newest deliveries, of one state or of all."""
    where = sa.true() if state is None else deliveries.c.state == state
    return _found(reader, where, deliveries.c.number.desc(), limit=limit)


def n_of_state(reader: sa.Connection) -> dict[str, int]:
    """How many deliveries are in each state."""
    asked = sa.select(deliveries.c.state, sa.func.count()).group_by(deliveries.c.state)
    return dict.fromkeys(STATES, 0) | {row[0]: row[1] for row in reader.execute(asked)}


def forget(writer: sa.Connection, before_us: int) -> int:
    """Delete what was put down before a moment, but for what waits or is parked; how many messages that were."""
    open_ = sa.select(deliveries.c.message).where(deliveries.c.state != DELIVERED)
    old = sa.and_(messages.c.put_us < before_us, messages.c.number.not_in(open_))
    gone = sa.select(messages.c.number).where(old)
    writer.execute(deliveries.delete().where(deliveries.c.message.in_(gone)))
    return writer.execute(messages.delete().where(old)).rowcount


def forget_unwanted(writer: sa.Connection, now_us: int) -> int:
    """Delete what nobody wanted for so long that it is told to nobody; how many messages that were.

    Where no messenger runs nobody else does.
    """
    old = sa.and_(messages.c.dealt_us.is_(None), messages.c.put_us < now_us - OLDEST_US)
    return writer.execute(messages.delete().where(old)).rowcount


def _tried(writer: sa.Connection, number: int, values: dict[str, object]) -> None:
    is_it = sa.and_(deliveries.c.number == number, deliveries.c.state == WAITING)
    writer.execute(deliveries.update().where(is_it).values(attempts=deliveries.c.attempts + 1, **values))


def _found(reader: sa.Connection, where: Any, *order: Any, limit: int) -> list[Delivery]:
    columns = [column for column in messages.c if column.name != "number"]
    asked = sa.select(deliveries, *columns).select_from(sa.join(deliveries, messages))
    rows = reader.execute(asked.where(where).order_by(*order).limit(limit))
    return [
        Delivery(row.number, row.destination, row.state, row.attempts, row.next_us, row.last_error, _message(row))
        for row in rows
    ]


def _storable(text: str, most: int) -> str:
    """The beginning of a text, without the one character that PostgreSQL's texts cannot have."""
    return text[:most].replace("\x00", "\ufffd")


def _message(row: Any) -> Message:
    return Message(row.id, row.kind, row.about, row.body, row.put_us)
