"""Where the rules of a book hold, for transactions as they are decided and as the log has them alike."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import hash_text, hash_texts
from sentinel.events.schema import Schema
from sentinel.policy.rules.book import SCORE, Book, field_numbers, names_of
from sentinel.policy.rules.machine import run
from sentinel.policy.rules.program import compile_conditions


class BookHits:
    """A book over the transactions of a schema and the features of a model, which are `features` by name.

    Raises InvalidDefinition for conditions that cannot be read.
    """

    def __init__(self, book: Book, schema: Schema, features: Sequence[str]) -> None:
        self.book = book
        self._program = compile_conditions(book.conditions(names_of(schema, features)), hash_text)
        fields = set(field_numbers(schema))
        self.numbers = tuple(name for name in self._program.numbers if name in fields)
        """The numbers of a transaction that it asks for."""
        self.texts = self._program.texts
        """Its texts likewise."""
        columns = {name: n for n, name in enumerate(features)}
        self._of_fields = [n for n, name in enumerate(self._program.numbers) if name in fields]
        self._of_features = [n for n, name in enumerate(self._program.numbers) if name not in fields and name != SCORE]
        self._features = [columns[self._program.numbers[n]] for n in self._of_features]
        self._of_score = [n for n, name in enumerate(self._program.numbers) if name == SCORE]
        self._number_of = [_reader(name) for name in self.numbers]
        self._text_of = [_reader(name) for name in self.texts]

    def of(
        self, transactions: Sequence[Any], features: NDArray[np.float64], scores: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Which rules hold (n, r), for transactions with their fields as attributes, features (n, f), scores (n,)."""
        n = len(transactions)
        numbers = np.empty((n, len(self._program.numbers)))
        for place, read in zip(self._of_fields, self._number_of, strict=True):
            numbers[:, place] = np.array(list(map(read, transactions)), np.float64)
        numbers[:, self._of_features] = features[:, self._features]
        for place in self._of_score:
            numbers[:, place] = scores
        texts = np.empty((n, len(self.texts)), np.uint64)
        for place, read in enumerate(self._text_of):
            texts[:, place] = hash_texts(list(map(read, transactions)))
        return run(self._program, numbers, texts, np.empty((n, 0), np.bool_))


def _reader(name: str) -> Callable[[Any], Any]:
    return operator.attrgetter(name)
