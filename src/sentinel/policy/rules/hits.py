"""Where the rules of a book hold, for transactions as they are decided and as the log has them alike."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from sentinel.events.columns import hash_text, hash_texts
from sentinel.events.reference_tables.versions import LIST, SNOOZE, Tables, TableVersions
from sentinel.events.schema import Schema
from sentinel.events.wire import before_of
from sentinel.policy.rules.book import SCORE, Book, field_numbers, names_of
from sentinel.policy.rules.machine import run
from sentinel.policy.rules.precedence import Precedence
from sentinel.policy.rules.program import compile_conditions

_TextOf = Callable[[Any], str | None]


class BookHits:
    """All rules of a book over the transactions of a schema and the features of a model, which are `features` by name.

    Raises InvalidDefinition for conditions that cannot be read.
    """

    def __init__(self, book: Book, schema: Schema, features: Sequence[str]) -> None:
        self.book = book
        self.names = tuple(rule.name for rule in book.all_rules)
        self._places = {name: place for place, name in enumerate(self.names)}
        self.precedence = Precedence(book)
        names = names_of(schema, features, book.lists)
        self._program = compile_conditions(book.conditions(names), hash_text)
        fields = set(field_numbers(schema))
        self.numbers = tuple(name for name in self._program.numbers if name in fields)
        """The numbers of a transaction that it asks for."""
        self._keys = tuple(schema.keys)
        self.texts = tuple(
            dict.fromkeys((*self._program.texts, *(name for name, _ in self._program.lookups), *self._keys))
        )
        """Its texts likewise, and the keys that a rule can be asleep for."""
        columns = {name: n for n, name in enumerate(features)}
        self._of_fields = [n for n, name in enumerate(self._program.numbers) if name in fields]
        self._of_features = [n for n, name in enumerate(self._program.numbers) if name not in fields and name != SCORE]
        self._features = [columns[self._program.numbers[n]] for n in self._of_features]
        self._of_score = [n for n, name in enumerate(self._program.numbers) if name == SCORE]
        self._number_of = [_reader(name) for name in self.numbers]
        self._text_of = [_reader(name) for name in self._program.texts]
        self._width = len(features)

    def warm(self) -> None:
        """Have the machine compiled, or loaded from its cache, before the first transaction."""
        self.of([], np.empty((0, self._width)), np.empty(0), Tables(), np.empty(0, np.int64))

    def of(
        self,
        transactions: Sequence[Any],
        features: NDArray[np.float64],
        scores: NDArray[np.float64],
        tables: Tables,
        times_us: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Which rules hold (n, r): that are not off, in their time, and not asleep for a key of the transaction.

        Transactions have their fields as attributes; features (n, f), scores (n,) NaN where there is none, and the
        moments of the decisions (n,), as of which lists are asked.
        """
        n = len(transactions)
        numbers = np.empty((n, len(self._program.numbers)))
        for place, read in zip(self._of_fields, self._number_of, strict=True):
            numbers[:, place] = np.array(list(map(read, transactions)), np.float64)
        numbers[:, self._of_features] = features[:, self._features]
        for place in self._of_score:
            numbers[:, place] = scores
        texts = np.empty((n, len(self._text_of)), np.uint64)
        for place, text_of in enumerate(self._text_of):
            texts[:, place] = hash_texts(list(map(text_of, transactions)))
        hits = run(self._program, numbers, texts, self._listed(transactions, tables, times_us))
        if self.precedence.is_off.any():
            hits[:, self.precedence.is_off] = False
        if self.precedence.has_periods:
            hits &= self.precedence.in_time(times_us)
        self._let_sleep(hits, transactions, tables, times_us)
        return hits

    def _listed(self, transactions: Sequence[Any], tables: Tables, times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which look-ups find something (n, l)."""
        found = np.zeros((len(transactions), len(self._program.lookups)), np.bool_)
        for place, (field, name) in enumerate(self._program.lookups):
            versions, text_of = tables.of(name, LIST), _reader(field)
            if len(versions):
                moments = times_us.tolist()
                found[:, place] = [
                    _holds(versions, one, field, text_of(one), time_us)
                    for one, time_us in zip(transactions, moments, strict=True)
                ]
        return found

    def _let_sleep(
        self, hits: NDArray[np.bool_], transactions: Sequence[Any], tables: Tables, times_us: NDArray[np.int64]
    ) -> None:
        """Take back hits of rules that are asleep for a key of the transaction."""
        for name in tables.names_of(SNOOZE):
            place, versions = self._places.get(name), tables.of(name, SNOOZE)
            if place is None or not len(versions):
                continue
            for n in np.flatnonzero(hits[:, place]).tolist():
                one, time_us = transactions[n], int(times_us[n])
                hits[n, place] = not any(
                    _holds(versions, one, key, getattr(one, key), time_us, f"{key}=") for key in self._keys
                )


def _holds(
    versions: TableVersions, transaction: Any, field: str, text: str | None, time_us: int, prefix: str = ""
) -> bool:
    """Whether a field's text is on a list then, as it is kept now or was before the hash key was changed."""
    if text is None:
        return False
    if versions.values_at(prefix + text, time_us):
        return True
    if transaction.hashed_before is UNSET or (before := before_of(transaction, field)) is None:
        return False
    return bool(versions.values_at(prefix + before, time_us))


def _reader(name: str) -> _TextOf:
    return operator.attrgetter(name)
