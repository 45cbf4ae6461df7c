"""A loss: entries that were durable, are not as they were written, and that an operator has given up."""

from typing import NamedTuple

import msgspec

from sentinel.record.log import Kind, Record


class Loss(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The body of a LOSS record, whose positions are those of the lost entries; there may be none.

    - `accepted_us`: when it was given up, microseconds since 1970.
    - `decided`, `unknown`: lost decisions, as far as that can still be read, and entries of which nothing can be told.
    - `resumed`: the chain that the next record bears; empty when none was left, and the next one continues this one's.
    - `kept`: the file beside the segments that has the damaged bytes; empty when there were none.
    - `problem`: what was wrong.
    """

    accepted_us: int
    decided: int
    unknown: int
    resumed: bytes
    kept: str
    problem: str


class AcceptedLoss(NamedTuple):
    """A loss in the log: the entries from position `begin` up to `end`."""

    begin: int
    end: int
    loss: Loss


_decode = msgspec.msgpack.Decoder(Loss).decode
_encode = msgspec.msgpack.Encoder().encode


def body_of_loss(loss: Loss) -> bytes:
    """The bytes that the log keeps."""
    return _encode(loss)


def loss_in(record: Record) -> AcceptedLoss:
    """The loss that a LOSS record tells of."""
    return AcceptedLoss(record.position, record.position + record.rows, _decode(record.body))


def resumed_in(record: Record) -> bytes:
    """The chain that the record after a loss bears; empty where the chain simply goes on."""
    return _decode(record.body).resumed if record.kind == Kind.LOSS else b""
