"""Events as columns: what the feature kernel reads, for one transaction or a hundred million."""

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from sentinel.events.schema import Schema
from sentinel.events.wire import HASHED_BEFORE, ContextEvent, Transaction, event_of

MISSING = np.iinfo(np.int64).min
"""A missing exact number."""
NO_TEXT = 0
"""The hash of a missing text."""
LABEL_UNKNOWN = -1
TRANSACTION, OUTCOME, FIRST_CONTEXT = range(3)
"""The kinds of events: of those of the context (`Schema.events`), each has a kind of its own from FIRST_CONTEXT on."""

OPERATOR = "operator"
"""Who tells outcomes without an API key, and their source unless another one is said."""

_before_of = operator.attrgetter(HASHED_BEFORE)
SOURCE_FORM = "1 to 64 letters, digits, and . _ : -"


def is_source(text: str) -> bool:
    """Whether this can be a source of outcomes: it is a label of metrics, too.

    >>> is_source("bank:visa"), is_source("the bank")
    (True, False)
    """
    return re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text) is not None


class Outcome(msgspec.Struct, frozen=True):
    """The truth about a transaction, as it became known at `time_us`.

    `source` is where it comes from (`bank`, `analyst`), `told_by` the name of the API key that it came with, `reason`
    whatever text came along. `id_before` is what the id was before the hash key was changed, if it is another one now.
    """

    transaction_id: str
    is_fraud: bool
    time_us: int
    source: str = OPERATOR
    told_by: str = OPERATOR
    reason: str = ""
    id_before: str | None = None


@dataclass(frozen=True, slots=True)
class EventColumns:
    """n events in the order in which they arrived; every array has n rows.

    - `kinds` uint8: TRANSACTION, OUTCOME (the truth about an earlier transaction), or a kind of the context.
    - `ids` uint64: hash of the transaction id; NO_TEXT for the context, which no outcome is about.
    - `time_us` int64: when it happened, by its own account, in microseconds since 1970 UTC.
    - `received_us` int64: when it arrived, by our clock.
    - `exact` int64 (n, len(schema.whole_numbers)): multiples of 10**-decimals, microseconds of times, or MISSING.
    - `plain` float64 (n, len(schema.plain_numbers)): NaN where missing.
    - `texts` uint64 (n, len(schema.texts)): hashes, NO_TEXT where missing.
    - `labels` int8: 1 fraud, 0 legitimate, LABEL_UNKNOWN. For a transaction, what delayed features may use
      once their delay has passed; for an outcome, the truth itself.
    """

    kinds: NDArray[np.uint8]
    ids: NDArray[np.uint64]
    time_us: NDArray[np.int64]
    received_us: NDArray[np.int64]
    exact: NDArray[np.int64]
    plain: NDArray[np.float64]
    texts: NDArray[np.uint64]
    labels: NDArray[np.int8]

    def __len__(self) -> int:
        """Number of events."""
        return len(self.ids)

    def columns(self) -> Iterator[NDArray[Any]]:
        """The arrays, in the order of the fields."""
        return (getattr(self, name) for name in self.__slots__)

    def rows(self, where: slice | NDArray[Any]) -> "EventColumns":
        """The events that `where` selects."""
        return EventColumns(*(column[where] for column in self.columns()))


def hash_text(text: str) -> int:
    """64-bit hash of a text, the same in every process; never NO_TEXT.

    >>> hash_text("card-1") == hash_text("card-1") != hash_text("card-2")
    True
    """
    return xxh3_64_intdigest(text.encode()) or 1


def hash_texts(texts: Sequence[str | None]) -> NDArray[np.uint64]:
    """The hashes of several texts (n,), NO_TEXT for None."""
    if None in texts:
        return np.array([NO_TEXT if text is None else hash_text(text) for text in texts], np.uint64)
    hashes = np.array(list(map(xxh3_64_intdigest, map(str.encode, texts))), np.uint64)  # type: ignore[arg-type]
    hashes[hashes == NO_TEXT] = 1
    return hashes


