"""Calls: what the head of a request for a decision says."""

import math
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from sentinel.events.card_numbers import masked
from sentinel.transport.access.claims import Claims
from sentinel.transport.access.scopes import needed_scope
from sentinel.transport.http.replies import JSON, NDJSON

_NDJSON_TYPES = (NDJSON, "application/jsonl", "application/jsonlines", "application/ndjson")


class Route(StrEnum):
    """The calls that need a model, and come often."""

    PREDICT = "/predict"
    SCORE = "/v1/score"
    OUTCOMES = "/v1/outcomes"


class Call(msgspec.Struct, frozen=True):
    """What the head of a request says: which call of which detector, the body's media type, and what else is asked.

    `deadline_ms` is how long the client says it can wait; without it the server's own deadline counts. `claims` is what
    it says of its caller. The rest follows: `kind` is `json`, `lines` or None for a body that is not understood,
    `is_traced` is set where the answer carries more than the decision, `may_be_remembered` for a vector whose answer
    needs nothing but its score.
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

    @classmethod
    def of(cls, route: Route, headers: Mapping[str, str], detector: str = "") -> "Call":
        """What these headers, with lower-case names, say; `detector` is empty for the one without a name."""
        return cls(
            route,
            headers.get("content-type", ""),
            _deadline_of(headers.get("x-deadline-ms")),
            _shown(headers.get("x-request-id")),
            headers.get("traceparent"),
            Claims.of(needed_scope("POST", route), headers, writes=True),
            detector,
        )

    def __post_init__(self) -> None:
        kind, traced = _kind_of(self.media), self.request_id is not None or self.traceparent is not None
        remembered = self.route is Route.PREDICT and kind is not None and not traced
        for name, value in {"kind": kind, "is_traced": traced, "may_be_remembered": remembered}.items():
            msgspec.structs.force_setattr(self, name, value)


def _kind_of(media: str) -> str | None:
    kind = media.partition(";")[0].strip().lower()
    if kind in _NDJSON_TYPES:
        return "lines"
    return "json" if kind in (JSON, "text/json") or kind.endswith("+json") else None


def _shown(request_id: str | None) -> str | None:
    """What comes back in the answer and goes into logs and traces: no card number."""
    return None if request_id is None else masked(request_id)


def _deadline_of(header: str | None) -> float | None:
    """How long the client can wait; anything but a number above 0 is ignored."""
    try:
        found = float(header) if header else 0.0
    except ValueError:
        return None
    return found if 0 < found < math.inf else None
