"""A backtest: what a book of rules would have done with a stored period, from the stored features and scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.events.reference_tables.versions import Tables
from sentinel.events.schema import Schema
from sentinel.policy.costs import Costs
from sentinel.policy.rules.book import Book, Deed
from sentinel.policy.rules.hits import BookHits
from sentinel.policy.rules.precedence import Precedence
from sentinel.policy.thresholds import ACTIONS, Action
from sentinel.record.entries import Decided, schema_id
from sentinel.review.past_scores import Beside, PastScores
from sentinel.review.stored_fields import StoredFields
from sentinel.review.what_if import Against, decided_so
from sentinel.review.what_if import Decided as DecidedSo

_AT_ONCE = 10_000
_MOST_OVERLAPS = 50
_FEWEST_A_DAY = 100  # decisions, for a day to say how often a rule holds


class RuleInPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule would have done.

    - `hits`: how many transactions it holds for; `alone` those that no other rule of the book holds for.
    - `judged`, `frauds`, `precision`: of how many of them the outcome is known, how many were fraud, and the share.
    - `approved_frauds`, `approved_amount`: the frauds among them that had been approved, and their amounts.
    - `busiest_day`: the most hits on one day (UTC).  `overlaps`: other rules -> how many hits they share, the 50
      that share most.
    - `band`: the lowest and the highest share of a day's decisions, of days with 100 and more; None without such a day.
    - `by_day`: hits by day, in the order of `was.days`.
    """

    name: str
    do: Deed
    state: str
    hits: int
    alone: int
    judged: int
    frauds: int
    precision: float | None
    approved_frauds: int
    approved_amount: float
    busiest_day: int
    band: tuple[float, float] | None
    overlaps: dict[str, int]
    by_day: list[int]


class Backtest(Against, frozen=True, kw_only=True):
    """What was decided, and what would have been decided with these rules upon it.

    `in_force` is what would have been decided with the book that is in force now, whatever was in force then; None
    where there is none.
    """

    rules: list[RuleInPeriod]
    in_force: DecidedSo | None = None


class Several:
    """Takes the same decisions for several."""

    def __init__(self, *others: Beside) -> None:
        self._others = others

    def take(self, decided: Decided, where: NDArray[np.int64], received_us: int) -> None:
        """See `Beside`."""
        for one in self._others:
            one.take(decided, where, received_us)


class PastHits:
    """Where the rules of a book hold among decisions of the log, packed (n, r bits); gathered beside their scores."""

    def __init__(self, hits: BookHits, schema: Schema, tables: Tables) -> None:
        """`tables` have the lists, as of any moment."""
        self._hits, self._schema_id, self._tables = hits, schema_id(schema), tables
        self._fields = StoredFields(hits)
        self._packed: list[NDArray[np.uint8]] = []

    def take(self, decided: Decided, where: NDArray[np.int64], received_us: int) -> None:
        """See `Beside`."""
        self._packed.append(np.packbits(self.of(decided, where, received_us), axis=1))

    def of(self, decided: Decided, where: NDArray[np.int64], received_us: int) -> NDArray[np.bool_]:
        """Where the rules hold for some decisions of a record, all of one model or of what stood in for it, (n, r)."""
        asked = [self._read(decided, n) for n in where.tolist()]
        scores = np.frombuffer(decided.scores, "<f8")[where].copy()
        scores[_without_model(decided)[where]] = np.nan
        moments = np.full(len(where), received_us)
        return self._hits.of(asked, _features(decided, where), scores, self._tables, moments)

    def _read(self, decided: Decided, n: int) -> Any:
        """What is asked of a transaction; all of it is missing where it follows another schema."""
        known = decided.schema_id == self._schema_id
        return self._fields.read(decided.contents[n]) if known else self._fields.unknown

    def found(self, begin: int, end: int) -> NDArray[np.bool_]:
        """Where the rules hold for transactions [begin, end), (n, r)."""
        if len(self._packed) > 1:
            self._packed = [np.concatenate(self._packed)]
        return np.unpackbits(self._packed[0][begin:end], axis=1, count=len(self._hits.names)).astype(np.bool_)


def _without_model(decided: Decided) -> NDArray[np.bool_]:
    """Which decisions of a record no model has scored (n,)."""
    degraded = np.array([one.degraded is not None for one in decided.deciders], np.bool_)
    return degraded[np.frombuffer(decided.by, np.uint8)]


