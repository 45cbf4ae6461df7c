"""What a front hands over to the topic `transactions`: a transaction, and the answer that it was given."""

import msgspec

from sentinel.errors import BadBody, InvalidInput
from sentinel.events.reader import TransactionReader
from sentinel.events.wire import Transaction
from sentinel.model.folder_models import VERSION
from sentinel.policy.breaker import Circuit
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


_LONGEST_RULE, _LONGEST_REASON = 80, 256
_BEGIN = b'{"given":{'  # no transaction begins so: none has an object as a value
_WORDS, _CIRCUITS = frozenset(map(str, ACTIONS)), frozenset(map(str, Circuit))
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
    if what := _not_of_a_front(answer, handed.features):
        raise InvalidInput(f"Expected the answer of a front, got a {what} that none has", "$.given")
    if answer.decision not in _WORDS or (answer.would_be is not msgspec.UNSET and answer.would_be not in _WORDS):
        raise InvalidInput(f"Expected a decision that is one of {', '.join(sorted(_WORDS))}", "$.given.decision")
    return found, Given(answer, handed.features, handed.revision)


def _not_of_a_front(answer: GivenDecision, features: list[float | None]) -> str | None:
    """What no front writes, and no view, reason or score curve that follows the log could take; None where all is well.

    It does not say that a front has written the rest: whoever may write to the topic may write that.
    """
    rules = () if answer.rules is msgspec.UNSET else tuple(answer.rules)
    ages_ms = 0.0 if answer.profiles_age_ms is None else answer.profiles_age_ms
    wrong = {
        "probability": not 0.0 <= answer.fraud_probability <= 1.0,
        "model": VERSION.fullmatch(answer.model_version) is None,
        "row of features": not features,
        "name of a rule": not all(_is_line(one, _LONGEST_RULE) for one in rules),
        "reason": answer.degraded is not None and not _is_line(answer.degraded, _LONGEST_REASON),
        "state of the circuit breaker": answer.circuit_breaker_state not in _CIRCUITS,
        "age of profiles": ages_ms < 0.0,
    }
    return next((name for name, is_so in wrong.items() if is_so), None)


def _is_line(text: str, longest: int) -> bool:
    return 0 < len(text) <= longest and text.isprintable()
