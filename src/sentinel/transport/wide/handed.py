"""What a front hands over to the topic `transactions`: a transaction, and the answer that it was given."""

import msgspec

from sentinel.errors import BadBody, InvalidInput
from sentinel.events.reader import TransactionReader
from sentinel.events.wire import Transaction
from sentinel.policy.thresholds import ACTIONS
from sentinel.serve.batch import Given, GivenDecision


class Handed(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """A transaction in its canonical form, secrets hidden, with its answer.

    `features` are what the model was asked with, in its order, null where missing: whoever has them can score again.
    `revision` is that of the deployment by which the front decided; what was written before it said so has none.
    """

    given: GivenDecision
    features: list[float | None]
    transaction: msgspec.Raw
    revision: int | None = None


_BEGIN = b'{"given":{'  # no transaction begins so: none has an object as a value
_WORDS = frozenset(map(str, ACTIONS))
_decode = msgspec.json.Decoder(Handed).decode
encode_handed = msgspec.json.Encoder().encode


def is_handed(raw: bytes) -> bool:
    """Whether a message is one that a front has handed over.

    >>> is_handed(b'{"given":{"transaction_id":"t"}}'), is_handed(b'{"given":"name","amount":1}')
    (True, False)
    """
    return raw.startswith(_BEGIN)


def decode_handed(raw: bytes) -> Handed:
    """What a front has handed over. Raises BadBody for what none would write."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadBody(f"Expected a transaction with the answer of a front of this version: {error}") from None


def read_handed(reader: TransactionReader, raw: bytes) -> tuple[Transaction, Given]:
    """The transaction of such a message, and what was given. `reader` takes texts whose secrets are hidden already.

    Raises InvalidInput, BadBody.
    """
    handed = decode_handed(raw)
    found, answer = reader.decode(handed.transaction), handed.given
    if answer.transaction_id != getattr(found, reader.schema.id):
        raise InvalidInput("Expected the answer to this transaction, got that to another one", "$.given")
    if answer.decision not in _WORDS or (answer.would_be is not msgspec.UNSET and answer.would_be not in _WORDS):
        raise InvalidInput(f"Expected a decision that is one of {', '.join(sorted(_WORDS))}", "$.given.decision")
    return found, Given(answer, handed.features, handed.revision)
