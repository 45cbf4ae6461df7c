"""How far a source was sent to a target: kept in the home folder, and read when the same is sent again."""

import hashlib
from pathlib import Path

import msgspec

from sentinel.durable import write_durably
from sentinel.errors import StorageProblem

FOLDER = "sent"


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All before these places was acknowledged: transactions, and outcomes in the order of their times."""

    source: str
    target: str
    transactions: int = 0
    outcomes: int = 0


def path_of(home: Path, content: str, target: str, detector: str) -> Path:
    """Where the position of that content is kept."""
    named = hashlib.sha256(f"{content}\n{target}\n{detector}".encode()).hexdigest()[:32]
    return home / FOLDER / f"{named}.json"


def read_position(path: Path, source: str, target: str) -> Position:
    """The position, at the beginning where there is none. Raises StorageProblem for a file that is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Position)
    except FileNotFoundError:
        return Position(source, target)
    except (OSError, msgspec.MsgspecError) as error:
        raise StorageProblem(
            f"{path} does not say how far {source} was sent: {error}; delete it to begin anew"
        ) from error


def keep_position(path: Path, position: Position) -> None:
    """Keep it, whole and durable. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, msgspec.json.encode(position), 0o600)
