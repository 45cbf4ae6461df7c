"""Calls: what the head of a request for a decision says."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from sentinel.transport.http.replies import JSON, NDJSON

_NDJSON_TYPES = (NDJSON, "application/jsonl", "application/jsonlines", "application/ndjson")
_LONGEST_MS = 3.6e6


class Route(StrEnum):
    """The calls that need a model, and come often."""

    PREDICT = "/predict"
    SCORE = "/v1/score"
    OUTCOMES = "/v1/outcomes"


class Call(msgspec.Struct, frozen=True):
    """What the head of a request says: which call, the body's media type, and what the client asks along with it.

    `deadline_ms` is how long the client can wait; without it the server's own deadline counts. The rest follows:
    `kind` is `json`, `lines` or None for a body that is not understood, `is_traced` is set where the answer carries
    more than the decision, `may_be_remembered` for a vector whose answer needs nothing but its score.
    """

    route: Route
    media: str = ""
    deadline_ms: float | None = None
    request_id: str | None = None
    traceparent: str | None = None
    kind: str | None = None
    is_traced: bool = False
    may_be_remembered: bool = False

    @classmethod
    def of(cls, route: Route, headers: Mapping[str, str]) -> "Call":
        """What these headers, with lower-case names, say."""
        return cls(
            route,
            headers.get("content-type", ""),
            _deadline_of(headers.get("x-deadline-ms")),
            headers.get("x-request-id"),
            headers.get("traceparent"),
        )

    def __post_init__(self) -> None:
        traced = self.request_id is not None or self.traceparent is not None
        found = {"kind": _kind_of(self.media), "is_traced": traced}
        for name, value in {**found, "may_be_remembered": self.route is Route.PREDICT and not traced}.items():
            msgspec.structs.force_setattr(self, name, value)


def _kind_of(media: str) -> str | None:
    kind = media.partition(";")[0].strip().lower()
    if kind in _NDJSON_TYPES:
        return "lines"
    return "json" if kind in (JSON, "", "text/json") or kind.endswith("+json") else None


def _deadline_of(header: str | None) -> float | None:
    """How long the client can wait; anything but a number above 0 is ignored."""
    try:
        found = float(header) if header else 0.0
    except ValueError:
        return None
    return found if 0 < found < _LONGEST_MS else None
