"""Access: finds the caller of a request, and says no where that caller may not do what is asked."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import NamedTuple

from sentinel.config import Settings, is_loopback
from sentinel.errors import Forbidden, RateLimited, SentinelError, Unauthorized
from sentinel.events.times import iso
from sentinel.record.audit import Change
from sentinel.telemetry.counters import Counters, Slot
from sentinel.transport.access.claims import Claims, Peer
from sentinel.transport.access.keys import PREFIX, Key, Keyring, digest_of
from sentinel.transport.access.limits import MOST_TRIES, Limiter, WrongKeys
from sentinel.transport.access.origins import Origins, name_of
from sentinel.transport.access.scopes import EVERYTHING, Scope, opened_by
from sentinel.transport.access.store import KeyStore

LOOK_EVERY_S = 1.0
"""How long a key that was revoked is good for, at most."""

_MOST_PASSES = 1_024
_OF_ADMINS = frozenset({Scope.ADMIN, Scope.OPERATE, Scope.RULES})
_CHALLENGE = "give it as `Authorization: Bearer <key>`"
_log = logging.getLogger(__name__)

Auditor = Callable[[list[Change]], Awaitable[None]]


class Caller(NamedTuple):
    """Who asks: a key by its name, or whoever sits at this machine. `source` is whose outcomes are reported."""

    name: str
    source: str
    scopes: frozenset[Scope]


ANYONE = Caller("anyone", "anyone", frozenset())
"""The caller of what is open to everyone."""

OPERATOR = "operator"
ADMIN_KEY = "admin-key"


class Pass(NamedTuple):
    """A caller who was let in, and what counts the caller's transactions."""

    caller: Caller
    limiter: Limiter | None

    def charge(self, more: int) -> None:
        """Count so many transactions more than the one that every request counts for."""
        if self.limiter is not None:
            self.limiter.charge(more)


class _Known(NamedTuple):
    caller: Caller
    limiter: Limiter | None
    expires_us: int | None


