"""Reads transactions from outside: as the schema says, with secrets and card numbers hidden at once."""

import operator
import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import LONGEST, SHORTEST, digits_of, may_hold_card_number
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets, is_hidden
from sentinel.events.wire import HASHED_BEFORE, MAX_ID, MAX_TEXT, Seal, Transaction, Unsealed, before_of

FIRST, LAST = 6, 4
"""Digits of a card number that may be kept."""

_LONGEST_DOMAIN = 253
_DOMAIN = r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_][\w-]{1,62}"
"""A name of the internet, in letters of any script: two parts or more, the last of which is no number."""

_BLANK = re.compile(r"[\s@]")
_SHORTEST_FOR_LAST = 14  # fewer digits would leave too few to guess


class TransactionReader:
    """Reads the transactions of one schema.

    `seal` encrypts what is personal, or has it wait until it is recorded (`Unsealed`); without it nothing is kept of
    that but its hash, as of a file. `takes_parts` is for who sends on what was read from a file: only there may a text
    that is a hash already come with the digits or the domain that were taken from it before. Raises InvalidDefinition
    when the schema declares secrets and the operator gave no key.
    """

    def __init__(
        self, schema: Schema, secrets: Secrets, seal: Seal | type[Unsealed] | None = None, *, takes_parts: bool = False
    ) -> None:
        if schema.hidden and not secrets.has_given_key:
            raise InvalidDefinition(
                f"the schema declares {', '.join(schema.hidden)} secret, and there is no key to hash with; set "
                "SENTINEL_HASH_KEY_FILE (or SENTINEL_HASH_KEY), the same for training and serving; "
                "`openssl rand -base64 32 > hash.key` makes one"
            )
        self.schema = schema
        self._secrets = secrets
        self._seal, self._takes_parts = seal, takes_parts
        self._hidden = _hidden_fields(schema)
        self._looked_up = [(f"{name}_{column}", name) for name, one in schema.tables.items() for column in one.columns]
        self._taken = [(name, operator.attrgetter(name), parts) for name, parts in taken_parts(schema).items()]
        self._searches = bool(schema.searched) and secrets.card_numbers != "allow"
        names = schema.searched
        self._texts_of: Callable[[Transaction], tuple[str | None, ...]] = (
            operator.attrgetter(*names) if len(names) > 1 else lambda transaction: (getattr(transaction, names[0]),)
        )

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> Transaction:
        """One transaction from its JSON bytes. Raises InvalidInput that names the field and what it expects."""
        return self.cleaned(self.schema.decode(raw), raw)

    def cleaned(self, transaction: Transaction, raw: bytes | memoryview | msgspec.Raw) -> Transaction:
        """What was decoded from these bytes, with secrets and card numbers hidden, in place. Raises InvalidInput."""
        if transaction.hashed_before is not UNSET:
            raise InvalidInput("Expected none: it is made when the hash key was changed", f"$.{HASHED_BEFORE}")
        if self._looked_up:
            self._refuse_looked_up(transaction)
        self._take(transaction)
        if self._searches and may_hold_card_number(raw if type(raw) is bytes else bytes(raw)):
            self._scrub(transaction)
        if self._hidden:
            self._refuse_sealed(transaction)
            self._hide(transaction)
        return transaction

    def decode_array(self, raw: bytes) -> list[Transaction] | None:
        """All transactions of a JSON array at once, or None where something is wrong with one of them or all."""
        transactions = self.schema.decode_array(raw)
        if transactions is None or any(one.hashed_before is not UNSET for one in transactions):
            return None
        try:
            for transaction in transactions if self._looked_up else ():
                self._refuse_looked_up(transaction)
            for transaction in transactions if self._taken else ():
                self._take(transaction)
            if self._searches and may_hold_card_number(raw):
                for transaction in transactions:
                    self._scrub(transaction)
            for transaction in transactions if self._hidden else ():
                self._refuse_sealed(transaction)
        except InvalidInput:
            return None
        if self._hidden:
            for transaction in transactions:
                self._hide(transaction)
        return transactions

    def text(self, field: str, text: str) -> str:
        """The text that stands for this one in a field. Raises InvalidInput."""
        return self._text(self._secrets, field, text)

    def texts(self, field: str, text: str) -> list[str]:
        """What a decision is found by: the text that stands for this one in a field, and the one before a rotation.

        Raises InvalidInput.
        """
        known = [self._secrets] if self._secrets.before is None else [self._secrets, self._secrets.before]
        return list(dict.fromkeys(self._text(one, field, text) for one in known))

    def _text(self, secrets: Secrets, field: str, text: str) -> str:
        if field in self.schema.hidden:
            return secrets.hidden(text)
        return self._scrubbed(field, text, secrets) if field in self.schema.searched else text

    def _take(self, transaction: Transaction) -> None:
        """Take digits and domains of fields, before these are hidden. Raises InvalidInput where others came along."""
        for name, text_of, parts in self._taken:
            text = text_of(transaction)
            for part, take, form, said in parts:
                came = getattr(transaction, part)
                if text is not None and is_hidden(text):
                    if came is not None and not self._takes_parts:
                        raise InvalidInput(
                            f"Expected none: {name} is hashed, and nothing can be taken from it", f"$.{part}"
                        )
                    if came is not None and re.fullmatch(form, came) is None:
                        raise InvalidInput(f"Expected {said}", f"$.{part}")
                    continue
                found = None if text is None else take(text)
                if came is not None and came != found:
                    raise InvalidInput(f"Expected none: it is taken from {name}", f"$.{part}")
                setattr(transaction, part, found)

    def _refuse_looked_up(self, transaction: Transaction) -> None:
        """Raises InvalidInput for fields that are not the sender's to say."""
        for field, table in self._looked_up:
            if getattr(transaction, field) is not None:
                raise InvalidInput(f"Expected none: it is looked up in the table {table}", f"$.{field}")

    def _refuse_sealed(self, transaction: Transaction) -> None:
        """Raises InvalidInput for fields that are ours to make."""
        for field in self._hidden:
            if field.sealed is not None and getattr(transaction, field.sealed) is not None:
                raise InvalidInput(f"Expected none: it is made from {field.name}", f"$.{field.sealed}")

    def _hide(self, transaction: Transaction) -> None:
        """Hide what is secret and seal what is personal; last, for what is refused."""
        for field in self._hidden:
            text = field.text_of(transaction)
            if text is None:
                continue
            if field.sealed is not None:
                self._keep_sealed(transaction, field.name, text)
            setattr(transaction, field.name, hidden := self._secrets.hidden(text))
            if self._secrets.before is not None:
                _note_before(transaction, field.name, hidden, self._secrets.before.hidden(text))

    def _keep_sealed(self, transaction: Transaction, name: str, text: str) -> None:
        """Keep what is personal encrypted, unless no one knows whose it is or it is a hash already."""
        subject = self.schema.personal[name]
        whose = getattr(transaction, subject)
        if self._seal is not None and whose is not None and not is_hidden(text):
            names = self.texts(subject, whose)
            before = before_of(transaction, subject) or names[-1]
            former = f"{subject}={before}" if before != names[0] else None
            setattr(transaction, self.schema.sealed[name], self._seal(f"{subject}={names[0]}", name, text, former))

    def _scrub(self, transaction: Transaction) -> None:
        texts = self._texts_of(transaction)
        if may_hold_card_number("|".join(filter(None, texts)).encode()):
            for name, text in zip(self.schema.searched, texts, strict=True):
                if text is not None and len(text) >= SHORTEST:
                    self._scrub_text(transaction, name, text)

    def _scrub_text(self, transaction: Transaction, name: str, text: str) -> None:
        found = self._scrubbed(name, text, self._secrets)
        setattr(transaction, name, found)
        if self._secrets.before is not None:
            _note_before(transaction, name, found, self._secrets.before.scrubbed(text))

    def _scrubbed(self, name: str, text: str, secrets: Secrets) -> str:
        """Without card numbers. Raises InvalidInput where the hashes in their place are too long for the field."""
        found, most = secrets.scrubbed(text, f"$.{name}"), MAX_ID if name == self.schema.id else MAX_TEXT
        if len(text) <= most < len(found):
            raise InvalidInput(f"Expected at most {most} characters, its card numbers hashed", f"$.{name}")
        return found


