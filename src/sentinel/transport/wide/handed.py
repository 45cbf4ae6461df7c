"""What a front hands over to the topic `transactions`: a transaction, and the answer that it was given."""

import msgspec

from sentinel.errors import BadBody
from sentinel.serve.batch import Decision

AS_OF, NO_PROFILES = "as_of", "none"
"""What the features of an answer are of: profiles as they were some time ago, or none, and then rules decided."""


class GivenDecision(Decision, frozen=True, gc=False, kw_only=True):
    """The answer of a front: as that of a server, and how old the profiles were; null where there were none."""

    profiles_age_ms: float | None


class Handed(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A transaction in its canonical form, secrets hidden, with its answer.

    `features` are what the model was asked with, in its order, null where missing: whoever has them can score again.
    """

    given: GivenDecision
    features: list[float | None]
    transaction: msgspec.Raw


_BEGIN = b'{"given":{'  # no transaction begins so: none has an object as a value
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
