"""Sums of each day, kept with the rows that they are of: what is asked of months of decisions reads no row of them.

A day is that of a decision, in UTC. A later outcome, or one that is taken back, moves what it says on that day.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, String, Table, Text

from sentinel.record.entries import NO_DECISION
from sentinel.record.views.counted import MOST_VALUES, OTHER, Combination, Counted, stored
from sentinel.record.views.key_index import Driver
from sentinel.record.views.rows import Rows
from sentinel.record.views.tables import Position, decisions, metadata, outcomes, rule_hits

ALL, MODEL, VARIANT, RULE, SHADOW, SOURCE, TOLD, FIELD = (
    "all", "model", "variant", "rule", "shadow", "source", "told", "field:",
)  # fmt: skip
"""What is summed: everything; by who decided; by rules that held, and that held as shadows; frauds by who told of them,
on the day of the payment and on that of the news; and by each field, whose name follows."""

MEASURES = ("decisions", "money", "frauds", "fraud_money", "legitimate", "legitimate_money")
_DAY_US = 86_400_000_000
_AT_ONCE = 500  # rows, or values, in one statement

day_sums = Table(
    "day_sums",
    metadata,
    Column("part", String(80), primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),  # since 1970
    Column("value", String(160), primary_key=True),
    Column("unit", String(16), primary_key=True),
    Column("action", String(16), primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in MEASURES),
    sqlite_with_rowid=False,
)
"""How many decisions, how much money, and what of both turned out to be fraud or legitimate."""

field_values = Table(
    "field_values",
    metadata,
    Column("field", String(72), primary_key=True),
    Column("value", String(160), primary_key=True),
    sqlite_with_rowid=False,
)
"""The values that have sums of their own; what came after so many of a field is summed together."""

schema_spans = Table(
    "schema_spans",
    metadata,
    Column("begin", Position, primary_key=True, autoincrement=False),
    Column("counted", Text, nullable=False),
)
"""From which position on what is counted of decisions, as JSON; what was decided before the first is in no sum."""

Key = tuple[str, int, str, str, str]
Sums = dict[Key, list[int]]
"""Part, day, value, unit and action -> one number for each of `MEASURES`."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_counted = msgspec.json.Decoder(Counted).decode


class Standing(NamedTuple):
    """What is known of a decision: by the newest outcome that counts, and by that of each source, with its time."""

    is_fraud: bool
    sources: dict[str, tuple[bool, int]]


class Facts(NamedTuple):
    """What a stored decision adds to: its combination, the parts and values that it belongs to, and its money."""

    combination: Combination
    parts: list[tuple[str, str]]
    money: int


def add_decisions(driver: Driver, writer: sa.Connection, rows: Rows) -> None:
    """Add new decisions, of which nothing is known yet, and the rules that held for them."""
    known = _known_values(writer) if any(counted.fields for counted in rows.counted) else set()
    newest = writer.scalar(sa.select(schema_spans.c.counted).order_by(schema_spans.c.begin.desc()).limit(1))
    for begin, counted in rows.schemas:
        text = msgspec.json.encode(counted).decode()
        if text != newest:
            writer.execute(schema_spans.insert().values(begin=begin, counted=text))
        newest = text
    sums: Sums = {}
    for counted, combinations in rows.counted.items():
        _admit(driver, counted, combinations, known)
        for combination, (n, money) in combinations.items():
            for part, value in _parts(counted, combination, known):
                _add(sums, part, combination, value, (n, money, 0, 0, 0, 0))
    hits = {position for position, *_ in rows.rule_hits}
    for fact in _facts(writer, sorted(hits), known).values():
        for part, value in fact.parts:
            if part in (RULE, SHADOW):
                _add(sums, part, fact.combination, value, (1, fact.money, 0, 0, 0, 0))
    _store(driver, sums)


def standing(reader: sa.Connection, about: Iterable[int]) -> dict[int, Standing]:
    """What is known of the decisions at these positions."""
    columns = (outcomes.c.about, outcomes.c.is_fraud, outcomes.c.source, outcomes.c.time_us)
    query = sa.select(*columns).where(outcomes.c.revoked_at.is_(None)).order_by(outcomes.c.position)
    found: dict[int, Standing] = {}
    for some in _pieces(sorted(about)):
        for position, is_fraud, source, time_us in reader.execute(query.where(outcomes.c.about.in_(some))):
            sources = found[position].sources if position in found else {}
            found[position] = Standing(is_fraud, {**sources, source: (is_fraud, time_us)})
    return found


def touched(rows: Rows) -> set[int]:
    """The decisions of which these rows say something."""
    about = {one.about for one in rows.outcomes} | {one.about for one in rows.revoked}
    return about - {NO_DECISION}


