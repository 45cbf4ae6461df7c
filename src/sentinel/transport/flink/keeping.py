"""What is kept between two events: of an id, whether it was decided; of a key of the features, its profile."""

import hashlib
import struct
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import msgspec

from sentinel.events.columns import NO_TEXT, Outcome
from sentinel.features.event_cells import EventCells
from sentinel.features.keyed_group import KeyedGroup
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.record.online.layout import ProfileRow
from sentinel.transport.flink.reading import Travelling, decode_given, outcome_in

MOST_OF_ONE = 16
"""Outcomes that wait for one transaction; those beyond are written down only."""

_DIGEST_BYTES = 16
_HEAD = struct.Struct("<qq")  # before a profile: how many events its key had, when the newest was received


class Seen(msgspec.Struct, array_like=True):
    """What is kept of an id: a digest of the transaction's content, its first key, its text columns.

    `answer` is what a front had decided of it, empty where none had. `told` has what each source said of it. `early`
    are outcomes, content and cells, that came before the transaction: until that is there the digest is empty.
    """

    digest: bytes
    card: str
    texts: bytes
    told: dict[str, bool] = {}
    early: list[tuple[bytes, bytes]] = []
    answer: str = ""


class Verdict(Enum):
    """What becomes of an event: it is decided or counted; it is written down only; it is left out; it is refused.

    `OTHER_ANSWER` is a transaction that was decided before, and that a front has answered otherwise since.
    """

    NEW = "new"
    WRITTEN = "written"
    REPEATED = "repeated"
    CONFLICT = "conflict"
    OTHER_ANSWER = "other answer"


class Judged(NamedTuple):
    """An event, and what becomes of it."""

    verdict: Verdict
    event: Travelling


_seen = msgspec.msgpack.Decoder(Seen).decode
_encode = msgspec.msgpack.Encoder().encode


class Ids:
    """Keeps what is known of every id, so that a transaction is decided once and an outcome finds its keys."""

    def __init__(self, plan: FeaturePlan) -> None:
        self._plan, self._cells = plan, EventCells(plan, MemoryStore(plan))

    def take(self, event: Travelling, kept: bytes | None) -> tuple[list[Judged], bytes | None]:
        """What becomes of an event, and what is kept of its id from now on.

        An outcome that comes before its transaction is written down, and counted as soon as that is there.
        """
        self._cells.read(event.packed)
        seen = None if kept is None else _seen(kept)
        if not self._cells.is_transaction:
            return self._outcome(event, seen, kept)
        digest = hashlib.blake2b(event.content, digest_size=_DIGEST_BYTES).digest()
        if seen is not None and seen.digest:
            return [Judged(_again(event, seen, digest), event)], kept
        early = [] if seen is None else seen.early
        told = {outcome.source: outcome.is_fraud for outcome in map(outcome_in, (one[0] for one in early))}
        seen = Seen(digest, event.card, self._cells.text_hashes(event.packed), told, answer=_answer(event))
        judged = [Judged(Verdict.NEW, event)]
        judged += [self._judged(Travelling(event.id, "", *one), seen) for one in early]
        return judged, _encode(seen)

    def _outcome(self, event: Travelling, seen: Seen | None, kept: bytes | None) -> tuple[list[Judged], bytes | None]:
        if seen is None or not seen.digest:
            early = [] if seen is None else seen.early
            if (event.content, event.packed) not in early and len(early) < MOST_OF_ONE:
                early.append((event.content, event.packed))
            unseen = Judged(Verdict.WRITTEN, event._replace(card=event.id, known=False))
            return [unseen], _encode(Seen(b"", "", b"", early=early))
        outcome = outcome_in(event.content)
        if seen.told.get(outcome.source) == outcome.is_fraud:
            return [Judged(Verdict.REPEATED, event)], kept
        seen.told[outcome.source] = outcome.is_fraud
        return [self._judged(event, seen)], _encode(seen)

    def _judged(self, event: Travelling, seen: Seen) -> Judged:
        """An outcome of a transaction that was seen, with the keys of that."""
        counts = self._plan.is_trusted(outcome_in(event.content).source)
        packed = self._cells.with_text_hashes(event.packed, seen.texts)
        return Judged(Verdict.NEW if counts else Verdict.WRITTEN, event._replace(card=seen.card, packed=packed))


def _answer(event: Travelling) -> str:
    return decode_given(event.given).answer.decision if event.given else ""


def _again(event: Travelling, seen: Seen, digest: bytes) -> Verdict:
    """What becomes of a transaction whose id was seen before."""
    if seen.digest != digest:
        return Verdict.CONFLICT
    return Verdict.OTHER_ANSWER if event.given and _answer(event) != seen.answer else Verdict.REPEATED


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

    def warm(self) -> None:
        """Have the kernel compiled, or loaded from its cache, before the first event."""
        told = Outcome("warm-up", is_fraud=False, time_us=0)
        self._group.take(self._group.cells.pack(told, 0), b"")

    @staticmethod
    def newest_us(kept: bytes) -> int:
        """When the newest event of a key was received."""
        newest_us: int = _HEAD.unpack_from(kept)[1]
        return newest_us

    def row_of(self, key: int, kept: bytes) -> ProfileRow:
        """What Redis is told of a key: the later event wins, and it expires once the key is forgotten."""
        expires_ms = self.forgotten_at(kept) // 1_000 + 1
        return ProfileRow(key, kept[_HEAD.size :], self.newest_us(kept), expires_ms)

    def forgotten_at(self, kept: bytes) -> int:
        """From when on a key is as new, in microseconds since 1970, if nothing more is received of it."""
        return self.newest_us(kept) + self.horizon_us + 1
