"""`sentinel keys`: make, list, rotate and revoke API keys. Whoever may write to the home folder may do so.

A change and its entry of the audit are one file, so there is none without the other. The server that owns the log moves
the entry there; without a server it is done here.
"""

import contextlib
import time
from collections.abc import Callable

import msgspec

from sentinel.config import Settings
from sentinel.errors import StorageProblem
from sentinel.events.times import duration_us, iso
from sentinel.homes import keys_home_of
from sentinel.record.applied import HomeDeployment, by_this_user, log_folder
from sentinel.record.audit import Change
from sentinel.record.lock import owner_of
from sentinel.transport.access.keys import Grant, Key, Keyring, digest_of, new_token
from sentinel.transport.access.scopes import scopes_of
from sentinel.transport.access.store import KeyStore


class ShownKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may be shown of a key; `key` is the key itself, the one time it is shown."""

    id: str
    name: str
    scopes: tuple[str, ...]
    source: str
    created: str
    expires: str | None
    rate: float | None
    is_over: bool = False
    key: str | None = None


def create_key(
    settings: Settings, name: str, scopes: str, expires: str, rate: float | None, source: str | None
) -> ShownKey:
    """A new key. Raises InvalidDefinition for what cannot be, StorageProblem when it cannot be kept."""
    lasts_us = None if expires == "never" else duration_us(expires)
    wanted = scopes_of(one.strip() for one in scopes.split(",") if one.strip())
    grant = Grant(name=name, scopes=wanted, source=source, rate=rate, lasts_us=lasts_us)
    token = new_token()
    _change(settings, "keys create", name, lambda keys, now_us: keys.with_new(grant, token, now_us))
    return _shown_new(settings, token)


def rotate_key(settings: Settings, name: str, overlap: str) -> ShownKey:
    """A new key of this name; the older ones end after the overlap. Raises NotFound, StorageProblem."""
    overlap_us = 0 if overlap in ("0", "0d") else duration_us(overlap)
    token = new_token()
    _change(settings, "keys rotate", name, lambda keys, now_us: keys.rotated(name, token, overlap_us, now_us))
    return _shown_new(settings, token)


def revoke_key(settings: Settings, name: str) -> list[str]:
    """End the keys of this name, or the one with this id; their ids. Raises NotFound, StorageProblem."""
    before: list[Key] = []

    def revoked(keys: Keyring, _now_us: int) -> Keyring:
        before.extend(keys.keys)
        return keys.without(name)

    after = _change(settings, "keys revoke", name, revoked)
    left = {key.id for key in after.keys}
    return [key.id for key in before if key.id not in left]


def list_keys(settings: Settings) -> list[ShownKey]:
    """All keys, the newest last. Raises StorageProblem."""
    now_us = time.time_ns() // 1000
    return [_shown(key, now_us) for key in _store_of(settings).read().keys]


def _change(settings: Settings, what: str, name: str, how: Callable[[Keyring, int], Keyring]) -> Keyring:
    """The keys after a change that is in the audit, or waits for it beside them."""
    now_us = time.time_ns() // 1000

    def changed(before: Keyring) -> Keyring:
        after = how(before, now_us)
        kept = [_shown(key, now_us) for key in before.keys if key not in after.keys]
        made = [_shown(key, now_us) for key in after.keys if key not in before.keys]
        return after.noting(Change.of(by_this_user(what, name), kept, made, now_us))

    store = _store_of(settings)
    after = store.change(changed)
    _write_down(settings, store, after.changes)
    return after


def _store_of(settings: Settings) -> KeyStore:
    return KeyStore(keys_home_of(settings.home))


def _write_down(settings: Settings, store: KeyStore, changes: tuple[Change, ...]) -> None:
    """Move what waits to the log, unless another process owns it: that one does so."""
    home = keys_home_of(settings.home)
    folder = log_folder(home)
    if not folder.exists() or owner_of(folder) is not None:
        return
    with contextlib.suppress(StorageProblem):  # a server starts right now; what waits is safe
        HomeDeployment(home).note(changes)
        store.drop(changes)


def _shown_new(settings: Settings, token: str) -> ShownKey:
    digest = digest_of(token)
    made = next(key for key in _store_of(settings).read().keys if key.sha256 == digest)
    return msgspec.structs.replace(_shown(made, made.created_us), key=token)


def _shown(key: Key, now_us: int) -> ShownKey:
    return ShownKey(
        id=key.id,
        name=key.name,
        scopes=tuple(map(str, key.scopes)),
        source=key.source,
        created=iso(key.created_us),
        expires=None if key.expires_us is None else iso(key.expires_us),
        rate=key.rate,
        is_over=key.is_over(now_us),
    )
