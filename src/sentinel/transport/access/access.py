"""Access: finds the caller of a request, and says no where that caller may not do what is asked."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from sentinel.config import Settings, is_loopback
from sentinel.errors import Forbidden, NotFound, RateLimited, SentinelError, Unauthorized
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import OPERATOR
from sentinel.events.times import clock_us, iso
from sentinel.telemetry.counters import Counters, Slot
from sentinel.transport.access.claims import Claims, Peer
from sentinel.transport.access.holders import Auditor, Caller, Holder, Holders
from sentinel.transport.access.keys import ADMIN_KEY, ANYBODY, PREFIX, digest_of
from sentinel.transport.access.limits import MOST_TRIES, Limiter, WrongKeys
from sentinel.transport.access.origins import Origins, name_of
from sentinel.transport.access.scopes import EVERYTHING, Scope

LOOK_EVERY_S = 1.0
"""How long a key that was revoked is good for, at most."""

_MOST_PASSES = 1_024
_OF_ADMINS = frozenset({Scope.ADMIN, Scope.OPERATE, Scope.RULES})
_CHALLENGE = "give it as `Authorization: Bearer <key>`"
_log = logging.getLogger(__name__)

ANYONE = Caller(ANYBODY, ANYBODY, frozenset())
"""The caller of what is open to everyone."""

_OWN = ""  # the tenant of whoever names none


class Pass(NamedTuple):
    """A caller who was let in, to what belongs to `tenant`, and what counts the caller's transactions."""

    caller: Caller
    limiter: Limiter | None
    tenant: str = _OWN

    @property
    def who(self) -> str:
        """By what the caller's turns and shares are told from those of others: names of keys are a tenant's own."""
        return f"{self.tenant}/{self.caller.name}"

    def take_one(self) -> bool:
        """Count a request, if the caller may make one now."""
        return self.limiter is None or self.limiter.try_take(monotonic())

    def charge(self, more: int) -> None:
        """Count so many transactions more than the one that every request counts for."""
        if self.limiter is not None:
            self.limiter.charge(more)


