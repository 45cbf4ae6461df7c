"""What a model has scored in a stored period, and what became of it: the log, ready to ask what if."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidInput
from sentinel.events.schema import Schema
from sentinel.events.times import iso
from sentinel.policy.sample import Sample
from sentinel.policy.thresholds import ACTIONS, Action
from sentinel.record.entries import Decided, decided_in, outcome_rows, own_levels, revoked_rows, schema_id
from sentinel.record.log import Follower, Kind, LogReader, Record
from sentinel.record.views.rows import KeyReader

UNKNOWN = -1
_LATEST_US = 2**63 - 1
_BLOCK = ACTIONS.index(Action.BLOCK)


class PastScores(NamedTuple):
    """The transactions that a model scored in a period, n of them in the order of the log.

    - `scores` float64 (n,), `levels` uint8 (n,): what was decided then.  `received_us` int64 (n,).
    - `own_levels` uint8 (n,): what would have been decided then without rules.
    - `amounts` float64 (n,) have no sign, NaN where the content does not fit the model's schema.
    - `labels` int8 (n,): by the newest outcome that was not taken back, -1 where there is none.
    """

    scores: NDArray[np.float64]
    levels: NDArray[np.uint8]
    received_us: NDArray[np.int64]
    amounts: NDArray[np.float64]
    labels: NDArray[np.int8]
    own_levels: NDArray[np.uint8]

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Of which of them it is known what they cost (n,)."""
        known: NDArray[np.bool_] = (self.labels != UNKNOWN) & ~np.isnan(self.amounts)
        return known

    def part(self, rows: slice) -> "PastScores":
        """Some of them."""
        return PastScores(
            self.scores[rows], self.levels[rows], self.received_us[rows], self.amounts[rows], self.labels[rows],
            self.own_levels[rows],
        )  # fmt: skip

    def with_silence(self, before_us: int) -> "PastScores":
        """The same, where silence about what was received before that moment means legitimate.

        Not about what was blocked: nobody could tell of it.
        """
        silent = (self.labels == UNKNOWN) & (self.received_us < before_us) & (self.levels != _BLOCK)
        return self._replace(labels=np.where(silent, np.int8(0), self.labels))

    def sample(self) -> Sample:
        """Those of which it is known what they cost, standing for all of the same time. At least one is needed."""
        known = self.judged
        times = self.received_us[known]
        meanwhile = (self.received_us >= times.min()) & (self.received_us <= times.max())
        return Sample(
            self.scores[known], self.labels[known], self.amounts[known], times, int(np.count_nonzero(meanwhile))
        )


class Beside(Protocol):
    """Takes from the log what else is wanted of the same decisions, in the same order."""

    def take(self, decided: Decided, where: NDArray[np.int64], received_us: int) -> None:
        """These decisions of a record, which was received then, are among them."""


def past_scores(
    log: LogReader, version: str, schema: Schema, period_us: tuple[int, int], progress: Callable[[int, int], None],
    beside: Beside | None = None,
) -> PastScores:  # fmt: skip
    """What this version scored of what was received in [from, to), and all outcomes of it so far.

    What rules or a fixed action decided has no score of the model, and is left out. Raises InvalidInput where nothing
    is left.
    """
    since_us, until_us = period_us
    follower = Follower(log, log.first_after(since_us - 1))
    period = _Period(version, schema, until_us, beside)
    begin, end = follower.position, log.durable
    for page in follower.rest():
        for record in page:
            period.take(record)
        progress(follower.position - begin, max(end - begin, 1))
    if not period.positions:
        raise InvalidInput(
            f"{version} scored nothing from {iso(since_us)} to {iso(until_us)}; choose another period or version, "
            f"the log begins at {iso(_begins_us(log))}",
            "$.from",
        )
    return period.found()


