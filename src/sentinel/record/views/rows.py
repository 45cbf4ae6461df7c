"""Records of the log as rows of a view, whatever database keeps it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import hash_text, hash_texts
from sentinel.events.schema import Schema
from sentinel.policy.thresholds import ACTIONS
from sentinel.record.entries import NO_DECISION, Decided, OutcomeRow, RevokedRow, decided_in, outcome_rows, revoked_rows
from sentinel.record.log import Kind, Record
from sentinel.record.reasons import reasons_in
from sentinel.record.results import result_rows
from sentinel.record.views.counted import Combination, Counted

_WORDS = tuple(map(str, ACTIONS))
_UNKNOWN = Counted(0, (), None)  # what is counted where the schema is not known
_DAY_US = 86_400_000_000
_LONGEST_WHO = 128  # characters of the column: a person and a key may have some more
_encode_lines = msgspec.json.Encoder().encode_lines


class Rows(NamedTuple):
    """What some records of the log are in a view.

    - `end`, `chain`: the position behind the last record, and its hash.
    - `decisions`: the values of `tables.decisions`.
    - `revoked`: what was taken back; outcomes that a revocation covers stand before it.
    - `reasons`: the values of `tables.reasons`.  `rule_hits`, `results`: those of the tables with these names.
    - `keyed`: by what decisions are found, `hash_of(name, value)` uint64 (n,) with their positions int64 (n,).
    - `models`: version -> the first and the last position that it decided.
    - `counted`: by what is counted, how many decisions of each combination, and their money in minor units.
    - `schemas`: from which positions on what is counted of decisions.
    - `without_keys`: decisions of a schema that is not known, or that they do not fit; their amounts are unknown too.
    """

    end: int
    chain: bytes
    decisions: list[tuple[Any, ...]]
    outcomes: list[OutcomeRow]
    revoked: list[RevokedRow]
    reasons: list[tuple[int, int, str]]
    rule_hits: list[tuple[int, str, bool, str]]
    results: list[tuple[int, int, str, str, str, str, int]]
    keyed: list[tuple[NDArray[np.uint64], NDArray[np.int64]]]
    models: dict[str, tuple[int, int]]
    counted: dict[Counted, dict[Combination, list[int]]]
    schemas: list[tuple[int, Counted]]
    without_keys: int


class Columns(NamedTuple):
    """What is read of n transactions: amounts, and the values of each key and of each field that is counted.

    None is missing, as all is of a transaction that does not fit the schema.
    """

    amounts: list[float | None]
    keys: list[list[str | None]]
    counted: dict[str, list[Any]]


class KeyReader:
    """Reads what a view needs from the contents that follow a schema."""

    def __init__(self, schema: Schema) -> None:
        self.names, self.counted = schema.keys, Counted.of(schema)
        counted = [(name, Any, None) for name in self.counted.read]
        keys: list[Any] = [(name, str | None, None) for name in schema.keys]
        self._decode = msgspec.json.Decoder(
            msgspec.defstruct("Keyed", [(schema.amount, float), *keys, *counted], gc=False)
        ).decode
        self._keys = msgspec.defstruct("Keys", keys, gc=False)
        self._unknown = msgspec.defstruct("Unknown", [(schema.amount, None, None), *keys, *counted], gc=False)()
        self._amount, self._values = attrgetter(schema.amount), list(map(attrgetter, schema.keys))
        self._fields = {name: attrgetter(name) for name in self.counted.read}

    def columns(self, contents: Sequence[bytes]) -> Columns:
        """What these contents hold."""
        try:
            found = list(map(self._decode, contents))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found = list(map(self._decoded, contents))
        return Columns(
            list(map(self._amount, found)),
            [list(map(value, found)) for value in self._values],
            {name: list(map(value, found)) for name, value in self._fields.items()},
        )

    def _decoded(self, content: bytes) -> Any:
        try:
            return self._decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._unknown

    def texts(self, values: list[list[str | None]], rows: int) -> list[str]:
        """The keys of each row as JSON, in the order of the schema; null where one is missing."""
        keys = map(self._keys, *values) if values else repeat(self._keys(), rows)
        return _encode_lines(list(keys)).decode().split("\n")[:rows]


def hash_of(name: str, value: str) -> int:
    """What a key is found by; several keys may share it."""
    return hash_text(f"{name}={value}")


def rows_of(records: Sequence[Record], reader_of: Callable[[str], KeyReader | None]) -> Rows:
    """The rows of some records, at least one; `reader_of` a schema id."""
    last = records[-1]
    rows = Rows(last.position + last.rows, last.chain, [], [], [], [], [], [], [], {}, {}, [], 0)
    without_keys = 0
    for record in records:
        if record.kind == Kind.DECIDED:
            decided = decided_in(record)
            reader = reader_of(decided.schema_id)
            without_keys += _add(rows, record, decided, reader)
            rows.rule_hits.extend(_rule_hits(record, decided))
        elif record.kind == Kind.OUTCOMES:
            rows.outcomes.extend(outcome_rows(record))
        elif record.kind == Kind.REVOKED:
            rows.revoked.extend(row for row in revoked_rows(record) if row.about != NO_DECISION)
        elif record.kind == Kind.REASONS:
            rows.reasons.extend(reasons_in(record).rows(record.position))
        elif record.kind == Kind.RESULTS:
            told = (row._replace(told_by=row.told_by[:_LONGEST_WHO]) for row in result_rows(record))
            rows.results.extend((row.position, *row[2:]) for row in told)
    return rows._replace(without_keys=without_keys)


def _add(rows: Rows, record: Record, decided: Decided, reader: KeyReader | None) -> int:
    """Add decisions, and return how many of them are without keys."""
    amounts: Sequence[float | None] = [None] * record.rows
    keys = ["{}"] * record.rows
    counted, fields = _UNKNOWN, dict[str, list[Any]]()
    if reader is not None:
        counted = reader.counted
        amounts, values, fields = reader.columns(decided.contents)
        rows.keyed.extend(_keyed(record, name, column) for name, column in zip(reader.names, values, strict=True))
        keys = reader.texts(values, record.rows)
    if not rows.schemas or rows.schemas[-1][1] != counted:
        rows.schemas.append((record.position, counted))
    _count(rows.counted.setdefault(counted, {}), counted, record, decided, amounts, fields)
    rows.decisions.extend(_decisions(record, decided, amounts, keys))
    for n, decider in enumerate(decided.deciders):
        which = bytes((n,))
        if which in decided.by:
            first, last = (record.position + place for place in (decided.by.find(which), decided.by.rfind(which)))
            begin, end = rows.models.get(decider.model_version, (first, last))
            rows.models[decider.model_version] = min(begin, first), max(end, last)
    return amounts.count(None)


def _rule_hits(record: Record, decided: Decided) -> Iterator[tuple[int, str, bool, str]]:
    for one in decided.ruled:
        position = record.position + one.place
        yield from ((position, name, False, one.would_be) for name in one.fired)
        yield from ((position, name, True, one.would_be) for name in one.shadow)


def _keyed(record: Record, name: str, values: list[str | None]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    hashes = hash_texts([f"{name}={value}" for value in values if value is not None])
    places = np.array([n for n, value in enumerate(values) if value is not None], np.int64)
    return hashes, record.position + places


def _count(
    into: dict[Combination, list[int]], counted: Counted, record: Record, decided: Decided,
    amounts: Sequence[float | None], fields: dict[str, list[Any]],
) -> None:  # fmt: skip
    versions = [one.model_version for one in decided.deciders]
    variants = [one.variant for one in decided.deciders]
    counted.combine(
        record.received_us // _DAY_US, map(_WORDS.__getitem__, decided.levels), map(versions.__getitem__, decided.by),
        map(variants.__getitem__, decided.by), amounts, fields, into,
    )  # fmt: skip


def _decisions(
    record: Record, decided: Decided, amounts: Sequence[float | None], keys: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    def decided_by(name: str) -> Iterator[Any]:
        return map([getattr(decider, name) for decider in decided.deciders].__getitem__, decided.by)

    return zip(
        range(record.position, record.position + record.rows),
        decided.ids,
        repeat(record.received_us, record.rows),
        amounts,
        map(_WORDS.__getitem__, decided.levels),
        np.frombuffer(decided.scores, "<f8").tolist(),
        decided_by("model_version"),
        decided_by("degraded"),
        decided.late,
        decided_by("variant"),
        decided_by("experiment"),
        np.frombuffer(decided.latencies_us, "<u4").tolist(),
        keys,
        map(_text, decided.contents),
        strict=True,
    )


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