class Access:
    """Who may do what here, and to whose data, from the event loop's thread.

    Keys are read when it is made, and by `follow` from then on. What was let in once is remembered by its claims, so
    that the next request of the same head costs a look-up. All of that is forgotten when a key is made, revoked or
    expires. `tenants` are their homes by name; without any there is the server's own.
    """

    def __init__(self, settings: Settings, counters: Counters, tenants: Mapping[str, Path] | None = None) -> None:
        self._tenants = tenants or {_OWN: settings.home}
        self._holders = Holders(self._tenants)
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
        self._forget_passes()

    @property
    def has_keys(self) -> bool:
        """Whether anyone has a key."""
        return len(self._holders) > 0 or self._admin is not None

    def remembered(self, claims: Claims, peer: Peer) -> Pass | None:
        """What `admit` would give a request that it has seen before; nothing is counted."""
        return self._passes[peer.is_local].get(claims)

    def admit(self, claims: Claims, peer: Peer) -> Pass:
        """Let a request in. Raises Unauthorized, Forbidden, NotFound, RateLimited."""
        found = self._passes[peer.is_local].get(claims) or self._look(claims, peer)  # as `find`, a call less
        if found.limiter is not None and not found.limiter.try_take(monotonic()):
            self._counters.add(Slot.REFUSED_RATE)
            raise found.limiter.refusal(monotonic())
        return found

    def find(self, claims: Claims, peer: Peer) -> Pass:
        """The same before the request is whole: nothing is taken of what the caller may send."""
        return self._passes[peer.is_local].get(claims) or self._look(claims, peer)

    def has_key(self, claims: Claims) -> bool:
        """Whether a key that is good here comes with these claims, whatever it opens."""
        scheme, _, token = (claims.authorization or "").partition(" ")
        found = self._holder(digest_of(token.strip())) if scheme.lower() == "bearer" else None
        return found is not None and (found.expires_us is None or found.expires_us > clock_us())

    async def follow(self, auditors: Mapping[str, Auditor]) -> None:
        """Look for other keys each second, for ever, and have changes written down by the auditor of their tenant."""
        while True:
            try:
                await self.look_for_keys(auditors)
            except Exception:  # noqa: BLE001 - whatever it is: a key that is revoked must not be good for ever
                _log.exception("keys were not looked for; they are again in a moment, and nobody is remembered")
                self._forget_passes()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look_for_keys(self, auditors: Mapping[str, Auditor]) -> None:
        """The same once."""
        has_changed = await self._holders.look()
        if has_changed or (self._ends_us is not None and self._ends_us <= clock_us()):
            self._forget_passes()
        await self._holders.write_down(auditors)

    def _forget_passes(self) -> None:
        self._ends_us = self._holders.next_end_us(clock_us())
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
            holder = self._of_key(claims.authorization, _network_of(claims, peer), peer)
        elif self._is_operator(claims, peer):
            holder = Holder(self._operator, None, None, None)
        else:
            self._counters.add(Slot.REFUSED_NO_KEY)
            raise Unauthorized(self._missing(claims.needs))
        if claims.needs not in holder.caller.scopes:
            if claims.authorization is None:
                self._counters.add(Slot.REFUSED_NO_KEY)
                raise Unauthorized(self._missing(claims.needs))
            raise Forbidden(_lacks(holder.caller, claims.needs))
        return Pass(holder.caller, holder.limiter, self._tenant_of(claims, holder))

    def _tenant_of(self, claims: Claims, holder: Holder) -> str:
        """Whose data it is about: the key's own, and for the server's operator any that is named."""
        own = _OWN if holder.tenant is None else holder.tenant
        named = own if claims.tenant is None else claims.tenant
        if named != own and (holder.tenant is not None or named not in self._tenants):
            raise NotFound(f"There is no tenant {quoted(named, 80)} here")
        return named

    def _of_key(self, authorization: str, network: str, peer: Peer) -> Holder:
        """Whose key it is. Raises Unauthorized, and RateLimited after too many that were wrong from this network."""
        scheme, _, token = authorization.partition(" ")
        token, now_s = token.strip(), monotonic()
        digest = digest_of(token)
        found = self._holder(digest) if scheme.lower() == "bearer" else None
        if digest == self._admin and self._guesses.wait_s(network, now_s):
            found = None  # it may be of people's making, and to be guessed in the end
        if found is None:
            raise self._wrong_key(token, network, peer, now_s)
        if found.expires_us is not None and found.expires_us <= clock_us():
            self._counters.add(Slot.REFUSED_WRONG_KEY)
            raise Unauthorized(
                f"The key {quoted(found.caller.name, 80)} expired at {iso(found.expires_us)}; ask for a new one"
            )
        return found

    def _holder(self, digest: str) -> Holder | None:
        if digest == self._admin:
            return Holder(Caller(ADMIN_KEY, OPERATOR, EVERYTHING), None, None, None)
        return self._holders.find(digest)

    def _wrong_key(self, token: str, network: str, peer: Peer, now_s: float) -> SentinelError:
        self._counters.add(Slot.REFUSED_WRONG_KEY)
        wait_s = self._wrong.wait_s(network, now_s)
        tries = self._wrong.count(network, now_s)
        if self._admin is not None and token.startswith(PREFIX) == self._admin_is_made:
            self._guesses.count(network, now_s)  # others could not be it, whatever else is wrong with them
        if tries in (1, 10, 100) or tries % 1_000 == 0:
            _log.warning("a wrong key from %s, %d within a minute", peer.address, tries)
        if wait_s:
            return RateLimited(
                f"More than {MOST_TRIES} wrong keys a minute from {network}; come again in {wait_s} s", wait_s
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


def _network_of(claims: Claims, peer: Peer) -> str:
    """What wrong keys are counted by. All that a proxy forwards is one more network: not that of who asks beside it."""
    return f"{peer.network}, forwarded" if claims.is_forwarded else peer.network


def _lacks(caller: Caller, needs: Scope) -> str:
    has = ", ".join(scope for scope in Scope if scope in caller.scopes)
    return f"The key {quoted(caller.name, 80)} lacks the scope '{needs}' that this call needs; it has {has}"
