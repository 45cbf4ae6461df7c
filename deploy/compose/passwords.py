"""The passwords of the stack: made at the first start, kept in a file that only its owner reads."""

import re
import secrets
from collections.abc import Callable
from pathlib import Path

from sentinel.durable import write_durably

MADE = (
    "STACK_ADMIN_KEY", "STACK_HASH_KEY", "STACK_POSTGRES_PASSWORD", "STACK_REDIS_PASSWORD", "STACK_S3_USER",
    "STACK_S3_PASSWORD", "STACK_GRAFANA_PASSWORD", "STACK_TOPICS_PASSWORD", "STACK_PREFECT_PASSWORD",
)  # fmt: skip
"""What is made: letters and digits, so that each may stand in an address as it is."""

_BYTES = 24
_LINE = re.compile(r"(STACK_[A-Z0-9_]+)=(.*)")
_HEAD = "# Made by `make up`. These are the only copies: without them the data of the stack cannot be opened.\n"


class StackFailed(Exception):
    """What keeps the stack from doing what it was told, and what to do about it."""


def keep_passwords(path: Path, make: Callable[[int], str] = secrets.token_hex) -> dict[str, str]:
    """The passwords in a file. What is not in it yet is made and added; the file is there whole, or not at all.

    `make` gives a random text of so many bytes. Raises StackFailed for a file that others can read or that is damaged.
    """
    kept = read_private(path)
    missing = [name for name in MADE if not kept.get(name)]
    if missing:
        kept |= {name: make(_BYTES) for name in missing}
        lines = "".join(f"{name}={value}\n" for name, value in kept.items())
        write_durably(path, (_HEAD + lines).encode(), 0o600)
    return kept


def read_private(path: Path) -> dict[str, str]:
    """What `make up` has made so far. Raises StackFailed for a file that others can read or that is damaged."""
    if path.exists() and path.stat().st_mode & 0o077:
        raise StackFailed(f"others can read {path}, which has passwords: chmod 600 {path}")
    return read_settings(path)


def read_settings(path: Path) -> dict[str, str]:
    """The lines STACK_NAME=value of a file; none where there is no file. Raises StackFailed for other lines."""
    found = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise StackFailed(f"line {number} of {path} is no STACK_NAME=value: mend it")
        found[parts[1]] = parts[2]
    return found
