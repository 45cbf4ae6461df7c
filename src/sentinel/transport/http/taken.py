"""Transactions that are taken without waiting for what is decided: what their callers are told, and where to look."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol
from urllib.parse import quote

import msgspec

from sentinel.errors import SentinelError
from sentinel.events.schema import Schema
from sentinel.events.wire import Transaction
from sentinel.serve.batch import Answer, Decision, Taken
from sentinel.serve.queue import Request
from sentinel.transport.http.addresses import address_below
from sentinel.transport.http.replies import Outgoing, Reply

_DECISIONS = "/v1/decisions/"
_NEW, _AGAIN = "success", "ignored"
_encode = msgspec.json.Encoder().encode


class Offer(NamedTuple):
    """A transaction that is to be put into a topic: its id, its content as it is kept, and the message.

    The message is what came, with the id that it got where it came without; its key is that of the schema's first key.
    `ignoring` names the time where it came without one: the same with another time is the same then.
    """

    name: str
    content: bytes
    key: str
    value: bytes
    traceparent: str | None
    ignoring: str | None

    @classmethod
    def of(cls, schema: Schema, transaction: Transaction, raw: bytes, traceparent: str | None) -> "Offer":
        """The offer of what was read from these bytes of JSON."""
        name = str(getattr(transaction, schema.id))
        key = getattr(transaction, schema.keys[0]) if schema.keys else None
        if schema.assigns:
            fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            if schema.id not in fields or bytes(fields[schema.id]) == b"null":
                raw = _encode({**fields, schema.id: name})
        timeless = schema.time if getattr(transaction, schema.time) is None else None
        return cls(name, schema.encode(transaction), name if key is None else str(key), raw, traceparent, timeless)


class Topic(Protocol):
    """Takes offers to whoever decides them."""

    def put(self, request: Request) -> None:
        """Have the offers of a request taken, and it answered; from the event loop. Raises NotReady, Overloaded."""

    def told_of(self, names: Sequence[str]) -> Reply | None:
        """What is known of a transaction that was offered here under one of these names; None where it was not."""


def taken(answer: Answer, detector: str) -> Answer:
    """What is told of a transaction whose decision is durable: that it was taken, or came before; an error as it is.

    `detector` is empty for the one without a name.
    """
    if not isinstance(answer, Decision):
        return answer
    path = _path_of(answer.transaction_id, detector)
    if answer.replayed:
        return Taken(_AGAIN, "It was taken before, with the same content", answer.transaction_id, "log", path)
    return Taken(_NEW, "It is in the log", answer.transaction_id, "log", path)


def taken_by_topic(name: str, *, again: bool) -> Taken:
    """What is told of a transaction of the detector without a name that Kafka has acknowledged, now or before."""
    status, said = (_AGAIN, "It was taken before, with the same content") if again else (_NEW, "It is in the topic")
    return Taken(status, said, name, "kafka", _path_of(name, ""))


def _path_of(name: str, detector: str) -> str:
    return address_below(f"/v1/{detector}" if detector else "", _DECISIONS + quote(name, safe=""))


def reply_to_taken(answer: Answer) -> Outgoing:
    """The answer to one such transaction: 202, or the error."""
    return answer if isinstance(answer, SentinelError) else Reply(202, _encode(answer))
