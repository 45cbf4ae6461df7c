"""`sentinel topics` and `sentinel dead-letters`."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentinel.config import Settings
from sentinel.durable import write_durably
from sentinel.errors import DataProblem, InvalidDefinition, NotFound

try:
    from sentinel.transport.kafka.dead_letters import DeadLetter, numbered, read, sent_again
    from sentinel.transport.kafka.streams import connection_of, topics_used
    from sentinel.transport.kafka.topics import Topic, create, look
except ModuleNotFoundError as error:
    raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[kafka]'") from error

_DAY_MS = 86_400_000


def create_missing(settings: Settings, *, partitions: int, copies: int, days: int) -> list[str]:
    """Make the topics that are not there; their names. Raises InvalidDefinition, StorageProblem."""
    return create(connection_of(settings), topics_used(settings), partitions, copies, days * _DAY_MS)


def topics_as_they_are(settings: Settings) -> list[Topic]:
    """Every topic with what does not fit. Raises InvalidDefinition, StorageProblem."""
    return look(connection_of(settings), topics_used(settings))


def letters_there(settings: Settings) -> list[dict[str, Any]]:
    """The dead letters, without their bytes. Raises InvalidDefinition, StorageProblem."""
    return [_shown(one) for one in read(connection_of(settings))]


def letter_shown(settings: Settings, number: str, out: Path | None) -> dict[str, Any]:
    """One with its bytes, which are written to `out` as well. Raises NotFound, DataProblem, StorageProblem."""
    one = numbered(connection_of(settings), number)
    if out is not None:
        try:
            write_durably(out, one.value or b"", 0o600)
        except OSError as error:
            raise DataProblem(f"{out} cannot be written: {error.strerror}") from error
    return {**_shown(one), **_text("key", one.key), **_text("value", one.value)}


def retried(settings: Settings, numbers: Sequence[str]) -> int:
    """Send those of these numbers again, all where none is named; how many. Raises NotFound, StorageProblem."""
    connection = connection_of(settings)
    letters = list(read(connection))
    unknown = set(numbers) - {one.number for one in letters}
    if unknown:
        raise NotFound(f"There is no dead letter {', '.join(sorted(unknown))}; `sentinel dead-letters list` shows them")
    wanted = [one for one in letters if (one.number in numbers if numbers else one.cut is None)]
    return sent_again(connection, wanted)


def _shown(one: DeadLetter) -> dict[str, Any]:
    return {
        "number": one.number, "topic": one.topic, "place": one.place, "reason": one.reason, "at_ms": one.at_ms,
        "bytes": None if one.value is None else len(one.value), "cut": one.cut,
    }  # fmt: skip


def _text(name: str, data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
