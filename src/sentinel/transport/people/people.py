"""People: local users with a role, and every change of them with its entry for the audit, in one transaction."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from sentinel.errors import Conflict, Forbidden, InvalidInput, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.record.audit import By, Change
from sentinel.transport.access.scopes import ROLES, Scope, opened_by
from sentinel.transport.people.database import PeopleDatabase
from sentinel.transport.people.passwords import check_password, hash_of, is_right
from sentinel.transport.people.tables import identities, pending, people, sessions

MOST_PEOPLE = 10_000
ADMIN = "admin"
_AT_ONCE, _MOST_BYTES_AT_ONCE = 100, 16_384
"""Entries for the audit, and their bytes: the server takes 64 KiB of JSON, where a text may be thrice as long."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a person. Times are microseconds since 1970; `seen_us` is the newest log-in."""

    name: str
    role: str
    must_change: bool
    is_disabled: bool
    created_us: int
    seen_us: int | None

    @property
    def scopes(self) -> frozenset[Scope]:
        """What this person may do: the table of scopes says it of the role."""
        return opened_by(ROLES[self.role])


class People:
    """The people of a home. Every call may wait for the database, and raises StorageProblem when that is away.

    Whoever changes someone is `by`; the change is in the audit, or waits for it in the same transaction.
    """

    def __init__(self, database: PeopleDatabase) -> None:
        self.database = database

    def everyone(self) -> list[Person]:
        """Everyone, by name."""
        with self.database.reading() as reader:
            return [person_of(row) for row in reader.execute(sa.select(people).order_by(people.c.name))]

    def named(self, name: str) -> Person:
        """One person. Raises NotFound."""
        with self.database.reading() as reader:
            return _named(reader, name)

    def add(self, name: str, role: str, password: str, by: By, now_us: int, *, must_change: bool = True) -> Person:
        """A new person. Raises InvalidInput for a name, role or password that cannot be, Conflict for a known name."""
        check_name(name)
        check_role(role)
        check_password(password, name)
        password_hash = hash_of(password)
        with self.database.writing() as writer:
            self._check_room(writer, name)
            row = {"name": name, "role": role, "password_hash": password_hash, "must_change": must_change}
            writer.execute(people.insert().values(row | {"is_disabled": False, "created_us": now_us}))
            note(writer, by, None, _shown(_named(writer, name)), now_us)
            return _named(writer, name)

    def add_first(self, password: str, by: By, now_us: int, *, must_change: bool = True) -> Person | None:
        """The first admin where there is nobody yet; None where there is somebody. Two that ask at once make one."""
        if self.everyone():
            return None
        try:
            return self.add(ADMIN, "admin", password, by, now_us, must_change=must_change)
        except Conflict:
            return None

    def set_role(self, name: str, role: str, by: By, now_us: int) -> Person:
        """Another role, from the next request on. Raises NotFound, InvalidInput; Conflict for the last admin."""
        check_role(role)
        return self._change(name, {"role": role}, by, now_us, ends_sessions=False)

    def set_disabled(self, name: str, is_disabled: bool, by: By, now_us: int) -> Person:
        """Let a person in no more, or again; sessions end. Raises NotFound; Conflict for the last admin."""
        return self._change(name, {"is_disabled": is_disabled}, by, now_us, ends_sessions=is_disabled)

    def set_password(self, name: str, password: str, by: By, now_us: int, *, must_change: bool) -> Person:
        """Another password; every session of this person ends. Raises NotFound, InvalidInput.

        Conflict for who logs in by a provider: that one alone says who may.
        """
        check_password(password, name)
        if self.comes_by_provider(name):
            raise Conflict(f"{quoted(name, 80)} logs in by the provider, and has no password here")
        changed = {"password_hash": hash_of(password), "must_change": must_change}
        return self._change(name, changed, by, now_us, ends_sessions=True)

    def sign_on(self, issuer: str, subject: str, name: str, role: str, by: By, now_us: int) -> Person:
        """Whom a provider has let in, known by `subject` there: a new person, or the same one with today's role.

        Raises Forbidden where the name is somebody else's. The last admin may lose the role: the provider decides.
        """
        check_name(name)
        check_role(role)
        with self.database.writing() as writer:
            mine = sa.and_(identities.c.issuer == issuer, identities.c.subject == subject)
            known = writer.scalar(sa.select(identities.c.name).where(mine))
            if known is None:
                if writer.scalar(sa.select(people.c.name).where(people.c.name == name)) is not None:
                    raise Forbidden(
                        f"There is somebody else called {quoted(name, 80)} here, who logs in otherwise; an admin "
                        "has to see to it"
                    )
                self._check_room(writer, name)
                row = {"name": name, "role": role, "password_hash": "", "must_change": False}
                writer.execute(people.insert().values(row | {"is_disabled": False, "created_us": now_us}))
                writer.execute(identities.insert().values(issuer=issuer, subject=subject, name=name))
                note(writer, by, None, _shown(_named(writer, name)), now_us)
                return _named(writer, name)
            before = _named(writer, known)
            if before.role != role:
                writer.execute(people.update().where(people.c.name == known).values(role=role))
                note(writer, by, _shown(before), _shown(_named(writer, known)), now_us)
            return _named(writer, known)

    def comes_by_provider(self, name: str) -> bool:
        """Whether this person logs in by a provider."""
        asked = sa.select(identities.c.name).where(identities.c.name == name)
        with self.database.reading() as reader:
            return bool(_NAME.fullmatch(name)) and reader.scalar(asked) is not None

    def has_password(self, name: str, password: str) -> bool:
        """Whether this is the password of a person who may log in; it takes as long for who is not there."""
        asked = sa.select(people.c.password_hash).where(people.c.name == name, people.c.is_disabled.is_(False))
        password_hash = None
        if _NAME.fullmatch(name):
            with self.database.reading() as reader:
                password_hash = reader.scalar(asked)
        return is_right(password_hash, password)

    def note(self, by: By, now_us: int, before: object = None, after: object = None) -> None:
        """Keep that something was done or looked at, durable when this returns, until the log has it."""
        with self.database.writing() as writer:
            note(writer, by, before, after, now_us)

    def not_audited(self) -> list[tuple[int, Change]]:
        """The oldest that the audit does not have yet, each with its number: as many as the server takes at once."""
        found: list[tuple[int, Change]] = []
        left = _MOST_BYTES_AT_ONCE
        with self.database.reading() as reader:
            for row in reader.execute(sa.select(pending).order_by(pending.c.number).limit(_AT_ONCE)):
                left -= len(row.change.encode())
                if left < 0 and found:
                    break
                found.append((row.number, msgspec.json.decode(row.change, type=Change)))
        return found

    def n_not_audited(self) -> int:
        """How many the audit does not have yet."""
        with self.database.reading() as reader:
            return reader.scalar(sa.select(sa.func.count()).select_from(pending)) or 0

    def drop_audited(self, numbers: Sequence[int]) -> None:
        """Note that these are in the audit."""
        with self.database.writing() as writer:
            writer.execute(pending.delete().where(pending.c.number.in_(numbers)))

    def _check_room(self, writer: sa.Connection, name: str) -> None:
        if writer.scalar(sa.select(people.c.name).where(people.c.name == name)) is not None:
            raise Conflict(f"There is somebody called {quoted(name, 80)}; choose another name")
        if (writer.scalar(sa.select(sa.func.count()).select_from(people)) or 0) >= MOST_PEOPLE:
            raise Conflict(f"There are {MOST_PEOPLE} people already")

    def _change(self, name: str, values: dict[str, object], by: By, now_us: int, *, ends_sessions: bool) -> Person:
        with self.database.writing() as writer:
            before = _named(writer, name)
            writer.execute(people.update().where(people.c.name == name).values(values))
            after = _named(writer, name)
            if _is_admin(before) and not _is_admin(after):
                _check_admin_left(writer)
            if ends_sessions:
                writer.execute(sessions.delete().where(sessions.c.name == name))
            note(writer, by, _shown(before), _shown(after), now_us)
            return after


