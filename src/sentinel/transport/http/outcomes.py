"""Outcomes as callers tell them: what a body says, and whose word it is."""

import time
from typing import Annotated, Any

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.columns import OPERATOR, SOURCE_FORM, Outcome, is_source
from sentinel.events.reader import TransactionReader
from sentinel.events.times import FARTHEST_AHEAD_US, instant_us, iso
from sentinel.events.wire import ID, MAX_ID, read_json, text_within
from sentinel.transport.access.access import Pass
from sentinel.transport.http.tellers import WITHOUT_KEY, Teller


class OutcomeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An outcome on the wire; without a time it became known now.

    The source is that of the API key; without a key it may be said here.
    """

    transaction_id: ID | int
    is_fraud: bool | Annotated[int, msgspec.Meta(ge=0, le=1)]
    time: str | int | float | None = None
    source: str | None = None
    reason: Annotated[str, msgspec.Meta(max_length=256)] | None = None


_decode = msgspec.json.Decoder(OutcomeBody).decode


def teller_of(let_in: Pass) -> Teller:
    """Whose word the outcomes of this caller are."""
    caller = let_in.caller
    return WITHOUT_KEY if caller.name == OPERATOR else Teller(caller.name, caller.source)


def read_outcome(reader: TransactionReader, raw: Any, teller: Teller, received_us: int | None = None) -> Outcome:
    """One outcome from its JSON bytes, received now unless it is said when. Raises BadBody, InvalidInput."""
    given = read_json(_decode, raw)
    now_us = time.time_ns() // 1000 if received_us is None else received_us
    time_us = now_us if given.time is None else instant_us(given.time, "$.time")
    if time_us > now_us + FARTHEST_AHEAD_US:
        raise InvalidInput(f"Expected a time at most a day ahead of now, got {iso(time_us)}", "$.time")
    name = given.transaction_id
    if not isinstance(name, str):
        name = text_within(name, MAX_ID, "$.transaction_id")
    names = reader.texts(reader.schema.id, name)
    return Outcome(
        names[0], bool(given.is_fraud), time_us, _source_of(given.source, teller), teller.name,
        masked(given.reason or ""), names[1] if len(names) > 1 else None,
    )  # fmt: skip


def _source_of(given: str | None, teller: Teller) -> str:
    if given is None or given == teller.source:
        return teller.source
    if teller is not WITHOUT_KEY:
        raise InvalidInput(f"The source is that of the API key, {quoted(teller.source, 80)}; leave it out", "$.source")
    if not is_source(given) or masked(given) != given:
        raise InvalidInput(f"Expected {SOURCE_FORM}, got {quoted(given, 70)}", "$.source")
    return given
