"""Reads transactions from outside: as the schema says, with secrets and card numbers hidden at once."""

import operator
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import LONGEST, SHORTEST, digits_of, may_hold_card_number
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets, is_hidden
from sentinel.events.wire import MAX_ID, MAX_TEXT, Transaction

FIRST, LAST = 6, 4
"""Digits of a card number that may be kept."""

Seal: TypeAlias = Callable[[str, str, str], str]
"""Encrypts for a subject, as `card_id=c-7`, the text of a field: (subject, field, text)."""

_SHORTEST_FOR_LAST = 14  # fewer digits would leave too few to guess


class TransactionReader:
    """Reads the transactions of one schema.

    `seal` encrypts what is personal; without it nothing is kept of that but its hash, as of a file. Raises
    InvalidDefinition when the schema declares secrets and the operator gave no key.
    """

    def __init__(self, schema: Schema, secrets: Secrets, seal: Seal | None = None) -> None:
        if schema.hidden and not secrets.has_given_key:
            raise InvalidDefinition(
                f"the schema declares {', '.join(schema.hidden)} secret, and there is no key to hash with; set "
                "SENTINEL_HASH_KEY_FILE (or SENTINEL_HASH_KEY), the same for training and serving"
            )
        self.schema = schema
        self._secrets = secrets
        self._seal = seal
        self._hide = _hider(schema, secrets, self._keep_sealed) if schema.hidden else None
        self._searches = bool(schema.searched) and secrets.card_numbers != "allow"
        names = schema.searched
        self._texts_of: Callable[[Transaction], tuple[str | None, ...]] = (
            operator.attrgetter(*names) if len(names) > 1 else lambda transaction: (getattr(transaction, names[0]),)
        )

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> Transaction:
        """One transaction from its JSON bytes. Raises InvalidInput that names the field and what it expects."""
        transaction = self.schema.decode(raw)
        if self._hide is not None:
            self._hide(transaction)
        if self._searches and may_hold_card_number(raw if type(raw) is bytes else bytes(raw)):
            self._scrub(transaction)
        return transaction

    def decode_array(self, raw: bytes) -> list[Transaction] | None:
        """All transactions of a JSON array at once, or None where something is wrong with one of them or all."""
        transactions = self.schema.decode_array(raw)
        if transactions is None:
            return None
        try:
            if self._hide is not None:
                for transaction in transactions:
                    self._hide(transaction)
            if self._searches and may_hold_card_number(raw):
                for transaction in transactions:
                    self._scrub(transaction)
        except InvalidInput:
            return None
        return transactions

    def text(self, field: str, text: str) -> str:
        """The text that stands for this one in a field: what a decision is found by. Raises InvalidInput."""
        if field in self.schema.hidden:
            return self._secrets.hidden(text)
        return self._secrets.scrubbed(text, f"$.{field}") if field in self.schema.searched else text

    def _keep_sealed(self, transaction: Transaction, name: str, text: str | None) -> None:
        """Keep what is personal encrypted, unless no one knows whose it is or it is a hash already."""
        sealed, subject = self.schema.sealed[name], self.schema.personal[name]
        if getattr(transaction, sealed) is not None:
            raise InvalidInput(f"Expected none: it is made from {name}", f"$.{sealed}")
        whose = getattr(transaction, subject)
        if self._seal is not None and text is not None and whose is not None and not is_hidden(text):
            setattr(transaction, sealed, self._seal(f"{subject}={self.text(subject, whose)}", name, text))

    def _scrub(self, transaction: Transaction) -> None:
        texts = self._texts_of(transaction)
        if may_hold_card_number("|".join(filter(None, texts)).encode()):
            for name, text in zip(self.schema.searched, texts, strict=True):
                if text is not None and len(text) >= SHORTEST:
                    self._scrub_text(transaction, name, text)

    def _scrub_text(self, transaction: Transaction, name: str, text: str) -> None:
        found = self._secrets.scrubbed(text, f"$.{name}")
        most = MAX_ID if name == self.schema.id else MAX_TEXT
        if len(found) > most:
            raise InvalidInput(f"Expected at most {most} characters, its card numbers hashed", f"$.{name}")
        setattr(transaction, name, found)


def _hider(
    schema: Schema, secrets: Secrets, keep_sealed: Callable[[Transaction, str, str | None], None]
) -> Callable[[Transaction], None]:
    fields = [
        (name, operator.attrgetter(name), schema.kept_digits.get(name), name in schema.personal)
        for name in sorted(schema.hidden, key=lambda name: name in schema.personal)  # subjects before what is theirs
    ]

    def hide(transaction: Transaction) -> None:
        for name, text_of, kept, is_personal in fields:
            text = text_of(transaction)
            if kept is not None:
                _keep(transaction, name, text, kept)
            if is_personal:
                keep_sealed(transaction, name, text)
            if text is not None:
                setattr(transaction, name, secrets.hidden(text))

    return hide


def _keep(transaction: Transaction, name: str, text: str | None, kept: tuple[str, str]) -> None:
    """Keep digits of a secret. What is hidden already comes with them, as in a file that we wrote."""
    came = [getattr(transaction, one) for one in kept]
    if text is not None and is_hidden(text):
        for one, digits, most in zip(kept, came, (FIRST, LAST), strict=True):
            if digits is not None and not (digits.isascii() and digits.isdecimal() and len(digits) == most):
                raise InvalidInput(f"Expected {most} digits", f"$.{one}")
        return
    for one, digits in zip(kept, came, strict=True):
        if digits is not None:
            raise InvalidInput(f"Expected none: it is taken from {name}", f"$.{one}")
    for one, digits in zip(kept, kept_of(text), strict=True):
        setattr(transaction, one, digits)


def kept_of(text: str | None) -> tuple[str | None, str | None]:
    """The first six and the last four digits of a card number, with spaces or dashes or without.

    >>> kept_of("4111-1111 1111-1234"), kept_of("411111111111"), kept_of("c-17")
    (('411111', '1234'), ('411111', None), (None, None))
    """
    digits = None if text is None else digits_of(text)
    if digits is None or not SHORTEST <= len(digits) <= LONGEST:
        return None, None
    return digits[:FIRST], digits[-LAST:] if len(digits) >= _SHORTEST_FOR_LAST else None