def names_before(schema: Schema) -> Callable[[Sequence[Any]], NDArray[np.uint64] | None]:
    """A function that returns what the texts of events were before the hash key was changed.

    That is uint64 (n, len(schema.texts)): hashes, NO_TEXT where there is nothing else; None where there is nothing at
    all.
    """
    columns = {name: column for column, name in enumerate(schema.texts)}

    def convert(events: Sequence[Any]) -> NDArray[np.uint64] | None:
        try:
            before = list(map(_before_of, events))
        except AttributeError:  # outcomes are among them
            before = [getattr(event, HASHED_BEFORE, UNSET) for event in events]
        if before.count(UNSET) == len(before):
            return None
        names = np.zeros((len(events), len(columns)), np.uint64)
        for n, one in enumerate(before):
            if one is not UNSET:
                for name, text in one.items():
                    if name in columns:  # the id may be another one, too
                        names[n, columns[name]] = hash_text(text)
        return names

    return convert


Received: TypeAlias = int | NDArray[np.int64]
"""When events arrived, microseconds since 1970: one moment for all of them, or one each (n,)."""


class ToColumns(Protocol):
    """A function that makes EventColumns."""

    def __call__(
        self, events: Sequence[Any], received_us: Received, ids: NDArray[np.uint64] | None = None
    ) -> EventColumns:
        """Of these events; `ids` are the hashes of their transaction ids, where they are known."""


def columns_of_transactions(schema: Schema) -> ToColumns:
    """A function that turns decoded transactions of `schema` into EventColumns with unknown labels."""
    n_exact, n_plain = len(schema.whole_numbers), len(schema.plain_numbers)
    scales = np.array([10.0**digits for digits in schema.whole_numbers.values()])
    names = schema.kept
    values_of = operator.attrgetter(*names)
    first_plain, first_text = 2 + n_exact, 2 + n_exact + n_plain

    def convert(
        events: Sequence[Transaction], received_us: Received, ids: NDArray[np.uint64] | None = None
    ) -> EventColumns:
        n = len(events)
        columns = list(zip(*map(values_of, events), strict=True)) or [()] * len(names)
        exact = np.array(columns[2:first_plain], dtype=np.float64).reshape(n_exact, n).T
        plain = np.array(columns[first_plain:first_text], dtype=np.float64).reshape(n_plain, n).T
        texts = np.empty((n, len(columns) - first_text), np.uint64)
        for place, column in enumerate(columns[first_text:]):
            texts[:, place] = hash_texts(column)
        return EventColumns(
            kinds=np.full(n, TRANSACTION, np.uint8),
            ids=hash_texts(columns[0]) if ids is None else ids,
            time_us=np.array(columns[1], dtype=np.int64),
            received_us=np.full(n, received_us, np.int64),
            exact=fixed_point(exact, scales),
            plain=np.ascontiguousarray(plain),
            texts=texts,
            labels=np.full(n, LABEL_UNKNOWN, np.int8),
        )

    return convert


