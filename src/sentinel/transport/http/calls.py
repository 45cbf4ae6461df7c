"""Calls: what the head of a request for a decision says."""

import math
import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from sentinel.errors import WrongMedia
from sentinel.events.card_numbers import masked, may_hold_card_number, quoted
from sentinel.transport.access.claims import Claims
from sentinel.transport.access.scopes import SAFE_METHODS, Scope, needed_scope
from sentinel.transport.http.addresses import address_of
from sentinel.transport.http.replies import JSON, NDJSON

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_NDJSON_TYPES = (NDJSON, "application/jsonl", "application/jsonlines", "application/ndjson")


class Route(StrEnum):
    """The calls that the `Api` answers."""

    PREDICT = "/predict"
    SCORE = "/v1/score"
    OUTCOMES = "/v1/outcomes"
    EVENTS = "/v1/events"
    TRANSACTIONS = "/api/v1/transactions"


FAST = frozenset(Route) - {Route.EVENTS}
"""Those that come often: the fast lane takes them."""


class Call(msgspec.Struct, frozen=True):
    """What the head of a request says: which call of which detector, the body's media type, and what else is asked.

    `deadline_ms` is how long the client says it can wait; without it the server's own deadline counts. `claims` is what
    it says of its caller, `request_id` is as it came. The rest follows: `kind` is `json`, `lines` or None for a body
    that is not understood, `is_traced` is set where the answer carries more than the decision, `may_be_remembered` for
    a vector whose answer needs nothing but its score.
    """

    route: Route
    media: str = ""
    deadline_ms: float | None = None
    request_id: str | None = None
    traceparent: str | None = None
    claims: Claims = Claims()
    detector: str = ""
    kind: str | None = None
    is_traced: bool = False
    may_be_remembered: bool = False
    known_id: str | None = None

    @classmethod
    def of(cls, route: Route, headers: Mapping[str, str], detector: str = "") -> "Call":
        """What these headers, with lower-case names, say; `detector` is empty for the one without a name."""
        return cls(
            route,
            headers.get("content-type", ""),
            _deadline_of(headers.get("x-deadline-ms")),
            _request_id_of(headers.get("x-request-id")),
            _shown(headers.get("traceparent")),
            Claims.of(needed_scope("POST", route), headers, writes=True),
            detector,
        )

    def __post_init__(self) -> None:
        kind, traced = kind_of(self.media), self.request_id is not None or self.traceparent is not None
        remembered = self.route is Route.PREDICT and kind is not None and not traced
        for name, value in {"kind": kind, "is_traced": traced, "may_be_remembered": remembered}.items():
            msgspec.structs.force_setattr(self, name, value)

    @property
    def shown_id(self) -> str | None:
        """The request's id as it comes back and stands in logs and traces: without a card number.

        That is looked for once a head. Ask only for callers who were let in: it is work.
        """
        if self.known_id is None and self.request_id is not None:
            msgspec.structs.force_setattr(self, "known_id", masked(self.request_id))
        return self.known_id


def wrong_media(media: str, *understood: str) -> WrongMedia:
    """The answer to a body that is said to be of this type, by its `Content-Type`."""
    kind = media.partition(";")[0].strip()
    wrong = f"Content-Type {quoted(kind, 80)} is not understood" if kind else "The header Content-Type is missing"
    return WrongMedia(f"{wrong}; send {' or '.join(understood)}")


def kind_of(media: str) -> str | None:
    """What a body of this type holds: `json`, `lines` of it, or None for what is not understood."""
    kind = media.partition(";")[0].strip().lower()
    if kind in _NDJSON_TYPES:
        return "lines"
    return "json" if kind in (JSON, "text/json") or kind.endswith("+json") else None


def _shown(text: str | None) -> str | None:
    """What comes back in the answer and goes into logs and traces: no card number. A trace with one is none then."""
    return text if text is None or not may_hold_card_number(text.encode()) else masked(text)


def asked_of(method: str, path: str, headers: Mapping[str, str]) -> tuple[str, str, Claims]:
    """The detector, the path below it, and what is said of the caller, for any call but the scoring ones."""
    detector, below = address_of(path)
    writes, needs = method not in SAFE_METHODS, needed_scope(method, below)
    if detector and needs is None:
        needs = Scope.READ  # only the server itself is everyone's to ask
    return detector, below, Claims.of(needs, headers, writes=writes)


def _request_id_of(header: str | None) -> str | None:
    """What may come back and goes into logs and traces; another one is ignored."""
    return header if header and _REQUEST_ID.fullmatch(header) else None


def _deadline_of(header: str | None) -> float | None:
    """How long the client can wait; anything but a number above 0 is ignored."""
    try:
        found = float(header) if header else 0.0
    except ValueError:
        return None
    return found if 0 < found < math.inf else None
