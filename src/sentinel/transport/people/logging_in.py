"""Logging in: a name and a password, tried so often and no more."""

import threading
from time import monotonic

from sentinel.errors import NotFound, RateLimited, Unauthorized
from sentinel.record.audit import By
from sentinel.transport.access.claims import Peer
from sentinel.transport.access.limits import MOST_TRIES, WrongKeys
from sentinel.transport.people.passwords import LONGEST
from sentinel.transport.people.people import People, Person


class LogIn:
    """Checks names and passwords, one after the other. Wrong ones are counted by network and name, ten a minute each.

    Whoever sends many at once has each looked at after the wrong ones before it are counted.
    """

    def __init__(self, people: People) -> None:
        self._people = people
        self._of_networks, self._of_names = WrongKeys(), WrongKeys()
        self._turn = threading.Lock()

    def person(self, name: str, password: str, peer: Peer, now_us: int) -> Person:
        """Who this is. Raises Unauthorized, which does not say what was wrong, and RateLimited after too many."""
        name = name.strip().lower()[:64]
        with self._turn:
            now_s = monotonic()
            wait_s = max(self._of_networks.wait_s(peer.network, now_s), self._of_names.wait_s(name, now_s))
            if wait_s:
                raise RateLimited(
                    f"More than {MOST_TRIES} wrong passwords within a minute; try again in {wait_s} s", wait_s
                )
            if len(password) <= LONGEST and self._people.has_password(name, password):
                return self._people.named(name)
            self._of_networks.count(peer.network, now_s)
            tries = self._of_names.count(name, now_s)
        if tries in (1, MOST_TRIES):
            self._people.note(By(self._known(name), peer.address, "console: log in"), now_us, None, "refused")
        raise Unauthorized("The name or the password is wrong")

    def _known(self, name: str) -> str:
        """The name, if somebody has it: what was typed otherwise may be a password in the wrong field."""
        try:
            return self._people.named(name).name
        except NotFound:
            return "somebody unknown"
