"""Holders: who holds which API key, of all tenants. The keys are read at the start, and looked for from then on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import msgspec

from sentinel.errors import SentinelError
from sentinel.record.audit import Change
from sentinel.transport.access.keys import Key, Keyring
from sentinel.transport.access.limits import Limiter
from sentinel.transport.access.scopes import Scope, opened_by
from sentinel.transport.access.store import KeyStore

_log = logging.getLogger(__name__)

Auditor = Callable[[list[Change]], Awaitable[None]]


class Caller(NamedTuple):
    """Who asks: a key by its name, or whoever sits at this machine. `source` is whose outcomes are reported."""

    name: str
    source: str
    scopes: frozenset[Scope]


class Holder(NamedTuple):
    """Whom a key makes of its bearer, and for how long.

    `tenant` is None for the operator of the server, who may name any.
    """

    caller: Caller
    tenant: str | None
    limiter: Limiter | None
    expires_us: int | None


class Holders:
    """Finds the holder of a key by the key's digest. `homes` are those of the tenants, by name."""

    def __init__(self, homes: Mapping[str, Path]) -> None:
        self._tenants = [_Tenant(name, KeyStore(home)) for name, home in homes.items()]
        self._join()

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, digest: str) -> Holder | None:
        """Who holds the key with this digest."""
        return self._by_digest.get(digest)

    def next_end_us(self, now_us: int) -> int | None:
        """When the next of the keys expires."""
        ends = (one.expires_us for one in self._by_digest.values() if one.expires_us is not None)
        return min((one for one in ends if one > now_us), default=None)

    async def look(self) -> bool:
        """Look for other keys once; whether there are any now.

        While those of a tenant cannot be read, for whatever reason, none of them is good; that is logged.
        """
        changed = [await one.look() for one in self._tenants]
        if any(changed):
            self._join()
        return any(changed)

    async def write_down(self, auditors: Mapping[str, Auditor]) -> None:
        """Have changes of keys written down by the auditor of their tenant; what fails is logged, and tried again."""
        for one in self._tenants:
            if one.name in auditors:
                await one.write_down(auditors[one.name])

    def _join(self) -> None:
        self._by_digest: dict[str, Holder] = {}
        twice = set()
        for tenant in self._tenants:
            for digest, holder in tenant.holders().items():
                if digest in self._by_digest:
                    twice.add(digest)
                    _log.error("the key %r is of two tenants, so it is good for none; revoke it", holder.caller.name)
                self._by_digest[digest] = holder
        for digest in twice:
            del self._by_digest[digest]


class _Tenant:
    """The keys of one tenant as they are known."""

    def __init__(self, name: str, store: KeyStore) -> None:
        self.name = name
        self._store = store
        self._limiters: dict[str, Limiter] = {}
        self._problem = ""
        self._stamp = store.stamp()
        self._keys = store.read()

    def holders(self) -> dict[str, Holder]:
        """Who holds which key, by its digest."""
        found = {key.sha256: self._holder_of(key) for key in self._keys.keys}
        self._limiters = {key.id: one for key in self._keys.keys if (one := found[key.sha256].limiter)}
        return found

    def _holder_of(self, key: Key) -> Holder:
        limiter = None
        if key.rate is not None:
            limiter = self._limiters.get(key.id) or Limiter(key.name, key.rate, monotonic())
        return Holder(Caller(key.name, key.source, opened_by(key.scopes)), self.name, limiter, key.expires_us)

    async def look(self) -> bool:
        """Read the keys anew if they have changed; whether they have."""
        try:
            stamp = await asyncio.to_thread(self._store.stamp)
            if stamp == self._stamp and not self._problem:
                return False
            keys = await asyncio.to_thread(self._store.read)
        except Exception as error:  # noqa: BLE001 - see above: whatever the reason is
            self._say(error)
            had, self._keys = self._keys, Keyring()  # nobody knows what it says: no key of it is good
            return had != self._keys
        self._keys, self._stamp, self._problem = keys, stamp, ""
        return True

    async def write_down(self, audit: Auditor) -> None:
        """Move the changes that the audit does not have yet to it; they are tried again while that fails."""
        pending = self._keys.changes
        if not pending:
            return
        try:
            await audit(list(pending))
            self._keys = msgspec.structs.replace(self._keys, changes=())
            await asyncio.to_thread(self._store.drop, pending)
        except SentinelError as error:
            _log.error("%s", error)
        except Exception:  # noqa: BLE001 - keys are looked for all the same
            _log.exception("changes of keys were not written to the audit; they are tried again")

    def _say(self, error: Exception) -> None:
        problem = str(error) or type(error).__name__
        if problem != self._problem:
            _log.error("%s", problem, exc_info=None if isinstance(error, SentinelError) else error)
        self._problem = problem
