"""API keys: what is kept of one, and how keys are made, rotated and revoked.

A key is 256 random bits, so SHA-256 of it is enough to keep: it cannot be guessed from its hash, whatever the speed of
the one who tries, and a slow hash would cost every first request of a key a part of a second.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable

import msgspec

from sentinel.errors import InvalidDefinition, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import OPERATOR, SOURCE_FORM, is_source
from sentinel.record.audit import SENTINEL, Change
from sentinel.transport.access.scopes import Scope

MOST_KEYS = 1_000
MOST_PENDING = 1_000
PREFIX = "sk_"
_KEPT_US = 30 * 86_400_000_000  # an expired key is listed for so long
ADMIN_KEY, ANYBODY = "admin-key", "anyone"
"""The names of who gives the operator's own key, and of who gives none where none is needed."""

_TAKEN = (ADMIN_KEY, ANYBODY, OPERATOR, SENTINEL.who)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept of a key. Times are microseconds since 1970.

    - `id`: names it, and is no secret.  `sha256`: the hash of the key, in hexadecimal digits.
    - `name`: who uses it. After a rotation two keys have one name, until the older expires.
    - `scopes`: what it may do.  `source`: whose outcomes it reports.
    - `rate`: the transactions a second that it may send; None for no limit of its own.
    - `expires_us`: when it ends; None for never.
    """

    id: str
    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    source: str
    rate: float | None
    created_us: int
    expires_us: int | None

    def is_over(self, now_us: int) -> bool:
        """Whether it has expired."""
        return self.expires_us is not None and self.expires_us <= now_us


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a new key is for. `lasts_us` is how long, None for ever. Raises InvalidDefinition for what cannot be."""

    name: str
    scopes: tuple[Scope, ...]
    source: str | None = None
    rate: float | None = None
    lasts_us: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidDefinition(
                f"name is {quoted(self.name, 80)}; give up to 64 letters, digits, dots, dashes and underscores"
            )
        if self.source is not None and not is_source(self.source):
            raise InvalidDefinition(f"source is {quoted(self.source, 80)}; give {SOURCE_FORM}")
        if self.name in _TAKEN:
            raise InvalidDefinition(
                f"{quoted(self.name, 80)} is what Sentinel itself calls a caller; give another name"
            )
        if self.rate is not None and not 0 < self.rate < 1e9:
            raise InvalidDefinition(f"rate is {self.rate}; give transactions a second, above 0")


class Keyring(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All keys, and the changes of them that are not in the audit yet."""

    format: int = 1
    keys: tuple[Key, ...] = ()
    changes: tuple[Change, ...] = ()

    def of(self, name: str, now_us: int) -> list[Key]:
        """The keys of this name that have not expired."""
        return [key for key in self.keys if key.name == name and not key.is_over(now_us)]

    def with_new(self, grant: Grant, token: str, now_us: int) -> "Keyring":
        """One key more. Raises InvalidDefinition when the name is taken, or there are too many keys."""
        if self.of(grant.name, now_us):
            raise InvalidDefinition(
                f"there is a key {quoted(grant.name, 80)}; rotate it, revoke it, or choose another name"
            )
        return self._with(self._kept(now_us), _made(grant, token, now_us))

    def rotated(self, name: str, token: str, overlap_us: int, now_us: int) -> "Keyring":
        """A new key of this name beside the older ones, which end after the overlap. Raises NotFound."""
        older = self.of(name, now_us)
        if not older:
            raise NotFound(f"there is no key {quoted(name, 80)}; `sentinel keys list` shows those there are")
        newest, end_us = older[-1], now_us + overlap_us
        ending = {
            key.id: msgspec.structs.replace(key, expires_us=min(key.expires_us or end_us, end_us)) for key in older
        }
        lasts_us = None if newest.expires_us is None else newest.expires_us - newest.created_us
        grant = Grant(name=name, scopes=newest.scopes, source=newest.source, rate=newest.rate, lasts_us=lasts_us)
        kept = [ending.get(key.id, key) for key in self._kept(now_us)]
        return self._with(kept, _made(grant, token, now_us))

    def without(self, name: str) -> "Keyring":
        """The same without the keys of this name, or the one with this id. Raises NotFound when there is none."""
        kept = tuple(key for key in self.keys if name not in (key.name, key.id))
        if len(kept) == len(self.keys):
            raise NotFound(f"there is no key {quoted(name, 80)}; `sentinel keys list` shows those there are")
        return msgspec.structs.replace(self, keys=kept)

    def noting(self, change: Change) -> "Keyring":
        """The same with a change for the audit. Raises InvalidDefinition when too many wait."""
        if len(self.changes) >= MOST_PENDING:
            raise InvalidDefinition(
                f"{MOST_PENDING} changes of keys wait for the log; start the server, which writes them down"
            )
        return msgspec.structs.replace(self, changes=(*self.changes, change))

    def _kept(self, now_us: int) -> list[Key]:
        return [key for key in self.keys if not key.is_over(now_us - _KEPT_US)]

    def _with(self, keys: Iterable[Key], new: Key) -> "Keyring":
        kept = (*keys, new)
        if len(kept) > MOST_KEYS:
            raise InvalidDefinition(f"there are {MOST_KEYS} keys already; revoke those that are used no more")
        return msgspec.structs.replace(self, keys=kept)


def new_token() -> str:
    """A key, to be shown once."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(token.encode()).hexdigest()


def _made(grant: Grant, token: str, now_us: int) -> Key:
    digest = digest_of(token)
    return Key(
        id=digest[:12],
        name=grant.name,
        sha256=digest,
        scopes=grant.scopes,
        source=grant.source or grant.name,
        rate=grant.rate,
        created_us=now_us,
        expires_us=None if grant.lasts_us is None else now_us + grant.lasts_us,
    )
