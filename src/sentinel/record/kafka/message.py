"""A message of the topic: its value is a record as a segment has it, its headers say of which log it is."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Message

from sentinel.errors import LogDamaged
from sentinel.record.log import Record
from sentinel.record.segment import Image, Stored, chain_behind, chain_of, record_at, seed_of

LOG, INPUTS, TRACE = "log", "inputs", "traceparent"
Inputs = Mapping[str, int]
"""Of each input, `topic-partition`, the offset after the newest message that a record and all before it hold."""


class Found(NamedTuple):
    """A record where it was found; `inputs` is empty where the record names none.

    `durable` is the log's durable end when it was written.
    `traces` are the `traceparent` of what came in through Kafka, where its trace is recorded.
    """

    offset: int
    record: Record
    standing: str
    log_id: str
    inputs: Inputs
    durable: int
    traces: tuple[str, ...] = ()

    @property
    def next(self) -> int:
        """The position after its last entry."""
        return self.record.position + self.record.rows

    @property
    def chain_behind(self) -> bytes:
        """The chain that the next record goes on from."""
        return chain_behind(self.record)

    def continues(self, chain: bytes) -> bool:
        """Whether it bears the chain that has to stand behind one that bears `chain`."""
        return chain_of(Stored(self.record, self.standing, self.durable, 0, 0), chain) == self.record.chain


def headers_of(found: Found) -> list[tuple[str, bytes]]:
    """The headers of a record's message."""
    headers = [(LOG, found.log_id.encode())]
    if found.inputs:
        headers.append((INPUTS, json.dumps(dict(found.inputs)).encode()))
    return [*headers, *((TRACE, one.encode()) for one in found.traces)]


def is_json(message: Message) -> bool:
    """Whether this is a decision as JSON, and no record."""
    return bool((message.value() or b"")[:1] == b"{")


def found_in(message: Message) -> Found:
    """The record in a message. Raises LogDamaged when it is none, or not as it was written."""
    offset = message.offset()
    value = message.value() or b""
    headers = dict(message.headers() or ())
    traces = tuple(value.decode(errors="replace") for name, value in message.headers() or () if name == TRACE and value)
    log_id = headers.get(LOG, b"").decode(errors="replace")
    stored = record_at(Image(value), 0, seed_of(log_id))
    if stored is None:
        raise LogDamaged(
            f"offset {offset} of partition {message.partition()} of the topic {message.topic()} is no record of a log, "
            "or not as it was written; nothing else may write to this topic",
            "", -1,
        )  # fmt: skip
    inputs = json.loads(headers[INPUTS]) if INPUTS in headers else {}
    return Found(offset, stored.record, stored.standing, log_id, inputs, stored.durable, traces)
