"""Transactions that are taken without waiting for what is decided: what their callers are told, and where to look."""

from urllib.parse import quote

import msgspec

from sentinel.errors import SentinelError
from sentinel.serve.batch import Answer, Decision, Taken
from sentinel.transport.http.addresses import address_below
from sentinel.transport.http.replies import Outgoing, Reply

_DECISIONS = "/v1/decisions/"
_NEW, _AGAIN = "success", "ignored"
_encode = msgspec.json.Encoder().encode


def taken(answer: Answer, detector: str) -> Answer:
    """What is told of a transaction whose decision is durable: that it was taken, or came before; an error as it is.

    `detector` is empty for the one without a name.
    """
    if not isinstance(answer, Decision):
        return answer
    path = address_below(f"/v1/{detector}" if detector else "", _DECISIONS + quote(answer.transaction_id, safe=""))
    if answer.replayed:
        return Taken(_AGAIN, "It was taken before, with the same content", answer.transaction_id, "log", path)
    return Taken(_NEW, "It is in the log", answer.transaction_id, "log", path)


def reply_to_taken(answer: Answer) -> Outgoing:
    """The answer to one such transaction: 202, or the error."""
    return answer if isinstance(answer, SentinelError) else Reply(202, _encode(answer))
