"""Secrets: what is a keyed hash from the moment it is read, and the key of it."""

import contextlib
import hmac
import re
import secrets as random_secrets
from collections.abc import Callable, Set
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from sentinel.durable import create_durably, make_folder, write_durably
from sentinel.errors import InvalidDefinition, InvalidInput, StorageProblem
from sentinel.events.card_numbers import SHORTEST, digits_of, is_card_number, replace_card_numbers

CardNumbers: TypeAlias = Literal["hash", "refuse", "allow"]
"""What happens to a card number in a field that is not declared secret."""

SHORTEST_KEY = 32
KEY_FILE, KNOWN_FILE = "hash.key", "hash-keys.json"
"""In a home folder: the key that was made there because none was given, and fingerprints of the keys that were used."""

_OWN = "0"  # the id of a key that was made
_NUMBERED = re.compile(r"([1-9][0-9]{0,3}):(.*)", re.DOTALL)
_HIDDEN = re.compile(r"s[0-9]{1,4}_[a-z2-7]{26}")
_ANY_HIDDEN = re.compile(r"s([0-9]{1,4})_[a-z2-7]{26}")
_POINTED = re.compile(r"[./_]")
_FEWEST_SIGNS = 10
_TO_GO_ON = (
    f"To go on without it, remove it from {KNOWN_FILE}: cards that were hashed with it are new ones then, and ids that "
    "were may be decided again"
)
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
    key of these once there is one, where the operator gave none. `before` hides the same with the key that this one
    follows, as long as that is needed; else it is None.
    """

    def __init__(
        self,
        key: HashKey | None = None,
        card_numbers: CardNumbers = "hash",
        make_key: Callable[[], HashKey] | None = None,
        before: "Secrets | None" = None,
    ) -> None:
        self._key = key
        self.before = before
        self.card_numbers: CardNumbers = card_numbers
        self._make_key = make_key

    @property
    def key_id(self) -> str | None:
        """The number of the key; None while there is none."""
        return None if self._key is None else self._key.id

    @property
    def has_given_key(self) -> bool:
        """Whether the operator gave the key: a schema that declares secrets needs that."""
        return self._key is not None and self._key.id != _OWN

    def hidden(self, text: str) -> str:
        """The keyed hash of a secret text, the same for a long number with spaces or dashes and without.

        Points, slashes and lines are left out of card numbers only: 12/345 and 123/45 are two things.
        What is a keyed hash already stays as it is. Raises InvalidDefinition without a key.
        """
        if is_hidden(text):
            return text
        digits = digits_of(text)
        if digits is None or len(digits) < SHORTEST or (_POINTED.search(text) and not is_card_number(digits)):
            return self._hash(text)
        return self._hash(digits)

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


def differ_in_keys_only(one: str, other: str, known: Set[str] | None = None) -> bool:
    """Whether two texts are equal but for keyed hashes that different keys have made: of what, nobody can tell.

    `known` are the numbers of the keys that may have; None where any may.

    >>> first, second = HashKey("1", b"k" * 32), HashKey("2", b"l" * 32)
    >>> differ_in_keys_only(first.hash("4111"), second.hash("4111")), differ_in_keys_only("c-17", second.hash("4111"))
    (True, False)
    >>> differ_in_keys_only(first.hash("4111"), first.hash("4112"))
    False
    """
    if _ANY_HIDDEN.sub("", one) != _ANY_HIDDEN.sub("", other):
        return False
    ids, others = _ANY_HIDDEN.findall(one), _ANY_HIDDEN.findall(other)
    if known is not None and not known >= {*ids, *others}:
        return False
    return len(ids) == len(others) > 0 and all(a != b for a, b in zip(ids, others, strict=True))


def known_keys(home: Path) -> frozenset[str]:
    """The numbers of the hash keys that were ever used in a home folder. Raises InvalidDefinition."""
    return frozenset(_known(home))


class GivenKey(NamedTuple):
    """A key as an operator gives it: in the setting `name`, or in a file that the setting `<name>_file` names."""

    name: str
    text: str | None
    file: Path | None

    def read(self) -> HashKey | None:
        """The key, None where none is given. Raises InvalidDefinition for two, or one that cannot be used."""
        if self.text is not None and self.file is not None:
            raise InvalidDefinition(f"{self.name} and {self.name}_file are both given; give one of them")
        if self.file is None:
            return None if self.text is None else key_of(self.text)
        try:
            return key_of(self.file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidDefinition(f"the hash key cannot be read from {self.file}: {error}") from None


def read_secrets(home: Path, given: GivenKey, given_before: GivenKey, card_numbers: CardNumbers) -> Secrets:
    """The secrets of a home folder, with a key and the one that it follows; without any, one is made when needed.

    Raises InvalidDefinition for a key that is short, cannot be read, or is not the one known by its id here;
    StorageProblem for one that was made here and is damaged.
    """
    key, before = given.read(), given_before.read()
    if key is None:
        if before is not None:
            raise InvalidDefinition(f"{given_before.name} is given without {given.name}, which follows it; give both")
        _check_none_is_missing(home)
        own = _own_key(home) if (home / KEY_FILE).exists() else None  # what is wrong with it is told now
        return Secrets(own, card_numbers, lambda: _own_key(home))
    if before is not None:
        if before.id == key.id:
            raise InvalidDefinition(
                f"the hash key and the one before it have the same number, {key.id}; number the new one: "
                f"{int(key.id) + 1}:..."
            )
        _check_known(home, before)
    _check_known(home, key)
    return Secrets(key, card_numbers, before=None if before is None else Secrets(before, card_numbers))


def _own_key(home: Path) -> HashKey:
    """The key that is made in a home folder. Raises StorageProblem when it cannot be written or read there."""
    path = home / KEY_FILE
    try:
        if not path.exists():
            make_folder(home, 0o700)
            with contextlib.suppress(FileExistsError):  # another process was quicker: its key counts
                create_durably(path, random_secrets.token_bytes(SHORTEST_KEY), 0o600)
        data = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise StorageProblem(
            f"{KEY_FILE} of the home folder cannot be written or read: {error.strerror}; repair the disk"
        ) from None
    if len(data) != SHORTEST_KEY:
        raise StorageProblem(f"{KEY_FILE} of the home folder is not as it was written; put it back from a copy")
    key = HashKey(_OWN, data)
    _check_known(home, key)
    return key


def _check_none_is_missing(home: Path) -> None:
    """Raise InvalidDefinition where a key was used and there is none now: every card would be a new one."""
    known = _known(home)
    given = [key_id for key_id in known if key_id != _OWN]
    if given:
        raise InvalidDefinition(
            f"the home folder was used with the hash key {', '.join(given)}, and none is given now; give it "
            f"(SENTINEL_HASH_KEY_FILE). {_TO_GO_ON}"
        )
    if _OWN in known and not (home / KEY_FILE).exists():
        raise InvalidDefinition(f"{KEY_FILE} is gone from the home folder; put it back from a copy. {_TO_GO_ON}")


def _check_known(home: Path, key: HashKey) -> None:
    """The same id always means the same key: with another one every card would be a new one."""
    path, known = home / KNOWN_FILE, _known(home)
    before = known.get(key.id)
    if before is None:
        try:
            make_folder(home, 0o700)
            write_durably(path, msgspec.json.encode(known | {key.id: key.fingerprint}), 0o600)
        except OSError as error:
            raise InvalidDefinition(f"{path} cannot be written: {error.strerror}") from None
    elif before != key.fingerprint and key.id == _OWN:
        raise InvalidDefinition(
            f"{KEY_FILE} is not the one of this home folder; put that back from a copy. {_TO_GO_ON}"
        )
    elif before != key.fingerprint:
        raise InvalidDefinition(
            f"the hash key {key.id} is not the one that the home folder was used with; give that one, "
            f"or number the new one: {int(key.id) + 1}:..."
        )


def _known(home: Path) -> dict[str, str]:
    """The fingerprints of the keys that were used, by their ids."""
    path = home / KNOWN_FILE
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes() if path.is_file() else b"", type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise InvalidDefinition(
            f"{KNOWN_FILE} of the home folder is not as it was written ({error}); put it back from a copy"
        ) from None
