"""Signing on by a provider: a log-in that is on its way, and who comes back from it, with which role."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sentinel.config import Settings
from sentinel.errors import Forbidden, InvalidDefinition, RateLimited, SentinelError, Unauthorized
from sentinel.events.card_numbers import quoted
from sentinel.record.audit import By
from sentinel.transport.access.claims import Peer
from sentinel.transport.access.limits import WrongKeys
from sentinel.transport.access.scopes import ROLES
from sentinel.transport.people.people import People, Person, check_name
from sentinel.transport.people.provider import Asked, Client, Provider, ReadToken

LASTS_S = 600
"""A log-in that was begun has to come back within this time."""

_MOST_WAITING, _MOST_OF_NETWORK = 1_000, 500


class ClaimsMap(NamedTuple):
    """Which claims say who somebody is: the name, what roles follow from, and the role of each of its values."""

    name_claim: str
    role_claim: str
    roles: Mapping[str, str]

    @classmethod
    def of(cls, name_claim: str, role_claim: str, given: Sequence[str]) -> "ClaimsMap":
        """From `fraud-admins:admin`, ... Raises InvalidDefinition for a role that is none."""
        roles = {}
        for one in given:
            value, colon, role = one.rpartition(":")
            if not colon or not value or role not in ROLES:
                raise InvalidDefinition(
                    f"SENTINEL_OIDC_ROLES has {quoted(one, 80)}; write a value of the claim {role_claim} and its role, "
                    f"as fraud-team:analyst. Roles are {', '.join(ROLES)}"
                )
            roles[value] = role
        return cls(name_claim, role_claim, roles)

    def name_of(self, claims: Mapping[str, Any]) -> str:
        """The name of a person. Raises Forbidden for a claim that is missing, or that nobody has verified."""
        found = _claim(claims, self.name_claim)
        if not isinstance(found, str) or not found:
            raise Forbidden(f"The provider does not say your {self.name_claim}, by which you would be known here")
        if self.name_claim == "email" and claims.get("email_verified") is False:
            raise Forbidden("The provider has not verified your e-mail address")
        name = found.strip().lower()
        check_name(name)
        return name

    def role_of(self, claims: Mapping[str, Any]) -> str:
        """The role with the most rights that follows. Raises Forbidden where none does."""
        found = _claim(claims, self.role_claim)
        values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        roles = {self.roles[one] for one in values if isinstance(one, str) and one in self.roles}
        if not roles:
            raise Forbidden(
                f"You are known, but have no role here: none follows from your {self.role_claim}. Ask whoever gives "
                "them out at the provider"
            )
        return max(roles, key=list(ROLES).index)


class _Waiting(NamedTuple):
    asked: Asked
    browser: str
    go_on: str
    until_s: float
    network: str


class SignOn:
    """Log-ins by a provider, of one console. From any thread."""

    def __init__(self, provider: Provider, mapping: ClaimsMap, people: People) -> None:
        self.provider = provider
        self._mapping, self._people = mapping, people
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._refused = WrongKeys()
        self._turn = threading.Lock()

    def begin(self, browser: str, go_on: str, network: str, now_s: float) -> str:
        """Where to send a browser, which is known by a secret of its own, and comes from a `network`.

        Of the log-ins of one network that are begun and not finished the oldest make room: a network may be a whole
        office, or the proxy before the console. Raises ProviderAway.
        """
        asked = Asked.new()
        address = self.provider.log_in_address(asked)
        with self._turn:
            self._make_room(network, now_s)
            self._waiting[asked.state] = _Waiting(asked, browser, go_on, now_s + LASTS_S, network)
            while len(self._waiting) > _MOST_WAITING:
                self._waiting.popitem(last=False)
        return address

    def _make_room(self, network: str, now_s: float) -> None:
        while self._waiting and next(iter(self._waiting.values())).until_s < now_s:
            self._waiting.popitem(last=False)
        of_it = [state for state, one in self._waiting.items() if one.network == network]
        for state in of_it[: max(len(of_it) - _MOST_OF_NETWORK + 1, 0)]:
            del self._waiting[state]

    def come_back(self, query: Mapping[str, str], browser: str | None, peer: Peer, now_us: int) -> tuple[Person, str]:
        """Who has logged in, and where to go on to.

        Raises Unauthorized for a log-in that was not begun here, is too old, or that the provider does not vouch for;
        Forbidden for somebody without a role, or who is disabled; RateLimited, ProviderAway.
        """
        now_s = now_us / 1e6
        with self._turn:
            wait_s = self._refused.wait_s(peer.network, now_s)
            waiting = self._waiting.pop(query.get("state", ""), None)
        if wait_s:
            raise RateLimited(f"Too many log-ins were refused; try again in {wait_s} s", wait_s)
        try:
            claims = self._claims(query, waiting, browser, now_s)
            return self._person(claims, peer, now_us), waiting.go_on if waiting else "/"
        except (Unauthorized, Forbidden) as error:
            with self._turn:
                tries = self._refused.count(peer.network, now_s)
            if tries == 1 or isinstance(error, Forbidden):
                by = By("somebody unknown", peer.address, "console: log in by the provider")
                self._people.note(by, now_us, None, "refused")
            raise

    def _claims(
        self, query: Mapping[str, str], waiting: _Waiting | None, browser: str | None, now_s: float
    ) -> dict[str, Any]:
        if waiting is None or waiting.until_s < now_s or waiting.browser != browser:
            raise Unauthorized("This log-in was begun elsewhere, or long ago; log in again")
        if "error" in query or "code" not in query:
            raise Unauthorized("The provider did not let you in; log in again, or ask whoever runs it")
        return self.provider.claims(query["code"], waiting.asked, query.get("iss"), now_s)

    def _person(self, claims: Mapping[str, Any], peer: Peer, now_us: int) -> Person:
        name, role = self._mapping.name_of(claims), self._mapping.role_of(claims)
        by = By(name, peer.address, "console: role by the provider", self.provider.client.issuer)
        person = self._people.sign_on(self.provider.client.issuer, claims["sub"], name, role, by, now_us)
        if person.is_disabled:
            raise Forbidden("You are let in no more; ask an admin")
        return person

    def log_out_address(self, name: str, back_to: str) -> str | None:
        """Where somebody who came by the provider logs out there; None for all others, or while it is away."""
        if not self._people.comes_by_provider(name):
            return None
        try:
            return self.provider.log_out_address(back_to)
        except SentinelError:
            return None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by the path to it where it lies in others (`realm_access.roles`)."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def sign_on_of(settings: Settings, people: People, redirect_uri: str, read_token: ReadToken | None) -> SignOn | None:
    """What the settings say; None without a provider. `read_token` is there with one. Raises InvalidDefinition."""
    if settings.oidc_issuer is None or settings.oidc_client_id is None or read_token is None:
        return None
    client = Client(
        settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret, settings.oidc_scopes, redirect_uri
    )
    claims = ClaimsMap.of(settings.oidc_name_claim, settings.oidc_role_claim, settings.oidc_roles)
    return SignOn(Provider(client, read_token), claims, people)