def fixed_point(values: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers (n, k) as whole multiples of 1/scale, NaN as MISSING."""
    missing = np.isnan(values)
    scaled = np.rint(np.where(missing, 0.0, values) * scales).astype(np.int64)
    return np.ascontiguousarray(np.where(missing, MISSING, scaled))


def columns_of_events(schema: Schema) -> ToColumns:
    """A function that turns decoded transactions, outcomes and context events into EventColumns, in their order."""
    of_transactions, of_context = columns_of_transactions(schema), columns_of_context(schema)
    decided_only = {schema.wire_type}

    def convert(
        events: Sequence[Transaction | Outcome], received_us: Received, ids: NDArray[np.uint64] | None = None
    ) -> EventColumns:
        kinds = set(map(type, events))
        if kinds == decided_only or all(_base_of(kind) is Transaction for kind in kinds):
            return of_transactions(events, received_us, ids)
        parts, begin = [], 0
        for kind, run in groupby(events, key=lambda event: _base_of(type(event))):
            part: list[Any] = list(run)
            end = begin + len(part)
            when = received_us[begin:end] if isinstance(received_us, np.ndarray) else received_us
            begin = end
            if kind is Outcome:
                parts.append(columns_of_outcomes(schema, part, when))
            else:
                parts.append((of_context if kind is ContextEvent else of_transactions)(part, when))
        return parts[0] if len(parts) == 1 else concatenate(parts)

    return convert


def _base_of(kind: type) -> type:
    return Outcome if kind is Outcome else ContextEvent if issubclass(kind, ContextEvent) else Transaction


def context_kinds(schema: Schema) -> dict[str, int]:
    """By its name, the number of each kind of context events that a schema declares.

    >>> context_kinds(Schema(keys=("card_id",), events={"login": ("card_id",), "card_added": ("card_id",)}))
    {'card_added': 2, 'login': 3}
    """
    return {name: FIRST_CONTEXT + place for place, name in enumerate(schema.events)}


def columns_of_context(schema: Schema) -> ToColumns:
    """A function that turns context events of `schema` into EventColumns; what a kind does not carry is missing."""
    kinds = context_kinds(schema)
    scales = np.array([10.0**digits for digits in schema.whole_numbers.values()])
    columns = tuple(schema.whole_numbers), schema.plain_numbers, schema.texts
    time_of = operator.attrgetter(schema.time)

    def convert(
        events: Sequence[ContextEvent], received_us: Received, ids: NDArray[np.uint64] | None = None
    ) -> EventColumns:
        n = len(events)
        exact, plain, texts = (
            [[getattr(event, name, None) for event in events] for name in names] for names in columns
        )
        return EventColumns(
            kinds=np.array([kinds[event_of(event)] for event in events], np.uint8),
            ids=np.full(n, NO_TEXT, np.uint64) if ids is None else ids,
            time_us=np.array(list(map(time_of, events)), np.int64),
            received_us=np.full(n, received_us, np.int64),
            exact=fixed_point(np.array(exact, np.float64).reshape(len(exact), n).T, scales),
            plain=np.ascontiguousarray(np.array(plain, np.float64).reshape(len(plain), n).T),
            texts=np.ascontiguousarray(np.array([hash_texts(one) for one in texts], np.uint64).reshape(-1, n).T),
            labels=np.full(n, LABEL_UNKNOWN, np.int8),
        )

    return convert


def columns_of_outcomes(schema: Schema, outcomes: Sequence[Outcome], received_us: Received) -> EventColumns:
    """Outcomes that arrived together as EventColumns, in their order."""
    return outcome_rows(
        schema,
        hash_texts([one.transaction_id for one in outcomes]),
        np.array([one.time_us for one in outcomes], dtype=np.int64),
        np.full(len(outcomes), received_us, np.int64),
        np.array([one.is_fraud for one in outcomes], dtype=np.int8),
    )


def outcome_rows(
    schema: Schema,
    ids: NDArray[np.uint64],
    time_us: NDArray[np.int64],
    received_us: NDArray[np.int64],
    labels: NDArray[np.int8],
) -> EventColumns:
    """Outcomes as events; they carry nothing but id, times and label."""
    n = len(ids)
    return EventColumns(
        kinds=np.full(n, OUTCOME, np.uint8),
        ids=ids,
        time_us=time_us,
        received_us=received_us,
        exact=np.full((n, len(schema.whole_numbers)), MISSING, np.int64),
        plain=np.full((n, len(schema.plain_numbers)), np.nan),
        texts=np.zeros((n, len(schema.texts)), np.uint64),
        labels=labels,
    )


def concatenate(parts: Sequence[EventColumns]) -> EventColumns:
    """The events of several parts, one part after the other."""
    return EventColumns(*(np.concatenate(columns) for columns in zip(*(part.columns() for part in parts), strict=True)))
