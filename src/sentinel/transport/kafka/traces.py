"""Traces through Kafka: `traceparent` of a message's headers goes on into what is written of it."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress

from confluent_kafka import Message

from sentinel.errors import SentinelError
from sentinel.serve.batch import Answer
from sentinel.telemetry.tracing import TraceContext, Tracer, parse_traceparent

HEADER = "traceparent"
_KEPT = 10_000  # transactions whose decisions are not written yet


class Traces:
    """Records a span for each message whose trace is recorded, and knows of which trace a transaction is.

    `expects` is called in the event loop, `took` by the thread that reads, `of` by any.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._of: OrderedDict[str, str] = OrderedDict()

    def expects(self, transaction_id: str, message: Message) -> None:
        """This message is about to be decided: its decision may be written before it is known how long that took."""
        if (parent := trace_of(message)) is not None:
            self._keep(transaction_id, parent.header)

    def took(self, messages: Sequence[Message], answers: Sequence[Answer], begun_ns: int, ended_ns: int) -> None:
        """These messages have these answers; times are of the monotonic clock."""
        for message, answer in zip(messages, answers, strict=True):
            parent = trace_of(message)
            if parent is None:
                continue
            is_letter = isinstance(answer, SentinelError)
            span = self._tracer.span(
                f"consume {message.topic()}", parent, begun_ns, ended_ns,
                {"messaging.kafka.partition": message.partition() or 0,
                 "messaging.kafka.offset": message.offset() or 0, "dead_letter": is_letter},
            )  # fmt: skip
            name = getattr(answer, "transaction_id", None)
            if isinstance(name, str) and span is not None:
                self._keep(name, span.header)

    def of(self, transaction_id: str) -> str | None:
        """The `traceparent` of a transaction that was read a moment ago."""
        return self._of.get(transaction_id)

    def _keep(self, transaction_id: str, header: str) -> None:
        self._of[transaction_id] = header
        with suppress(KeyError):  # another thread has just done so
            while len(self._of) > _KEPT:
                self._of.popitem(last=False)


def trace_of(message: Message) -> TraceContext | None:
    """The trace of a message, where that is recorded."""
    for name, value in message.headers() or ():
        if name == HEADER and value:
            found = parse_traceparent(value.decode("ascii", errors="replace") if isinstance(value, bytes) else value)
            return found if found is not None and found.sampled else None
    return None


def headers_of(messages: Iterable[Message], most: int = 64) -> tuple[str, ...]:
    """The `traceparent` of those messages whose traces are recorded, of so many of them at most."""
    found = (trace_of(one) for one in messages)
    return tuple(one.header for one in found if one is not None)[:most]
