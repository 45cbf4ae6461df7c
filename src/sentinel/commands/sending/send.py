"""Sending: at a rate, in order, with what was acknowledged remembered."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from sentinel.commands.live import outcome_body
from sentinel.commands.progress import Stage
from sentinel.commands.sending.position import Position, keep_position, path_of, read_position
from sentinel.commands.sending.sources import Source, sources
from sentinel.commands.sending.targets import REFUSED, Fate, Target, open_target
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.errors import InvalidDefinition
from sentinel.events.reading import Reading

MOST = 500
"""Rows in one request."""

TRANSACTIONS, OUTCOMES = KINDS = ("transactions", "outcomes")
_KEEP_S, _SHOWN = 1.0, 5
_LOOK_S = 0.005


class Asked(msgspec.Struct, frozen=True):
    """What to send where: `rate` rows a second (None: as fast as they are taken), outcomes too or not."""

    source: str
    to: str
    detector: str
    rate: float | None = None
    outcomes: bool = False
    again: bool = False
    patience_s: float = 120.0
    transactions: int = 10_000
    seed: int = 42
    ca: Path | None = None


class Sent(msgspec.Struct):
    """What became of it: rows by fate, those left out before they were sent, those sent by an earlier command."""

    sources: int = 0
    new: int = 0
    repeated: int = 0
    refused: int = 0
    earlier: int = 0
    outcomes: dict[str, int] = msgspec.field(default_factory=dict)
    left_out: dict[str, int] = msgspec.field(default_factory=dict)
    reasons: list[str] = msgspec.field(default_factory=list)
    seconds: float = 0.0


def send(settings: Settings, asked: Asked, reading: Reading, stage: Stage) -> Sent:
    """Send it. What is sent again by the same command goes on where it ended, unless `again` says otherwise.

    Raises InvalidDefinition, DataProblem, and SendingStopped when the target takes nothing any more.
    """
    if asked.rate is not None and asked.rate <= 0:
        raise InvalidDefinition("--rate must be above 0")
    detector, sent, begun_s = load_detector(asked.detector), Sent(), time.monotonic()
    target = open_target(settings, asked.to, asked.patience_s, time.sleep, asked.ca)
    try:
        for one in sources(settings, detector, asked.source, reading, asked.transactions, asked.seed):
            sent.sources += 1
            sent.left_out = dict(Counter(sent.left_out) + Counter(one.left_out))
            path = path_of(settings.home, one.content, asked.to, detector.name)
            _send_source(one, asked, target, path, sent, stage)
    finally:
        target.close()
    sent.seconds = round(time.monotonic() - begun_s, 3)
    return sent


def _send_source(one: Source, asked: Asked, target: Target, path: Path, sent: Sent, stage: Stage) -> None:
    begin = Position(one.name, asked.to) if asked.again else read_position(path, one.name, asked.to)
    sent.earlier += begin.transactions
    position = begin
    try:
        for kind in KINDS if asked.outcomes else KINDS[:1]:
            rows = list(range(len(one.live.ids))) if kind == TRANSACTIONS else _told_by_now(one)
            kept_s = time.monotonic()
            for some, done in _due(len(rows), getattr(begin, kind), asked.rate):
                places = [rows[n] for n in some]
                fates = target.send(kind, [one.keys[n] for n in places], [_body(one, kind, n) for n in places])
                position = msgspec.structs.replace(position, **{kind: done})
                _count(sent, kind, fates)
                stage(f"{Path(one.name).name[:40]} {kind}", done, len(rows))
                if time.monotonic() - kept_s > _KEEP_S:
                    keep_position(path, position)
                    kept_s = time.monotonic()
    finally:
        keep_position(path, position)


def _body(one: Source, kind: str, n: int) -> bytes:
    return one.live.bodies[n] if kind == TRANSACTIONS else outcome_body(one.live, n)


def _told_by_now(one: Source) -> list[int]:
    """The rows with an outcome that is known by now, in the order in which they became known."""
    known = np.flatnonzero((one.live.labels >= 0) & (one.live.outcome_us <= time.time_ns() // 1000))
    found: list[int] = known[np.argsort(one.live.outcome_us[known], kind="stable")].tolist()
    return found


def _due(n: int, begin: int, rate: float | None) -> Iterator[tuple[range, int]]:
    """The rows of n from `begin` on, as they become due by the clock, `MOST` at once; and where they end."""
    started_s, done = time.monotonic(), begin
    while done < n:
        due = n if rate is None else min(n, begin + int(rate * (time.monotonic() - started_s)) + 1)
        if done >= due:
            time.sleep(_LOOK_S)
            continue
        end = min(due, done + MOST)
        yield range(done, end), end
        done = end


def _count(sent: Sent, kind: str, fates: Sequence[Fate]) -> None:
    counts = Counter(fate.what for fate in fates)
    if kind == OUTCOMES:
        sent.outcomes = dict(Counter(sent.outcomes) + counts)
    else:
        sent.new, sent.repeated, sent.refused = (
            was + counts[what]
            for was, what in ((sent.new, "new"), (sent.repeated, "repeated"), (sent.refused, REFUSED))
        )
    reasons = [fate.reason for fate in fates if fate.what == REFUSED]
    sent.reasons += [one for one in reasons if one not in sent.reasons][: _SHOWN - len(sent.reasons)]