def check_name(name: str) -> None:
    """Raise InvalidInput for what cannot be the name of a person."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"A name is 1 to 64 small letters, digits and . _ @ + -, not {quoted(name, 80)}; as ana or ana@bank.example"
        )


def check_role(role: str) -> None:
    """Raise InvalidInput for what is no role."""
    if role not in ROLES:
        raise InvalidInput(f"{quoted(role, 80)} is no role; give one of {', '.join(ROLES)}")


def note(writer: sa.Connection, by: By, before: object, after: object, now_us: int) -> None:
    """Keep a change for the audit, in the transaction that makes it."""
    change = Change.of(by, before, after, now_us)
    writer.execute(pending.insert().values(change=msgspec.json.encode(change).decode()))


def _named(reader: sa.Connection, name: str) -> Person:
    asked = sa.select(people).where(people.c.name == name)
    row = reader.execute(asked).one_or_none() if _NAME.fullmatch(name) else None  # PostgreSQL takes not every text
    if row is None:
        raise NotFound(f"There is nobody called {quoted(name, 80)}; `sentinel users list` shows who there is")
    return person_of(row)


def person_of(row: sa.Row[Any]) -> Person:
    """What may be shown of a row that has the columns of `people`."""
    return Person(
        name=row.name, role=row.role, must_change=row.must_change, is_disabled=row.is_disabled,
        created_us=row.created_us, seen_us=row.seen_us,
    )  # fmt: skip


def _is_admin(person: Person) -> bool:
    return person.role == "admin" and not person.is_disabled


def _check_admin_left(writer: sa.Connection) -> None:
    """Raise Conflict, and so undo what is being done, where nobody is left who may let people in."""
    left = sa.select(people.c.name).where(people.c.role == "admin", people.c.is_disabled.is_(False)).limit(1)
    if writer.scalar(left) is None:
        raise Conflict("This is the last admin; make another one first")


def _shown(person: Person) -> dict[str, object]:
    return {"name": person.name, "role": person.role, "is_disabled": person.is_disabled}