def move(driver: Driver, writer: sa.Connection, before: Mapping[int, Standing], after: Mapping[int, Standing]) -> None:
    """Have the sums say of some decisions what is known after, and no longer what was before."""
    changed = [position for position in {**before, **after} if before.get(position) != after.get(position)]
    if not changed:
        return
    sums: Sums = {}
    for position, fact in _facts(writer, sorted(changed), _known_values(writer)).items():
        for known, sign in ((before.get(position), -1), (after.get(position), 1)):
            if known is not None:
                _label(sums, fact, known, sign)
    _store(driver, sums)


def _label(sums: Sums, fact: Facts, known: Standing, sign: int) -> None:
    """Add, or take away, what is known of a decision."""
    one, money = sign, sign * fact.money
    for part, value in fact.parts:
        _add(
            sums,
            part,
            fact.combination,
            value,
            (0, 0, one, money, 0, 0) if known.is_fraud else (0, 0, 0, 0, one, money),
        )
    for source, (is_fraud, time_us) in known.sources.items():
        if is_fraud:
            _add(sums, SOURCE, fact.combination, stored(source), (0, 0, one, money, 0, 0))
            told = (time_us // _DAY_US, *fact.combination[1:])
            _add(sums, TOLD, told, stored(source), (0, 0, one, money, 0, 0))


def forget_days(writer: sa.Connection) -> None:
    """Delete the days before that of the oldest decision that is left."""
    oldest = writer.scalar(sa.select(sa.func.min(decisions.c.position)))
    if oldest is not None:
        day = writer.execute(sa.select(decisions.c.received_us).where(decisions.c.position == oldest)).scalar_one()
        writer.execute(day_sums.delete().where(day_sums.c.day < day // _DAY_US))


def _parts(counted: Counted, combination: Combination, known: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    _, _, version, variant, _, values = combination
    yield ALL, ""
    yield MODEL, stored(version)
    yield VARIANT, variant
    for name, value in zip(counted.fields, values, strict=True):
        yield FIELD + name, value if (name, value) in known or not value.startswith("=") else OTHER


def _add(sums: Sums, part: str, combination: Combination, value: str, more: Sequence[int]) -> None:
    day, action, _, _, unit, _ = combination
    found = sums.setdefault((part, day, value, unit, action), [0] * len(MEASURES))
    for n, one in enumerate(more):
        found[n] += one


def _known_values(reader: sa.Connection) -> set[tuple[str, str]]:
    return {(field, value) for field, value in reader.execute(sa.select(field_values))}


def _admit(driver: Driver, counted: Counted, combinations: Iterable[Combination], known: set[tuple[str, str]]) -> None:
    """Give the values that come first sums of their own."""
    new = []
    for n, name in enumerate(counted.fields):
        left = MOST_VALUES - sum(field == name for field, _ in known)
        for value in dict.fromkeys(combination[-1][n] for combination in combinations):
            if left > 0 and value.startswith("=") and (name, value) not in known:
                known.add((name, value))
                new.append((name, value))
                left -= 1
    driver.executemany("INSERT INTO field_values VALUES (?, ?)", new)


def _facts(reader: sa.Connection, positions: Sequence[int], known: set[tuple[str, str]]) -> dict[int, Facts]:
    """What stored decisions add to; of those that are in no sum, nothing."""
    spans = [
        (begin, _decode_counted(text)) for begin, text in reader.execute(sa.select(schema_spans).order_by("begin"))
    ]
    names = ("position", "received_us", "decision", "model_version", "variant", "amount", "content")
    query = sa.select(*(decisions.c[name] for name in names))
    held = sa.select(rule_hits.c.position, rule_hits.c.rule, rule_hits.c.shadow)
    found: dict[int, Facts] = {}
    for some in _pieces(positions):
        for position, received_us, action, version, variant, amount, content in reader.execute(
            query.where(decisions.c.position.in_(some))
        ):
            counted = next((one for begin, one in reversed(spans) if begin <= position), None)
            if counted is not None:
                fields = _decode(content) if amount is not None else {}
                combination = counted.combination(received_us // _DAY_US, action, version, variant, amount, fields)
                parts = list(_parts(counted, combination, known))
                found[position] = Facts(combination, parts, counted.minor(amount))
        for position, rule, is_shadow in reader.execute(held.where(rule_hits.c.position.in_(some))):
            if position in found:
                found[position].parts.append((SHADOW if is_shadow else RULE, stored(rule)))
    return found


def _store(driver: Driver, sums: Sums) -> None:
    rows = [(*key, *values) for key, values in sorted(sums.items()) if any(values)]
    marks = f"({','.join('?' * (5 + len(MEASURES)))})"
    more = ", ".join(f"{name} = day_sums.{name} + excluded.{name}" for name in MEASURES)
    for some in _pieces(rows):
        statement = (
            f"INSERT INTO day_sums VALUES {','.join([marks] * len(some))} "  # noqa: S608
            f"ON CONFLICT (part, day, value, unit, action) DO UPDATE SET {more}"
        )
        driver.execute(statement, [value for row in some for value in row])


def _pieces(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[n : n + _AT_ONCE] for n in range(0, len(rows), _AT_ONCE))
