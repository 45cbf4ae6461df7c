"""Secrets: what is a keyed hash from the moment it is read, and the key of it."""

import contextlib
import hmac
import os
import re
import secrets as random_secrets
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import SHORTEST, digits_of, replace_card_numbers

CardNumbers: TypeAlias = Literal["hash", "refuse", "allow"]
"""What happens to a card number in a field that is not declared secret."""

SHORTEST_KEY = 32
KEY_FILE, KNOWN_FILE = "hash.key", "hash-keys.json"
"""In a home folder: the key that was made there because none was given, and fingerprints of the keys that were used."""

_OWN = "0"  # the id of a key that was made
_NUMBERED = re.compile(r"([1-9][0-9]{0,3}):(.*)", re.DOTALL)
_HIDDEN = re.compile(r"s[0-9]{1,4}_[a-z2-7]{26}")
_FEWEST_SIGNS = 10
_SIGNS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [one + other for one in _SIGNS for other in _SIGNS]
_SHIFTS = range(120, -1, -10)  # 128 bits and two zeros, ten bits at a time


def is_hidden(text: str) -> bool:
    """Whether a text is a keyed hash already.

    >>> is_hidden(HashKey("1", b"k" * 32).hash("4111111111111111")), is_hidden("c-17")
    (True, False)
    """
    return text[:1] == "s" and _HIDDEN.fullmatch(text) is not None


class HashKey:
    """A key of HMAC-SHA-256; its `id` is in every hash, so that a key can follow another."""

    def __init__(self, key_id: str, key: bytes) -> None:
        self.id = key_id
        self._begun = hmac.new(key, digestmod="sha256")
        self._prefix = f"s{key_id}_"

    def hash(self, text: str) -> str:
        """128 bits of the keyed hash of a text, as `s1_` and 26 letters and digits."""
        mac = self._begun.copy()  # the key's part of the work is done
        mac.update(text.encode())
        bits = int.from_bytes(mac.digest()[:16], "big") << 2
        return self._prefix + "".join([_PAIRS[bits >> at & 1023] for at in _SHIFTS])

    @property
    def fingerprint(self) -> str:
        """Tells this key from others, and nothing else."""
        return self.hash("sentinel: which key is this")[-16:]


class Secrets:
    """Hides what is secret, with a key; without one nothing can be hidden, and what would have to be is an error.

    `card_numbers` is what happens to card numbers in fields that are not declared secret. `make_key` is asked for the
    key of these once there is one, where the operator gave none.
    """

    def __init__(
        self,
        key: HashKey | None = None,
        card_numbers: CardNumbers = "hash",
        make_key: Callable[[], HashKey] | None = None,
    ) -> None:
        self._key = key
        self.card_numbers: CardNumbers = card_numbers
        self._make_key = make_key

    @property
    def has_given_key(self) -> bool:
        """Whether the operator gave the key: a schema that declares secrets needs that."""
        return self._key is not None and self._key.id != _OWN

    def hidden(self, text: str) -> str:
        """The keyed hash of a secret text, the same for a long number with spaces or dashes and without.

        What is a keyed hash already stays as it is. Raises InvalidDefinition without a key.
        """
        if is_hidden(text):
            return text
        digits = digits_of(text)
        return self._hash(digits if digits is not None and len(digits) >= SHORTEST else text)

    def scrubbed(self, text: str, path: str = "$") -> str:
        """The text with keyed hashes in the place of card numbers.

        Raises InvalidInput with `path` for a text with one, where they are to be refused.
        """
        if self.card_numbers == "allow":
            return text
        found = replace_card_numbers(text, self._hash if self.card_numbers == "hash" else lambda _: "")
        if found != text and self.card_numbers == "refuse":
            raise InvalidInput("Expected no card number; send it in a field that is declared secret, or a token", path)
        return found

    def _hash(self, text: str) -> str:
        if self._key is None and self._make_key is not None:
            self._key = self._make_key()
        if self._key is None:
            raise InvalidDefinition(
                "a secret or a card number has to be hashed, and there is no key; set SENTINEL_HASH_KEY_FILE"
            )
        return self._key.hash(text)


def key_of(text: str) -> HashKey:
    """The key in a setting or a file: 32 characters or more, after a number and a colon when it is not the first.

    Raises InvalidDefinition, which does not show it.
    """
    numbered = _NUMBERED.fullmatch(text.strip())
    key_id, key = numbered.groups() if numbered else ("1", text.strip())
    if len(key) < SHORTEST_KEY or len(set(key)) < _FEWEST_SIGNS:
        raise InvalidDefinition(
            f"the hash key is too short or too simple: it needs {SHORTEST_KEY} random characters, "
            "as from `openssl rand -base64 32`"
        )
    return HashKey(key_id, key.encode())


def read_secrets(home: Path, key: str | None, key_file: Path | None, card_numbers: CardNumbers) -> Secrets:
    """The secrets of a home folder, with the key of a setting or a file; without either one is made there when needed.

    Raises InvalidDefinition for a key that is short, cannot be read, or is not the one known by its id here.
    """
    if key is not None and key_file is not None:
        raise InvalidDefinition("hash_key and hash_key_file are both given; give one of them")
    if key_file is not None:
        try:
            key = key_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidDefinition(f"the hash key cannot be read from {key_file}: {error}") from None
    if key is None:
        return Secrets(None, card_numbers, lambda: _own_key(home))
    found = key_of(key)
    _check_known(home, found)
    return Secrets(found, card_numbers)


def _own_key(home: Path) -> HashKey:
    path = home / KEY_FILE
    if not path.exists():
        draft = _written(path, random_secrets.token_bytes(SHORTEST_KEY))
        with contextlib.suppress(FileExistsError):  # another process was quicker: its key counts
            os.link(draft, path)
        draft.unlink()
        _sync_names(home)
    key = path.read_bytes()
    if len(key) != SHORTEST_KEY:
        raise InvalidDefinition(f"{path} is not as it was written; restore it from a copy")
    return HashKey(_OWN, key)


def _check_known(home: Path, key: HashKey) -> None:
    """The same id always means the same key: with another one every card would be a new one."""
    path = home / KNOWN_FILE
    try:
        known = msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else {}
    except msgspec.MsgspecError as error:
        raise InvalidDefinition(f"{path} is not as it was written ({error}); restore it from a copy") from None
    before = known.get(key.id)
    if before is None:
        _written(path, msgspec.json.encode(known | {key.id: key.fingerprint})).replace(path)
        _sync_names(home)
    elif before != key.fingerprint:
        raise InvalidDefinition(
            f"the hash key {key.id} is not the one that {home} was used with; give that one, "
            f"or number the new one: {int(key.id) + 1}:..."
        )


def _written(path: Path, data: bytes) -> Path:
    """A draft of a file, durable, for its owner only. Raises InvalidDefinition when it cannot be written."""
    draft = path.with_name(f".{path.name}.{random_secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InvalidDefinition(f"{path} cannot be written: {error.strerror}") from None
    return draft


def _sync_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