def _features(decided: Decided, where: NDArray[np.int64]) -> NDArray[np.float64]:
    """The features (n, f) of decisions of one model; they are stored by who decided."""
    by = np.frombuffer(decided.by, np.uint8)
    whose = by[where]
    width = decided.deciders[int(whose[0])].features
    found = np.empty((len(where), width))
    for one in np.unique(whose).tolist():
        rows = np.frombuffer(decided.features[one], "<f8").reshape(-1, width)
        place = np.cumsum(by == one) - 1
        found[whose == one] = rows[place[where[whose == one]]]
    return found


class Tried(NamedTuple):
    """A book, and where its rules hold among what was gathered."""

    book: Book
    hits: PastHits


def backtest(
    past: PastScores, tried: Tried, version: str, period: tuple[str, str], costs: Costs, in_force: Tried | None = None
) -> Backtest:
    """What a book would have done with what was scored in a period, upon what was decided then."""
    book, hits = tried
    levels, tallies, precedence = np.empty_like(past.levels), _Tallies(book), Precedence(book)
    days, day_of = np.unique(past.received_us // 86_400_000_000, return_inverse=True)
    for begin in range(0, len(levels), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        found = hits.found(begin, begin + _AT_ONCE)
        levels[part] = precedence.levels(found, past.own_levels[part])
        tallies.add(found, past.part(part), day_of[part], len(days))
    return Backtest.of(
        past, version, period, levels, costs, rules=tallies.rules(np.bincount(day_of, minlength=len(days))),
        in_force=None if in_force is None else decided_so(past, _levels(past, in_force), costs),
    )  # fmt: skip


def _levels(past: PastScores, tried: Tried) -> NDArray[np.uint8]:
    """What a book would have decided (n,)."""
    levels, precedence = np.empty_like(past.levels), Precedence(tried.book)
    for begin in range(0, len(levels), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        levels[part] = precedence.levels(tried.hits.found(begin, begin + _AT_ONCE), past.own_levels[part])
    return levels


class _Tallies:
    """Counts by rule, added up over the period."""

    def __init__(self, book: Book) -> None:
        self._book = book
        count = len(book.all_rules)
        self._together = np.zeros((count, count), np.int64)
        self._alone, self._judged, self._frauds, self._approved = np.zeros((4, count), np.int64)
        self._amount = np.zeros(count)
        self._by_day: NDArray[np.int64] | None = None

    def add(self, found: NDArray[np.bool_], past: PastScores, day_of: NDArray[np.int64], days: int) -> None:
        """Take some transactions, where the rules hold for them (n, r), and the number of the day of each (n,)."""
        ones = found.astype(np.float64)
        self._together += np.rint(ones.T @ ones).astype(np.int64)
        self._alone += found[found.sum(axis=1) == 1].sum(axis=0)
        fraud = past.judged & (past.labels == 1)
        approved = fraud & (past.levels == ACTIONS.index(Action.APPROVE))
        self._judged += found[past.judged].sum(axis=0)
        self._frauds += found[fraud].sum(axis=0)
        self._approved += found[approved].sum(axis=0)
        self._amount += past.amounts[approved] @ ones[approved]
        if self._by_day is None:
            self._by_day = np.zeros((days, found.shape[1]), np.int64)
        np.add.at(self._by_day, day_of, found)

    def rules(self, decided: NDArray[np.int64]) -> list[RuleInPeriod]:
        """What each rule would have done, where so many were decided on each day."""
        names: Sequence[str] = [rule.name for rule in self._book.all_rules]
        found = []
        for n, rule in enumerate(self._book.all_rules):
            judged, frauds = int(self._judged[n]), int(self._frauds[n])
            others = [other for other in np.argsort(-self._together[n], kind="stable").tolist() if other != n]
            shared = {names[other]: int(self._together[n, other]) for other in others[:_MOST_OVERLAPS]}
            found.append(
                RuleInPeriod(
                    name=rule.name,
                    do=rule.do,
                    state=rule.state,
                    hits=int(self._together[n, n]),
                    alone=int(self._alone[n]),
                    judged=judged,
                    frauds=frauds,
                    precision=frauds / judged if judged else None,
                    approved_frauds=int(self._approved[n]),
                    approved_amount=float(self._amount[n]),
                    busiest_day=0 if self._by_day is None else int(self._by_day[:, n].max()),
                    band=None if self._by_day is None else _band(self._by_day[:, n], decided),
                    overlaps={name: count for name, count in shared.items() if count},
                    by_day=[] if self._by_day is None else self._by_day[:, n].tolist(),
                )
            )
        return found


def _band(hits: NDArray[np.int64], decided: NDArray[np.int64]) -> tuple[float, float] | None:
    """The lowest and the highest share of a day."""
    whole = decided >= _FEWEST_A_DAY
    if not whole.any():
        return None
    shares = hits[whole] / decided[whole]
    return float(shares.min()), float(shares.max())
