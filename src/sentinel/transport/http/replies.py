"""Replies: which status a fault has, and how an answer is written."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
from fastapi import Response

from sentinel.errors import (
    BadBody,
    BundleProblem,
    Conflict,
    Crowded,
    DeploymentRefused,
    Forbidden,
    InvalidInput,
    LongHead,
    Malformed,
    NoExperiment,
    NotFound,
    NotReady,
    Overloaded,
    RateLimited,
    SentinelError,
    StorageProblem,
    TooLarge,
    TooSlow,
    Unauthorized,
    UnknownVersion,
    WrongMedia,
)
from sentinel.events.card_numbers import masked_ends
from sentinel.serve.batch import Answer, Answers, Decision, Noted

STATUS: dict[type[SentinelError], int] = {
    BadBody: 400,
    Malformed: 400,
    NoExperiment: 400,
    UnknownVersion: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    TooSlow: 408,
    Conflict: 409,
    DeploymentRefused: 409,
    TooLarge: 413,
    WrongMedia: 415,
    InvalidInput: 422,
    RateLimited: 429,
    LongHead: 431,
    Crowded: 503,
    NotReady: 503,
    Overloaded: 503,
    StorageProblem: 503,
    BundleProblem: 503,
}
JSON = "application/json"
NDJSON = "application/x-ndjson"
RETRY = {"retry-after": "1"}
CHALLENGE = {"www-authenticate": "Bearer"}
_BEGINNING, _END = 600, 300
"""Characters of an error that are told where it has more: it may quote the caller, and what to do stands at the end."""

_encode = msgspec.json.encode


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Status, body and media type of an answer; `headers` besides those that follow from them."""

    status: int
    body: bytes
    media: str = JSON
    headers: dict[str, str] | None = None


class TurnedAway(msgspec.Struct, frozen=True, gc=False):
    """The error for a caller who was not let in: the connection ends with it."""

    error: SentinelError


Outgoing: TypeAlias = bytes | Reply | SentinelError | TurnedAway
"""What a request gets: bytes are the JSON of an answer with nothing unusual about it."""

Respond: TypeAlias = Callable[[Outgoing], None]


def _status_of(fault: SentinelError) -> int:
    return next((STATUS[kind] for kind in type(fault).__mro__ if kind in STATUS), 500)


def _as_json(answer: Answer) -> Any:
    if not isinstance(answer, SentinelError):
        return answer
    status = _status_of(answer)
    shown: dict[str, Any] = {"status": status, "error": masked_ends(str(answer), _BEGINNING, _END)}
    if isinstance(answer, InvalidInput):
        shown["path"] = masked_ends(answer.path, _BEGINNING, _END)
    return shown


def reply_to_outcome(answer: Answer) -> Outgoing:
    """The answer to one outcome: 202 where it is kept for the next training, for what it is about is not known here."""
    if isinstance(answer, SentinelError):
        return answer
    return Reply(202, _encode(answer)) if isinstance(answer, Noted) and not answer.known else _encode(answer)


def reply_to_batch(answers: Answers, *, lines: bool) -> Outgoing:
    """The answers of a batch, in their order, as an array or as lines; one fault where it is all that was wrong."""
    if not lines and set(map(type, answers)) == {Decision}:
        return _encode(answers)
    fault = next((one for one in answers if isinstance(one, SentinelError) and _status_of(one) >= 500), None)
    if fault is not None and all(isinstance(one, SentinelError) for one in answers):
        return fault
    shown = [_as_json(answer) for answer in answers]
    if lines:
        return Reply(200, b"".join(_encode(one) + b"\n" for one in shown), NDJSON)
    return _encode(shown)


def encode_error(status: int, text: str) -> bytes:
    """The body of an error that is none of ours, in the shape of those that are."""
    return _encode({"status": status, "error": masked_ends(text, _BEGINNING, _END)})


def reply_to(outgoing: Outgoing) -> Reply:
    """What a request gets, as a reply."""
    if isinstance(outgoing, Reply):
        return outgoing
    if isinstance(outgoing, bytes):
        return Reply(200, outgoing)
    if isinstance(outgoing, TurnedAway):
        return closing(reply_to(outgoing.error))
    return Reply(_status_of(outgoing), _encode(_as_json(outgoing)), headers=_headers_of(outgoing))


def closing(reply: Reply) -> Reply:
    """The same, and the connection ends with it."""
    return msgspec.structs.replace(reply, headers={**(reply.headers or {}), "connection": "close"})


def _headers_of(fault: SentinelError) -> dict[str, str] | None:
    if isinstance(fault, RateLimited):
        return {"retry-after": str(fault.retry_after_s)}
    return CHALLENGE if isinstance(fault, Unauthorized) else None


def ok(shown: Any) -> Response:
    """A response with status 200 that shows this as JSON."""
    return response_of(Reply(200, _encode(shown)))


def response_of(reply: Reply, headers: dict[str, str] | None = None) -> Response:
    """A reply as a response of the framework."""
    more = RETRY if reply.status == 503 else {}
    return Response(
        reply.body, reply.status, {**more, **(reply.headers or {}), **(headers or {})}, media_type=reply.media
    )
