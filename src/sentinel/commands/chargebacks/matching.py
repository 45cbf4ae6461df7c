"""Which decision each dispute is about, and what is to be told of it."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from sentinel.commands.chargebacks.dispute_files import Dispute
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.record.entries import batches_of
from sentinel.record.log import Record

DAY_US = 86_400_000_000
Fate = Literal["told", "not final", "repeated", "unmatched", "ambiguous", "contradicting", "early", "wrong"]


class Decision(NamedTuple):
    """A decision that a dispute may be about: the id of its transaction, and when that happened."""

    transaction_id: str
    time_us: int


class Verdict(NamedTuple):
    """What becomes of a row of the file: the transaction that it is about, where that is known, and why."""

    dispute: Dispute
    fate: Fate
    transaction_id: str = ""
    why: str = ""


class ToTell(NamedTuple):
    """An outcome that is to be told; without a time it is told as of now."""

    transaction_id: str
    is_fraud: int
    time_us: int | None
    reason: str


class Matcher:
    """Finds decisions by the fields that a file names them by."""

    def __init__(self, reader: TransactionReader, fields: Sequence[str], days: int) -> None:
        """A date may be so many `days` off that of its transaction."""
        self._reader, self._schema, self._days = reader, reader.schema, days
        self._time = self._schema.time if self._schema.time in fields else None
        self._fields = [name for name in fields if name != self._time]
        self._wanted: dict[tuple[Any, ...], list[Dispute]] = defaultdict(list)
        self._found: dict[int, dict[str, Decision]] = defaultdict(dict)

    def want(self, disputes: Iterable[Dispute]) -> None:
        """Look for what these are about."""
        for one in disputes:
            for key in self._keys_of(one):
                self._wanted[key].append(one)

    def look(self, pages: Iterator[Sequence[Record]]) -> None:
        """Look through decisions."""
        schema = self._schema
        kinds: Any = {schema.id: str, schema.time: int, schema.amount: float | None} | dict.fromkeys(
            schema.texts, str | None
        )
        slim: Any = msgspec.defstruct(
            "Slim", [(name, kinds[name], None) for name in {*self._fields, schema.id, schema.time}]
        )
        decode = msgspec.json.Decoder(list[slim]).decode
        for page in pages:
            for _, decided in batches_of(page):
                for one in decode(b"[%b]" % b",".join(decided.contents)):
                    key = tuple(self._stored(name, getattr(one, name)) for name in self._fields)
                    for dispute in self._wanted.get(key, ()):
                        found = Decision(getattr(one, schema.id), getattr(one, schema.time))
                        if self._is_of_day(dispute, found.time_us):
                            self._found[dispute.number][found.transaction_id] = found

    def decisions(self, dispute: Dispute) -> list[Decision]:
        """What was found for a row."""
        return list(self._found.get(dispute.number, {}).values())

    def _keys_of(self, dispute: Dispute) -> Iterator[tuple[Any, ...]]:
        """As its fields may be stored: before and after the hash key was changed."""
        names = [self._texts(name, dispute.named[name]) for name in self._fields]
        for n in range(max(map(len, names), default=0)):
            yield tuple(one[min(n, len(one) - 1)] for one in names)

    def _texts(self, name: str, value: Any) -> list[Any]:
        return [self._minor(value)] if name == self._schema.amount else list(self._reader.texts(name, str(value)))

    def _stored(self, name: str, value: Any) -> Any:
        return self._minor(value) if name == self._schema.amount else value

    def _minor(self, value: float | None) -> int | None:
        if value is None:
            return None
        unit: int = 10**self._schema.amount_decimals
        return round(value * unit) if math.isfinite(value * unit) else int(value) * unit

    def _is_of_day(self, dispute: Dispute, time_us: int) -> bool:
        named = self._time and dispute.named[self._time]
        return named is None or abs(int(named) // DAY_US - time_us // DAY_US) <= self._days


def verdicts(
    disputes: Sequence[Dispute],
    found: Callable[[Dispute], list[Decision]],
    named: Callable[[Dispute], str] | None,
) -> list[Verdict]:
    """What becomes of each row; `named` gives the id that a row names, which is told also where nothing has it.

    Rows of a transaction are taken in the order of their times. Only what changes what was said before is told.
    """
    fates: dict[int, Verdict] = {}
    by_transaction: dict[str, list[tuple[Dispute, Decision | None]]] = defaultdict(list)
    for one in disputes:
        decisions = [] if one.wrong else found(one)
        if one.wrong:
            fates[one.number] = Verdict(one, "wrong", why=one.wrong)
        elif len(decisions) > 1:
            names = ", ".join(sorted(decision.transaction_id for decision in decisions)[:5])
            fates[one.number] = Verdict(one, "ambiguous", why=f"{len(decisions)} transactions fit: {names}")
        elif not decisions and named is None:
            fates[one.number] = Verdict(one, "unmatched", why="no transaction in the log fits")
        elif one.is_fraud is None:
            fates[one.number] = Verdict(one, "not final", why="this stage settles nothing")
        else:
            decision = decisions[0] if decisions else None
            name = decisions[0].transaction_id if decisions else named(one) if named else ""
            by_transaction[name].append((one, decision))
    for name, rows in by_transaction.items():
        fates.update((one.dispute.number, one) for one in _of_transaction(name, rows))
    return [fates[one.number] for one in disputes]


def _of_transaction(name: str, rows: Sequence[tuple[Dispute, Decision | None]]) -> Iterator[Verdict]:
    said: dict[int | None, set[int | None]] = defaultdict(set)
    for one, _ in rows:
        said[one.time_us].add(one.is_fraud)
    before: int | None = None
    for one, decision in sorted(rows, key=lambda row: (row[0].time_us or 0, row[0].number)):
        if len(said[one.time_us]) > 1:
            yield Verdict(one, "contradicting", name, "rows of the same time say that it is fraud and that it is not")
        elif decision is not None and _is_early(one, decision):
            yield Verdict(one, "early", name, "it is older than its transaction; is it about another one?")
        elif one.is_fraud == before:
            yield Verdict(one, "repeated", name, "an earlier row says so")
        else:
            before = one.is_fraud
            yield Verdict(one, "told", name, "" if decision else "it was not decided here: kept for the next history")


def _is_early(dispute: Dispute, decision: Decision) -> bool:
    """A date without a time of day is any moment of that day."""
    if dispute.time_us is None:
        return False
    ends_us = dispute.time_us + (DAY_US - 1 if dispute.time_us % DAY_US == 0 else 0)
    return ends_us < decision.time_us


def to_tell(verdict: Verdict, times: Mapping[str, int]) -> ToTell:
    """The outcome of a row that is told; `times` are those of the transactions, which it is never older than."""
    one = verdict.dispute
    time_us = None if one.time_us is None else max(one.time_us, times.get(verdict.transaction_id, 0))
    return ToTell(verdict.transaction_id, one.is_fraud or 0, time_us, one.reason or one.stage)


def schema_fields(match: str, schema: Schema) -> list[str]:
    """The fields that `--match` names; `id`, `card` and `date` are the id, the first key and the time."""
    short = {"id": schema.id, "date": schema.time} | ({"card": schema.keys[0]} if schema.keys else {})
    names = [short.get(one.strip(), one.strip()) for one in match.split(",")]
    return list(dict.fromkeys(names))
