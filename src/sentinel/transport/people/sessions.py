"""Sessions: an opaque token in the browser, its hash here, an end when nothing comes or the longest day is over."""

import hashlib
import secrets

import msgspec
import sqlalchemy as sa

from sentinel.errors import Unauthorized
from sentinel.record.audit import By
from sentinel.transport.people.database import PeopleDatabase
from sentinel.transport.people.people import Person, note, person_of
from sentinel.transport.people.tables import people, sessions

_SEEN_EVERY_US = 30_000_000
"""How often it is written down that a session is used."""

MOST_OF_ONE = 20
"""Sessions of one person; the oldest ends when there is one more."""


class Session(msgspec.Struct, frozen=True):
    """Who asks, and the token that a form has to send back (`csrf`)."""

    person: Person
    csrf: str
    sha256: str


class Lasting(msgspec.Struct, frozen=True):
    """How long a session is good: while something comes within `idle_us`, and for `longest_us` at most."""

    idle_us: int
    longest_us: int


class Sessions:
    """The sessions of a home. Raises StorageProblem when the database is away."""

    def __init__(self, database: PeopleDatabase, lasting: Lasting) -> None:
        self._database = database
        self.lasting = lasting

    def begin(self, person: Person, by: By, now_us: int) -> str:
        """A token for the browser of a person who has just logged in; it is kept nowhere."""
        token = secrets.token_urlsafe(32)
        row = {"sha256": _digest(token), "name": person.name, "csrf": secrets.token_urlsafe(32), "address": by.where}
        with self._database.writing() as writer:
            self._forget(writer, person.name, now_us)
            writer.execute(sessions.insert().values(row | {"began_us": now_us, "seen_us": now_us}))
            writer.execute(people.update().where(people.c.name == person.name).values(seen_us=now_us))
            note(writer, by, None, {"role": person.role}, now_us)
        return token

    def find(self, token: str, now_us: int, *, counts: bool = True) -> Session:
        """The session of a token. With `counts` it is used now, and its idle time begins anew.

        Raises Unauthorized for one that is over, was ended, or never was.
        """
        joined = sa.join(sessions, people, sessions.c.name == people.c.name)
        asked = sa.select(people, sessions.c.csrf, sessions.c.began_us, sessions.c.seen_us.label("used_us"))
        where = sa.and_(sessions.c.sha256 == _digest(token), people.c.is_disabled.is_(False))
        with self._database.reading() as reader:
            row = reader.execute(asked.select_from(joined).where(where)).one_or_none()
        if row is None or self._is_over(row.began_us, row.used_us, now_us):
            raise Unauthorized("You are logged out: log in to go on")
        if counts and now_us - row.used_us > _SEEN_EVERY_US:
            with self._database.writing() as writer:
                writer.execute(sessions.update().where(sessions.c.sha256 == _digest(token)).values(seen_us=now_us))
        return Session(person_of(row), row.csrf, _digest(token))

    def end(self, session: Session, by: By, now_us: int) -> None:
        """End a session."""
        with self._database.writing() as writer:
            writer.execute(sessions.delete().where(sessions.c.sha256 == session.sha256))
            note(writer, by, None, None, now_us)

    def _is_over(self, began_us: int, seen_us: int, now_us: int) -> bool:
        return now_us - seen_us > self.lasting.idle_us or now_us - began_us > self.lasting.longest_us

    def _forget(self, writer: sa.Connection, name: str, now_us: int) -> None:
        """Delete what is over, and the oldest sessions of one who has many."""
        over = sa.or_(
            sessions.c.seen_us < now_us - self.lasting.idle_us, sessions.c.began_us < now_us - self.lasting.longest_us
        )
        writer.execute(sessions.delete().where(over))
        of_person = sa.select(sessions.c.sha256).where(sessions.c.name == name).order_by(sessions.c.began_us.desc())
        many = writer.scalars(of_person.offset(MOST_OF_ONE - 1)).all()
        writer.execute(sessions.delete().where(sessions.c.sha256.in_(many)))


def _digest(token: str) -> str:
    """What is kept of a token: of 256 random bits a quick hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