def newest_scores(
    log: LogReader, version: str, schema: Schema, most: int, beside: Beside | None = None
) -> PastScores | None:
    """What this version scored lately: `most` decisions or some more, and their outcomes; None where it scored none.

    At most 20 times as many entries of the log are looked at.
    """
    for reach in (2 * most, 6 * most, 20 * most):
        begin = max(log.durable - reach, log.first)
        sizes = _Sizes(version)
        for page in Follower(log, begin).rest():
            for record in page:
                sizes.take(record)
        if sum(n for _, n in sizes.found) >= most or begin == log.first:
            break
    since = sizes.newest(most)
    if since is None:
        return None
    period = _Period(version, schema, _LATEST_US, beside)
    for page in Follower(log, since).rest():
        for record in page:
            period.take(record)
    return period.found()


class _Sizes:
    """Where records with decisions of a version begin, and how many of those they have."""

    def __init__(self, version: str) -> None:
        self._version = version
        self.found: list[tuple[int, int]] = []

    def take(self, record: Record) -> None:
        if record.kind == Kind.DECIDED:
            n = len(_of_version(decided_in(record), self._version))
            if n:
                self.found.append((record.position, n))

    def newest(self, most: int) -> int | None:
        """The position from which on there are so many, or all."""
        total, since = 0, None
        for position, n in reversed(self.found):
            if total >= most:
                break
            total, since = total + n, position
        return since


def _of_version(decided: Decided, version: str) -> NDArray[np.int64]:
    """Which decisions of a record this version has scored."""
    mine = [one.model_version == version and one.degraded is None for one in decided.deciders]
    return np.flatnonzero(np.array(mine)[np.frombuffer(decided.by, np.uint8)])


def _begins_us(log: LogReader) -> int:
    return next((record.received_us for record in log.read(log.first, 1)), 0)


class _Period:
    def __init__(self, version: str, schema: Schema, until_us: int, beside: Beside | None) -> None:
        self._version, self._until_us, self._beside = version, until_us, beside
        self._schema_id, self._reader = schema_id(schema), KeyReader(schema)
        self.positions: list[NDArray[np.int64]] = []
        self._columns: list[tuple[NDArray[Any], ...]] = []
        self._truth: dict[int, int] = {}  # by the position of the decision

    def take(self, record: Record) -> None:
        if record.kind == Kind.DECIDED and record.received_us < self._until_us:
            self._take_decisions(record, decided_in(record))
        elif record.kind == Kind.OUTCOMES:
            self._truth |= {row.about: int(row.is_fraud) for row in outcome_rows(record)}
        elif record.kind == Kind.REVOKED:
            for row in revoked_rows(record):
                self._truth[row.about] = int(row.standing[-1].is_fraud) if row.standing else UNKNOWN

    def _take_decisions(self, record: Record, decided: Decided) -> None:
        where = _of_version(decided, self._version)
        if len(where) == 0:
            return
        if self._beside is not None:
            self._beside.take(decided, where, record.received_us)
        self.positions.append(record.position + where)
        self._columns.append(
            (
                np.frombuffer(decided.scores, "<f8")[where],
                np.frombuffer(decided.levels, np.uint8)[where],
                np.full(len(where), record.received_us),
                self._amounts(decided, where),
                own_levels(decided)[where],
            )
        )

    def _amounts(self, decided: Decided, where: NDArray[np.int64]) -> NDArray[np.float64]:
        if decided.schema_id != self._schema_id:
            return np.full(len(where), np.nan)
        found = self._reader.columns([decided.contents[n] for n in where.tolist()]).amounts
        return np.abs(np.array([np.nan if one is None else one for one in found], np.float64))

    def found(self) -> PastScores:
        columns = list(zip(*self._columns, strict=True))
        scores, levels, received_us, amounts, own = map(np.concatenate, columns)
        truth = [self._truth.get(one, UNKNOWN) for one in np.concatenate(self.positions).tolist()]
        return PastScores(scores, levels, received_us, amounts, np.array(truth, np.int8), own)
