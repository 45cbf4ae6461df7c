"""Subjects' keys: what is personal is encrypted with a key per subject, and erased by destroying that key.

The keys are in a file of their own, never in the log, a view or an archive.
"""

import contextlib
import hmac
import os
import sqlite3
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_bytes
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sentinel.errors import StorageProblem
from sentinel.record.private import FILE_MODE

FILE = "subjects.db"
_REMEMBERED = 50_000  # keys in memory
_AT_ONCE = 500  # keys that are forgotten with one sync
_DAY_US = 86_400_000_000
_NONCE, _PIECE = 12, 32
_TABLES = (
    """CREATE TABLE IF NOT EXISTS subjects
    (subject TEXT PRIMARY KEY, key BLOB NOT NULL, day INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS names
    (subject TEXT NOT NULL, former TEXT NOT NULL, day INTEGER NOT NULL, PRIMARY KEY (subject, former)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS subjects_by_day ON subjects (day)",
    "CREATE INDEX IF NOT EXISTS names_by_former ON names (former)",
    "CREATE INDEX IF NOT EXISTS names_by_day ON names (day)",
)
_NAMES = "SELECT subject, former FROM names WHERE subject = ? OR former = ?"
_FIND = "SELECT key, day FROM subjects WHERE subject = ?"
_SAVE = "INSERT INTO subjects VALUES (?, ?, ?) ON CONFLICT (subject) DO UPDATE SET day = excluded.day"
_SAVE_NAME = "INSERT INTO names VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET day = excluded.day"
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "busy_timeout=2000")


class _Key(NamedTuple):
    """A key, `raw`, and the day on which it was used last, in days since 1970."""

    raw: bytes
    cipher: AESGCM
    mac: bytes
    day: int


class SubjectKeys:
    """The keys of a home folder. One process changes them, in one thread; `opened` may be asked from any.

    What `sealed` returns may be stored once `sync` has returned; until then a new key is in memory only. After a fault
    `sync` fails until `close`: keys that were new are lost, and what was sealed with them must not be stored.
    """

    def __init__(self, home: Path, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._path = home / FILE
        self._now_us = now_us
        self._keys: dict[str, _Key] = {}
        self._unsaved: dict[str, _Key] = {}
        self._unsaved_names: dict[tuple[str, str], int] = {}  # subject and its former name -> day
        self._writer: sqlite3.Connection | None = None
        self._failed = False

    def prepare(self) -> None:
        """Make and open the file: that takes several syncs of the disk, for which no transaction should wait."""
        with self._changing():
            pass

    def sealed(self, subject: str, field: str, text: str, former: str | None = None) -> str:
        """The text of a field, encrypted with the key of its subject; the same text gives the same again.

        Ask for what will be stored at once: a new key waits in memory for that.

        `former` is the name of the subject before the hash key was changed, which is noted with the key.
        """
        key = self._key_of(subject, former)
        plain, bound = _padded(text), f"{subject} {field}".encode()
        nonce = hmac.digest(key.mac, bound + b"\0" + plain, "sha256")[:_NONCE]
        return urlsafe_b64encode(nonce + key.cipher.encrypt(nonce, plain, bound)).decode()

    def opened(self, subject: str, field: str, sealed: str) -> str | None:
        """What was encrypted; None when the key was destroyed."""
        if not self._path.exists():
            return None
        with self._naming_faults("read"), contextlib.closing(self._connected()) as reader:
            found = reader.execute("SELECT key FROM subjects WHERE subject = ?", (subject,)).fetchone()
        if found is None:
            return None
        return _opened(AESGCM(found[0][:_PIECE]), subject, field, sealed)

    @property
    def are_new(self) -> bool:
        """Whether there are keys that are not durable yet."""
        return self._failed or bool(self._unsaved) or bool(self._unsaved_names)

    def sync(self, pruned_us: int) -> None:
        """Make new keys durable, and forget some that nothing was sealed with since the day of `pruned_us`."""
        if self._failed:
            raise StorageProblem(f"new keys of what is personal could not be stored in {self._path}; free some space")
        with self._changing() as writer:
            self._save(writer)
            for table in ("subjects", "names"):
                some = f"(SELECT subject FROM {table} WHERE day < ? LIMIT ?)"  # noqa: S608
                writer.execute(
                    f"DELETE FROM {table} WHERE subject IN {some} AND day < ?",  # noqa: S608
                    (day := pruned_us // _DAY_US, _AT_ONCE, day),
                )
            writer.commit()

    def names_of(self, subject: str) -> list[str]:
        """The subject, and the other names that it had or has, as far as they are noted."""
        names = [subject]
        with self._changing() as writer:
            for name in names:  # it grows meanwhile, until no further name is found
                unsaved = [both for both in self._unsaved_names if name in both]
                for found in (*unsaved, *writer.execute(_NAMES, (name, name))):
                    names += [one for one in found if one not in names]
        return names

    def erase(self, subject: str) -> bool:
        """Destroy the key of a subject, durably; whether there was one. `purge` has to follow."""
        self._keys.pop(subject, None)
        is_unsaved = self._unsaved.pop(subject, None) is not None
        with self._changing() as writer:
            gone = writer.execute("DELETE FROM subjects WHERE subject = ?", (subject,)).rowcount > 0
            writer.commit()
        return gone or is_unsaved

    def purge(self) -> None:
        """Empty the file's journal, which still has the keys that were erased; from any thread.

        Raises StorageProblem when it is read or written all the time: then erase again.
        """
        with self._naming_faults("written"), contextlib.closing(self._connected()) as own:
            if own.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise OSError("it is in use, and its journal still has the key; erase it again")

    def close(self) -> None:
        """Release the file; what was not synced is lost."""
        writer, self._writer = self._writer, None
        self._keys.clear()
        self._unsaved.clear()
        self._unsaved_names.clear()
        self._failed = False
        if writer is not None:
            writer.close()

    def _key_of(self, subject: str, former: str | None = None) -> _Key:
        today = self._now_us() // _DAY_US
        key = self._keys.get(subject)
        if key is None or key.day != today:
            key = self._used(subject, former, today)
            if len(self._keys) >= _REMEMBERED:
                self._keys.clear()
            self._keys[subject] = key
        return key

    def _used(self, subject: str, former: str | None, today: int) -> _Key:
        """The key of a subject that is used today; a new one where there is none."""
        with self._changing() as writer:
            found = self._unsaved.get(subject)
            raw, day = (found.raw, found.day) if found else writer.execute(_FIND, (subject,)).fetchone() or (None, None)
        raw = raw or token_bytes(2 * _PIECE)
        key = _Key(raw, AESGCM(raw[:_PIECE]), raw[_PIECE:], today)
        if day != today:
            self._unsaved[subject] = key
        if former is not None:
            self._unsaved_names[subject, former] = today
        return key

    def _save(self, writer: sqlite3.Connection) -> None:
        writer.executemany(_SAVE, [(subject, key.raw, key.day) for subject, key in self._unsaved.items()])
        writer.executemany(_SAVE_NAME, [(*names, day) for names, day in self._unsaved_names.items()])
        self._unsaved.clear()
        self._unsaved_names.clear()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes. After a fault no one knows which keys the file has."""
        try:
            with self._naming_faults("written"):
                if self._writer is None:
                    self._writer = self._connected()
                yield self._writer
        except StorageProblem:
            self.close()
            self._failed = True
            raise

    def _connected(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, FILE_MODE))
        connection = sqlite3.connect(self._path, check_same_thread=False)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'names_by_day'").fetchone() is None:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _TABLES:
                connection.execute(statement)
            connection.commit()
        return connection

    @contextlib.contextmanager
    def _naming_faults(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageProblem(f"the keys of what is personal, {self._path}, cannot be {what}: {error}") from error


def _opened(cipher: AESGCM, subject: str, field: str, sealed: str) -> str | None:
    data = urlsafe_b64decode(sealed)
    try:
        plain = cipher.decrypt(data[:_NONCE], data[_NONCE:], f"{subject} {field}".encode())
    except InvalidTag:  # it is of a key before this one
        return None
    return plain[2 : 2 + int.from_bytes(plain[:2], "big")].decode()


def _padded(text: str) -> bytes:
    """The text with its length, filled up: how long it is says little then."""
    data = text.encode()
    whole = len(data).to_bytes(2, "big") + data
    return whole + bytes(-len(whole) % _PIECE)
