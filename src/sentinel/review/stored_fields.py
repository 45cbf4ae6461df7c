"""What rules ask of a transaction, read from its content in the log."""

from typing import Any

import msgspec

from sentinel.events.wire import HASHED_BEFORE
from sentinel.policy.rules.hits import BookHits


class StoredFields:
    """Reads the fields that a book asks for."""

    def __init__(self, hits: BookHits) -> None:
        numbers: list[Any] = [(name, float | None, None) for name in hits.numbers]
        texts: list[Any] = [(name, str | None, None) for name in hits.texts]
        before: Any = (HASHED_BEFORE, dict[str, str] | msgspec.UnsetType, msgspec.UNSET)
        asked = msgspec.defstruct("Asked", [*numbers, *texts, before], gc=False)
        self._decode, self.unknown = msgspec.json.Decoder(asked).decode, asked()
        """`unknown` has nothing of what is asked."""

    def read(self, content: bytes) -> Any:
        """The fields of a transaction as attributes; nothing of one that does not fit."""
        try:
            return self._decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self.unknown
