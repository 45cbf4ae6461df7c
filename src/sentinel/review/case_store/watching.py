"""Watching: which decisions of the log ask for a person, and which case each belongs to."""

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from sentinel.events.schema import Schema
from sentinel.policy.deployment import RulesInForce
from sentinel.policy.rules.book import Deed
from sentinel.policy.thresholds import ACTIONS, Action
from sentinel.record.entries import Decided, DecisionRow, decided_in, decision_row
from sentinel.record.log import Kind, LogReader, Record
from sentinel.record.rules_history import RulesByRevision
from sentinel.review.case_store.asking import Asking
from sentinel.review.case_store.writing import cut
from sentinel.review.cases.likeness import signs_of_rules

WATCH = "watch"
"""How the name of a rule begins that does `tag`, and whose hits are looked at. Lists of the kind `watch` are anyway."""

REVIEW = "review"


class _Of(NamedTuple):
    """What a decision is about, as far as its schema is known: field, value, amount, and the amount's decimals."""

    key_field: str
    key_value: str
    amount: int | None
    decimals: int


class Watching:
    """Finds what asks for a person. A decision of an unknown schema, or without the key, is a case by itself."""

    def __init__(self, log: LogReader, schemas: Callable[[], Mapping[str, Schema]], by: str | None) -> None:
        self._log, self._schemas, self._by = log, schemas, by
        self._known: dict[str, Schema | None] = {}
        self._watched: dict[int, frozenset[str]] = {}

    def asking_in(self, record: Record) -> Sequence[Asking]:
        """The decisions of a record that ask, in their order. Raises StorageProblem."""
        if record.kind != Kind.DECIDED:
            return ()
        decided = decided_in(record)
        rows = [decision_row(record, decided, n) for n in _places(decided)]
        schema = self._schema(decided.schema_id) if rows else None
        found = ((row, self._why(row)) for row in rows)
        return [asking(row, why, schema, self._by) for row, why in found if why is not None]

    def _why(self, row: DecisionRow) -> str | None:
        """What asks; None where nothing does."""
        if row.decision == Action.REVIEW:
            return REVIEW
        fired = () if row.ruled is None else row.ruled.fired
        hit = next((name for name in fired if name in self._watched_in(row.revision)), None)
        return None if hit is None else cut(f"rule {hit}")

    def _watched_in(self, revision: int) -> frozenset[str]:
        if revision not in self._watched:
            rules = RulesByRevision(self._log).at(revision)
            self._watched[revision] = _watched(rules) if isinstance(rules, RulesInForce) else frozenset()
        return self._watched[revision]

    def _schema(self, name: str) -> Schema | None:
        if self._known.get(name) is None:
            self._known[name] = self._schemas().get(name)
        return self._known[name]


def asking(row: DecisionRow, why: str, schema: Schema | None, by: str | None) -> Asking:
    """A stored decision as what asks for a person, for the reason `why`."""
    of = _of(row, schema, by)
    return Asking(
        position=row.position, transaction_id=row.transaction_id, received_us=row.received_us, amount=of.amount,
        decimals=of.decimals, probability=row.fraud_probability, decision=row.decision, why=why,
        signs=frozenset(signs_of_rules(row.ruled.fired if row.ruled is not None else ())),
        key_field=of.key_field, key_value=of.key_value,
    )  # fmt: skip


def _places(decided: Decided) -> list[int]:
    """Those that a person may have to look at: the others are not read any further."""
    review = ACTIONS.index(Action.REVIEW)
    ruled = {one.place for one in decided.ruled if one.fired}
    return [n for n, level in enumerate(decided.levels) if level == review or n in ruled]


def _watched(rules: RulesInForce) -> frozenset[str]:
    """The names of the rules whose hits are looked at."""
    lists = {one.rule.name for one in rules.book.lists if one.kind == "watch" and one.rule is not None}
    named = {one.name for one in rules.book.rules if one.do == Deed.TAG and one.name.lower().startswith(WATCH)}
    return frozenset(lists | named)


def _of(row: DecisionRow, schema: Schema | None, by: str | None) -> _Of:
    alone = _Of("transaction_id", row.transaction_id, None, 2)
    if schema is None:
        return alone
    try:
        fields = json.loads(row.content, parse_float=Decimal)
        decimals = schema.decimals[schema.amount]
        amount = int(Decimal(fields[schema.amount]).scaleb(decimals).to_integral_value())
    except (ValueError, KeyError, TypeError, InvalidOperation, OverflowError):
        return alone
    field = by if by in schema.keys else schema.keys[0] if schema.keys else schema.id
    value = fields.get(field)
    if not isinstance(value, str):
        field, value = schema.id, row.transaction_id
    return _Of(field, value, amount, decimals)
