"""What is kept of every key between two events: of an id, whether it was decided; of a key of the features, its profile."""

import hashlib
import struct
from collections.abc import Callable
from enum import Enum

import msgspec

from sentinel.events.columns import NO_TEXT
from sentinel.features.event_cells import EventCells
from sentinel.features.keyed_group import KeyedGroup
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.transport.flink.reading import Travelling, outcome_in

_DIGEST_BYTES = 16
_HEAD = struct.Struct("<qq")  # before a profile: how many events its key had, when the newest was received


class Seen(msgspec.Struct, array_like=True):
    """What is kept of an id: a digest of the transaction's content, its first key, its text columns.

    `told` has what each source said of it. `received_us` is when it came in.
    """

    digest: bytes
    card: str
    texts: bytes
    received_us: int
    told: dict[str, bool] = {}


class Verdict(Enum):
    """What becomes of an event: it is decided or counted; it is written down only; it is left out; it is refused."""

    NEW = "new"
    WRITTEN = "written"
    REPEATED = "repeated"
    CONFLICT = "conflict"


_seen = msgspec.msgpack.Decoder(Seen).decode
_encode = msgspec.msgpack.Encoder().encode


class Ids:
    """Keeps what is known of every id, so that a transaction is decided once and an outcome finds its keys."""

    def __init__(self, plan: FeaturePlan) -> None:
        self._plan, self._cells = plan, EventCells(plan, MemoryStore(plan))

    def take(self, event: Travelling, kept: bytes | None) -> tuple[Verdict, Travelling, bytes | None]:
        """What becomes of an event, the event as it goes on, and what is kept of its id from now on."""
        self._cells.read(event.packed)
        if self._cells.is_transaction:
            return self._transaction(event, kept)
        return self._outcome(event, kept)

    def _transaction(self, event: Travelling, kept: bytes | None) -> tuple[Verdict, Travelling, bytes | None]:
        digest = hashlib.blake2b(event.content, digest_size=_DIGEST_BYTES).digest()
        if kept is not None:
            return (Verdict.REPEATED if _seen(kept).digest == digest else Verdict.CONFLICT), event, kept
        seen = Seen(digest, event.card, self._cells.text_hashes(event.packed), self._cells.received)
        return Verdict.NEW, event, _encode(seen)

    def _outcome(self, event: Travelling, kept: bytes | None) -> tuple[Verdict, Travelling, bytes | None]:
        outcome = outcome_in(event.content)
        if kept is None:
            return Verdict.WRITTEN, event._replace(card=event.id, known=False), None
        seen = _seen(kept)
        event = event._replace(
            card=seen.card, packed=self._cells.with_text_hashes(event.packed, seen.texts)
        )
        if seen.told.get(outcome.source) == outcome.is_fraud:
            return Verdict.REPEATED, event, kept
        seen.told[outcome.source] = outcome.is_fraud
        counts = self._plan.is_trusted(outcome.source)
        return (Verdict.NEW if counts else Verdict.WRITTEN), event, _encode(seen)


class Profiles:
    """Keeps the profile of every key of one group of features.

    `profile_before` gives the profile of a key that nothing is kept of: what the model's training history knew of it.
    """

    def __init__(self, plan: FeaturePlan, by: str, profile_before: Callable[[int], bytes]) -> None:
        self._group = KeyedGroup(plan, MemoryStore(plan), by)
        self._profile_before = profile_before
        self.horizon_us = self._group.horizon_us

    def take(self, event: Travelling, kept: bytes | None) -> tuple[Travelling, bytes | None]:
        """The event with what this group knows, and what is kept of its key from now on; None is nothing."""
        key = self._group.key_of(event.packed)
        if key == NO_TEXT:
            packed, _ = self._group.take(event.packed, b"")
            return event._replace(packed=packed, numbers=(*event.numbers, 0)), None
        number, newest_us, profile = 0, 0, b""
        if kept is None:
            profile = self._profile_before(key)
        else:
            number, newest_us = _HEAD.unpack_from(kept)
            profile = kept[_HEAD.size :]
        packed, profile = self._group.take(event.packed, profile)
        newest_us = max(newest_us, self._group.cells.received)
        event = event._replace(packed=packed, numbers=(*event.numbers, number + 1))
        return event, _HEAD.pack(number + 1, newest_us) + profile

    def forgotten_at(self, kept: bytes) -> int:
        """From when on a key is as new, in microseconds since 1970, if nothing more is received of it."""
        newest_us: int = _HEAD.unpack_from(kept)[1]
        return newest_us + self.horizon_us + 1
