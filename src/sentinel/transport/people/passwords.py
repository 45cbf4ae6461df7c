"""Passwords: argon2id, as RFC 9106 recommends where memory is dear (64 MiB, three passes)."""

import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from sentinel.errors import InvalidInput

SHORTEST, LONGEST = 12, 256
_AT_ONCE = threading.Semaphore(2)
"""Each takes 64 MiB and a core for some 50 ms: a crowd that logs in must not take the machine."""

_hasher = PasswordHasher()
_NOBODYS = _hasher.hash(secrets.token_urlsafe(32))


def new_password() -> str:
    """A password of 120 random bits, to be shown once."""
    return secrets.token_urlsafe(15)


def check_password(password: str, name: str) -> None:
    """Raise InvalidInput for a password that is too short or too long, one character over and over, or the name."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidInput(f"A password has {SHORTEST} to {LONGEST} characters; a few words are easy to keep")
    if len(set(password)) < 4 or password.casefold().strip() == name or name * 2 in password.casefold():
        raise InvalidInput("This password is guessed at once; take a few words that do not belong together")


def hash_of(password: str) -> str:
    """What is kept of a password: argon2id with its parameters and its salt."""
    with _AT_ONCE:
        return _hasher.hash(password)


def is_right(password_hash: str | None, password: str) -> bool:
    """Whether it is the password of this hash; of none it is found wrong after the same time."""
    with _AT_ONCE:
        try:
            return _hasher.verify(password_hash or _NOBODYS, password[:LONGEST]) and password_hash is not None
        except (Argon2Error, InvalidHashError):
            return False