class Access:
    """Who may do what here, from the event loop's thread. Keys are read when it is made, and by `follow` from then on.

    What was let in once is remembered by its claims, so that the next request of the same head costs a look-up. All of
    that is forgotten when a key is made, revoked or expires.
    """

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self.store = KeyStore(settings.home)
        self._needs_keys = settings.needs_keys
        self._origins = Origins(
            settings.host, settings.hosts, settings.cors_origins, is_tls=settings.tls_certificate is not None
        )
        self._counters = counters
        self._admin = digest_of(settings.admin_key) if settings.admin_key else None
        of_operator = EVERYTHING - _OF_ADMINS if self._admin else EVERYTHING
        self._operator = Caller(OPERATOR, OPERATOR, of_operator)
        self._admin_is_made = (settings.admin_key or "").startswith(PREFIX)
        self._wrong, self._guesses = WrongKeys(), WrongKeys()
        self._limiters: dict[str, Limiter] = {}
        self._problem = ""
        self._pending: tuple[Change, ...] = ()
        self._stamp = self.store.stamp()
        self._use(self.store.read())

    @property
    def has_keys(self) -> bool:
        """Whether anyone has a key."""
        return bool(self._known) or self._admin is not None

    def admits(self, claims: Claims, peer: Peer) -> bool:
        """Whether `admit` lets this request in at once; one that it has not seen before it has to look at."""
        found = self._passes[peer.is_local].get(claims)
        return found is not None and (found.limiter is None or found.limiter.try_take(monotonic()))

    def admit(self, claims: Claims, peer: Peer) -> Pass:
        """Let a request in. Raises Unauthorized, Forbidden, RateLimited."""
        found = self._passes[peer.is_local].get(claims)
        if found is None:
            found = self._look(claims, peer)
        if found.limiter is not None and not found.limiter.try_take(monotonic()):
            self._counters.add(Slot.REFUSED_RATE)
            raise found.limiter.refusal(monotonic())
        return found

    async def follow(self, audit: Auditor | None) -> None:
        """Look for other keys each second, for ever; with an auditor, have their changes written down."""
        while True:
            try:
                await self.look_at_store(audit)
            except SentinelError as error:
                if str(error) != self._problem:
                    _log.error("%s", error)
                self._problem = str(error)
            else:
                self._problem = ""
            await asyncio.sleep(LOOK_EVERY_S)

    async def look_at_store(self, audit: Auditor | None) -> None:
        """Look for other keys once. Raises StorageProblem when they cannot be read: none of them is good then."""
        stamp = await asyncio.to_thread(self.store.stamp)
        if stamp != self._stamp or self._problem:
            try:
                self._use(await asyncio.to_thread(self.store.read))
            except SentinelError:
                self._use(Keyring())  # nobody knows what it says: no key of it is good
                raise
            self._stamp = stamp
        if self._ends_us is not None and self._ends_us <= _now_us():
            self._forget_passes()
        if audit is not None and self._pending:
            await self._write_down(audit, self._pending)

    async def _write_down(self, audit: Auditor, pending: tuple[Change, ...]) -> None:
        await audit(list(pending))
        self._pending = ()
        await asyncio.to_thread(self.store.drop, pending)

    def _use(self, keyring: Keyring) -> None:
        self._known = {key.sha256: self._known_as(key) for key in keyring.keys}
        self._limiters = {key.id: one for key in keyring.keys if (one := self._known[key.sha256].limiter)}
        if self._admin is not None:
            self._known[self._admin] = _Known(Caller(ADMIN_KEY, OPERATOR, EVERYTHING), None, None)
        self._pending = keyring.changes
        self._forget_passes()

    def _known_as(self, key: Key) -> _Known:
        limiter = None
        if key.rate is not None:
            limiter = self._limiters.get(key.id) or Limiter(key.name, key.rate, monotonic())
        return _Known(Caller(key.name, key.source, opened_by(key.scopes)), limiter, key.expires_us)

    def _forget_passes(self) -> None:
        now_us = _now_us()
        ends = [one.expires_us for one in self._known.values() if one.expires_us is not None]
        self._ends_us = min((one for one in ends if one > now_us), default=None)
        self._passes: tuple[dict[Claims, Pass], dict[Claims, Pass]] = ({}, {})

    def _look(self, claims: Claims, peer: Peer) -> Pass:
        try:
            self._origins.check(claims)
            found = self._pass_of(claims, peer)
        except Forbidden:
            self._counters.add(Slot.REFUSED_FORBIDDEN)
            raise
        if claims.is_short:
            passes = self._passes[peer.is_local]
            if len(passes) >= _MOST_PASSES:
                passes.clear()
            passes[claims] = found
        return found

    def _pass_of(self, claims: Claims, peer: Peer) -> Pass:
        if claims.needs is None:
            return Pass(ANYONE, None)
        if claims.authorization is not None:
            known = self._of_key(claims.authorization, peer)
            caller, limiter = known.caller, known.limiter
        elif self._is_operator(claims, peer):
            caller, limiter = self._operator, None
        else:
            self._counters.add(Slot.REFUSED_NO_KEY)
            raise Unauthorized(self._missing(claims.needs))
        if claims.needs not in caller.scopes:
            if claims.authorization is None:
                self._counters.add(Slot.REFUSED_NO_KEY)
                raise Unauthorized(self._missing(claims.needs))
            raise Forbidden(_lacks(caller, claims.needs))
        return Pass(caller, limiter)

    def _of_key(self, authorization: str, peer: Peer) -> _Known:
        """Whose key it is. Raises Unauthorized, and RateLimited after too many that were wrong."""
        scheme, _, token = authorization.partition(" ")
        token, now_s = token.strip(), monotonic()
        digest = digest_of(token)
        known = self._known.get(digest) if scheme.lower() == "bearer" else None
        if digest == self._admin and self._guesses.wait_s(peer.network, now_s):
            known = None  # it may be of people's making, and to be guessed in the end
        if known is None:
            raise self._wrong_key(token, peer, now_s)
        if known.expires_us is not None and known.expires_us <= _now_us():
            self._counters.add(Slot.REFUSED_WRONG_KEY)
            raise Unauthorized(f"The key {known.caller.name!r} expired at {iso(known.expires_us)}; ask for a new one")
        return known

    def _wrong_key(self, token: str, peer: Peer, now_s: float) -> SentinelError:
        self._counters.add(Slot.REFUSED_WRONG_KEY)
        wait_s = self._wrong.wait_s(peer.network, now_s)
        tries = self._wrong.count(peer.network, now_s)
        if self._admin is not None and token.startswith(PREFIX) == self._admin_is_made:
            self._guesses.count(peer.network, now_s)  # others could not be it, whatever else is wrong with them
        if tries in (1, 10, 100) or tries % 1_000 == 0:
            _log.warning("a wrong key from %s, %d within a minute", peer.address, tries)
        if wait_s:
            return RateLimited(
                f"More than {MOST_TRIES} wrong keys a minute from {peer.network}; come again in {wait_s} s", wait_s
            )
        return Unauthorized(f"This key is not known here; {_CHALLENGE}, or ask for another one")

    def _is_operator(self, claims: Claims, peer: Peer) -> bool:
        """Whether someone at this machine asks, and no proxy and no page of others in between."""
        return (
            not self._needs_keys
            and peer.is_local
            and not claims.is_forwarded
            and is_loopback(name_of(claims.host or ""))
            and self._origins.is_own(claims)
        )

    def _missing(self, needs: Scope) -> str:
        if self._needs_keys or self._admin:
            return f"This call needs a key with the scope '{needs}'; {_CHALLENGE}. `sentinel keys create` makes one"
        return (
            "Without a key calls are answered to this machine only: from loopback, to loopback, through no proxy and "
            f"from no other page. `sentinel keys create` makes a key with the scope '{needs}'; {_CHALLENGE}"
        )


def _lacks(caller: Caller, needs: Scope) -> str:
    has = ", ".join(scope for scope in Scope if scope in caller.scopes)
    return f"The key {caller.name!r} lacks the scope '{needs}' that this call needs; it has {has}"


def _now_us() -> int:
    return time.time_ns() // 1000
