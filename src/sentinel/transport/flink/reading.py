"""What comes from the topics: transactions and outcomes as bytes, read as over HTTP, on their way from key to key."""

from typing import NamedTuple

import msgspec

from sentinel.errors import BadBody, InvalidInput
from sentinel.events.columns import Outcome
from sentinel.events.reader import TransactionReader
from sentinel.events.secrets import Secrets
from sentinel.events.times import FARTHEST_AHEAD_US, iso
from sentinel.events.wire import Transaction
from sentinel.features.event_cells import EventCells
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.serve.batch import Given
from sentinel.transport.http.outcomes import read_outcome
from sentinel.transport.http.tellers import WITHOUT_KEY
from sentinel.transport.wide.handed import Handed, encode_handed, is_handed, read_handed
from sentinel.transport.wide.seal import Seal


class Travelling(NamedTuple):
    """An event between two keys.

    `id` is of its transaction, `card` the value of the schema's first key, by which decisions are kept apart.
    `content` is the canonical JSON of a transaction, or of an outcome; `packed` are its cells (see EventCells).
    `numbers` has, for each group that it has passed, which event of its key it was; 0 where it has no such key.
    `known` is false for an outcome whose transaction was not seen here. `given` is what a front has answered (the JSON
    of a `Given`), empty where none has.
    """

    id: str
    card: str
    content: bytes
    packed: bytes
    numbers: tuple[int, ...] = ()
    known: bool = True
    given: bytes = b""


class Reader:
    """Reads what the topics bring. Secrets are hidden here, before anything travels on.

    `seal` is that of the fronts' answers in the topic of transactions; without it none is taken.
    """

    def __init__(self, plan: FeaturePlan, secrets: Secrets, seal: Seal | None = None) -> None:
        """Raises InvalidDefinition for secrets without a key."""
        self._seal = seal
        self._schema, self._cells = plan.schema, EventCells(plan, MemoryStore(plan))
        self._reader = TransactionReader(plan.schema, secrets)
        self._of_fronts = TransactionReader(plan.schema, secrets, takes_parts=True)  # who have hidden what is secret
        self._schema.make_ready()

    def transaction(self, raw: bytes, received_us: int) -> Travelling:
        """A transaction, as it was sent or as a front hands it over with its answer.

        Raises InvalidInput or BadBody, as the HTTP call would answer.
        """
        if not is_handed(raw):
            return self._travelling(self._reader.decode(raw), received_us)
        if self._seal is None:
            raise BadBody(
                "It claims to be the answer of a front, and this job knows none: whoever may write this topic could "
                "say what was decided. Where there are fronts, give each worker their key, SENTINEL_FRONTS_KEY_FILE"
            )
        found, given = read_handed(self._of_fronts, self._seal.opened(raw))
        return self._travelling(found, received_us)._replace(given=_encode_given(given))

    def _travelling(self, found: Transaction, received_us: int) -> Travelling:
        schema = self._schema
        name: str | None = getattr(found, schema.id)
        if name is None:
            raise InvalidInput(
                "Expected an id: what is read again after a failure must have the same", f"$.{schema.id}"
            )
        if getattr(found, schema.time) is None:
            setattr(found, schema.time, received_us)
        time_us = getattr(found, schema.time)
        if time_us > received_us + FARTHEST_AHEAD_US:
            raise InvalidInput(
                f"Expected a time at most a day ahead of its arrival ({iso(received_us)}), got {iso(time_us)}",
                f"$.{schema.time}",
            )
        card = (getattr(found, schema.keys[0]) if schema.keys else None) or name
        return Travelling(name, card, schema.encode(found), self._cells.pack(found, received_us))

    def outcome(self, raw: bytes, received_us: int) -> Travelling:
        """An outcome; which keys it is about is only known where its transaction was seen. Raises as `transaction`."""
        found = read_outcome(self._reader, raw, WITHOUT_KEY, received_us)
        return Travelling(found.transaction_id, "", msgspec.json.encode(found), self._cells.pack(found, received_us))


def as_sent(event: Travelling) -> bytes:
    """A transaction as it was sent, secrets hidden, with the answer of a front if it had one, without its seal."""
    if not event.given:
        return event.content
    given = decode_given(event.given)
    return encode_handed(Handed(given.answer, given.features, msgspec.Raw(event.content), given.revision))


def outcome_in(content: bytes) -> Outcome:
    """The outcome that travels."""
    return _outcome(content)


decode_given = msgspec.json.Decoder(Given).decode
_encode_given = msgspec.json.Encoder().encode
_outcome = msgspec.json.Decoder(Outcome).decode