class _Hidden(NamedTuple):
    """A field that is hidden, and the field of its sealed text."""

    name: str
    text_of: Callable[[Transaction], str | None]
    sealed: str | None


def _hidden_fields(schema: Schema) -> list[_Hidden]:
    """Subjects stand before what is theirs, which is sealed for them as they are stored."""
    return [
        _Hidden(name, operator.attrgetter(name), schema.sealed.get(name))
        for name in sorted(schema.hidden, key=lambda name: name in schema.personal)
    ]


def _note_before(transaction: Transaction, name: str, text: str, before: str) -> None:
    """Keep what a field was before the hash key was changed, unless it is the same."""
    if before != text:
        if transaction.hashed_before is UNSET:
            transaction.hashed_before = {}
        transaction.hashed_before[name] = before


class Part(NamedTuple):
    """A text that is taken from a field: where it goes, how it is taken, and its form, as a pattern and in words."""

    name: str
    take: Callable[[str], str | None]
    form: str
    said: str


def taken_parts(schema: Schema) -> dict[str, list[Part]]:
    """What is taken from which field."""
    found: dict[str, list[Part]] = {}
    for name, (first, last) in schema.kept_digits.items():
        found[name] = [
            Part(first, lambda text: kept_of(text)[0], rf"[0-9]{{{FIRST}}}", f"{FIRST} digits"),
            Part(last, lambda text: kept_of(text)[1], rf"[0-9]{{{LAST}}}", f"{LAST} digits"),
        ]
    for name, domain in schema.kept_domains.items():
        found.setdefault(name, []).append(Part(domain, domain_of, _DOMAIN, "a domain"))
    return found


def domain_of(text: str) -> str | None:
    """The domain of an e-mail address, in small letters; None for what is not one.

    >>> domain_of("Ann@Mail.Example "), domain_of("ann@"), domain_of("@john.doe"), domain_of("ann@x 555-1234")
    ('mail.example', None, None, None)
    """
    before, _, domain = text.strip().lower().rpartition("@")
    is_address = before and not _BLANK.search(before) and len(domain) <= _LONGEST_DOMAIN
    return domain if is_address and re.fullmatch(_DOMAIN, domain) else None


def kept_of(text: str) -> tuple[str | None, str | None]:
    """The first six and the last four digits of a card number, with spaces or dashes or without.

    >>> kept_of("4111-1111 1111-1234"), kept_of("411111111111"), kept_of("c-17")
    (('411111', '1234'), ('411111', None), (None, None))
    """
    digits = digits_of(text)
    if digits is None or not SHORTEST <= len(digits) <= LONGEST:
        return None, None
    return digits[:FIRST], digits[-LAST:] if len(digits) >= _SHORTEST_FOR_LAST else None
