"""Views: what people look at. They are derived from the log, and may be deleted and made again at any time."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from sentinel.errors import InvalidInput, StorageProblem
from sentinel.policy.results import State
from sentinel.policy.thresholds import Action
from sentinel.record.entries import OutcomeRow
from sentinel.record.results import ResultRow
from sentinel.record.views.counted import Counted
from sentinel.record.views.rows import Rows

MOST_ROWS = 500
LAST = 2**63 - 1
"""No position and no time is greater."""


class ViewPosition(NamedTuple):
    """Every entry of the log before `position` is in the view; an empty `log_id` when none ever was.

    `chain` is the hash of the last record that was projected, `projected_at_us` the wall clock then.
    """

    log_id: str
    position: int
    chain: bytes
    projected_at_us: int


class ViewMoved(StorageProblem):
    """Another projector has moved the view on, or it was put back: nothing was stored. Look where it is, and go on."""


class DecisionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which decisions are wanted; omitted fields do not filter. Raises InvalidInput for a wrong limit or cursor.

    - `keys`: values of keys of the schema, `{"card_id": "c-7"}`; all of them.
    - `from_us`, `to_us`: received in [from_us, to_us), microseconds since 1970 UTC.
    - `least_amount`, `most_amount`: the amount is known, and at least and at most that.
    - `degraded`: true for those only that the model did not decide.  `rule`: those for which it held, as a shadow too.
    - `state`: where their transactions stand, by the results that were told of them.
    - `limit`: 1 to 500 rows.  `cursor`: `Page.next` of the page before.
    """

    keys: Mapping[str, str] = {}
    from_us: int | None = None
    to_us: int | None = None
    action: Action | None = None
    model_version: str | None = None
    degraded: bool = False
    rule: str | None = None
    state: State | None = None
    least_amount: float | None = None
    most_amount: float | None = None
    limit: int = 50
    cursor: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MOST_ROWS:
            raise InvalidInput(f"Expected `int` from 1 to {MOST_ROWS}, got {self.limit}", "$.limit")
        for name, value in (("from_us", self.from_us), ("to_us", self.to_us), ("cursor", self.before)):
            if not 0 <= (value or 0) <= LAST:
                raise InvalidInput(f"Expected `int` from 0 to {LAST}", f"$.{name}")
        for name, amount in (("least_amount", self.least_amount), ("most_amount", self.most_amount)):
            if amount is not None and not math.isfinite(amount):
                raise InvalidInput("Expected a number", f"$.{name}")

    @property
    def before(self) -> int | None:
        """The position that the cursor stands for: this page has decisions before it."""
        try:
            return None if self.cursor is None else int(self.cursor, 16)
        except ValueError:
            raise InvalidInput("Expected the `next` of a page", "$.cursor") from None


class ListedDecision(msgspec.Struct, frozen=True, gc=False):
    """What a list shows of a decision, and where its transaction stands.

    Amount and keys are missing when its schema was not known.
    """

    transaction_id: str
    position: int
    received_us: int
    amount: float | None
    decision: str
    fraud_probability: float
    model_version: str
    degraded: str | None
    keys: dict[str, str]
    late: bool
    variant: str | None
    state: str


class Page(msgspec.Struct, frozen=True):
    """Decisions, newest first; `next` is the cursor of the following page, None on the last one.

    The page knows at least every entry of the log before `position`.
    """

    rows: list[ListedDecision]
    next: str | None
    position: int


def merged(pages: Sequence[Page], limit: int) -> Page:
    """The page of what fits any of several queries that differ in keys, at least one."""
    if len(pages) == 1:
        return pages[0]
    found = {one.position: one for page in pages for one in page.rows}
    rows = [found[position] for position in sorted(found, reverse=True)][:limit]
    has_more = len(found) > limit or any(page.next is not None for page in pages)
    return Page(rows, f"{rows[-1].position:x}" if has_more else None, min(page.position for page in pages))


class LabelCounts(NamedTuple):
    """Decisions of a stretch of the log, how many have an outcome, and how many were blocked and have none."""

    decisions: int
    labelled: int
    frauds: int
    blocked_without_outcome: int


Days = tuple[int, int]
"""Days since 1970, UTC, from the first up to the second, without it."""


class Summed(NamedTuple):
    """Sums of some decisions with one action, and amounts in one unit of money.

    - `day`, `value`: what they have in common; the other one is None.
    - `unit`: decimals and currency of the money (`Counted.unit`); empty where amounts are not known.
    - `decisions`, `money`: of all.  `frauds`, `legitimate`: of those that turned out so, each with its money.
    - `silent`: nothing is known of them, they are mature, and were not blocked: they count as legitimate.
    """

    day: int | None
    value: str | None
    unit: str
    action: str
    decisions: int
    money: int
    frauds: int
    fraud_money: int
    legitimate: int
    legitimate_money: int
    silent: int


class SumsBegin(NamedTuple):
    """Since when there are sums: what is counted now, and when the first decision that is counted was received.

    `lacks_older` is whether the view has decisions from before.
    """

    counted: Counted
    received_us: int
    lacks_older: bool


class RuleHits(NamedTuple):
    """What became of the decisions of a stretch of time that a rule held for, as a `shadow` or not.

    `reviewed` and `blocked` are what was decided of them, by whatever. `judged` have an outcome, by the newest of each
    that counts, and `frauds` are fraud.
    """

    rule: str
    shadow: bool
    hits: int
    reviewed: int
    blocked: int
    judged: int
    frauds: int


class Counts(msgspec.Struct, frozen=True):
    """How many rows a view has. `without_keys` counts the decisions whose schema was not known."""

    decisions: int
    outcomes: int
    by_action: dict[str, int]
    without_keys: int


class View(Protocol):
    """The decisions and outcomes of one log in a database.

    `project` and `prune` are called from one thread of one process, the others from any. Every call raises
    StorageProblem, with what to do, when the database is away, damaged or of another version.
    """

    @property
    def position(self) -> ViewPosition:
        """How far the view is."""

    def project(self, rows: Rows, log_id: str, since: int, now_us: int) -> None:
        """Store the rows of all records from position `since` on, and move on behind them: both, or neither.

        Raises ViewMoved, and stores nothing, unless the view is at `since`; StorageProblem when it is of another log.
        """

    def search(self, query: DecisionQuery) -> Page:
        """The newest decisions that fit. New rows do not change the pages that a cursor leads to."""

    def counts(self) -> Counts:
        """How many rows there are."""

    def outcomes_about(self, positions: Sequence[int]) -> dict[int, bool]:
        """Decision position -> whether it was fraud, by its newest outcome that counts, for those that have one."""

    def reasons_about(self, positions: Sequence[int]) -> dict[int, str]:
        """Decision position -> the JSON of its reasons, for those that have some."""

    def results_about(self, positions: Sequence[int]) -> dict[int, list[ResultRow]]:
        """Decision position -> what was told of it, oldest first, if anything was; the rows are without their ids."""

    def rules_at(self, positions: Sequence[int]) -> dict[int, list[tuple[str, bool]]]:
        """Decision position -> the rules that held for it, and whether as shadows, for those that have some."""

    def rule_hits_between(self, from_us: int, to_us: int) -> list[RuleHits]:
        """By rule, what it held for among what was received in [from_us, to_us), by name."""

    def alarms_between(self, from_us: int, to_us: int) -> dict[str, int]:
        """How many of what was received in [from_us, to_us) got each action but approve; none where it is none."""

    def contents_at(self, positions: Sequence[int]) -> dict[int, str]:
        """Decision position -> the JSON of its transaction as it is kept, for those that are there."""

    def labels_between(self, begin: int, end: int) -> LabelCounts:
        """What is known of the decisions from one position to another, by the newest outcome of each that counts."""

    def outcomes(self, after: int, limit: int) -> list[OutcomeRow]:
        """The next outcomes, by position, after this one."""

    def summed_by_day(self, part: str, days: Days, mature_before: int, value: str | None = None) -> list[Summed]:
        """The sums of each day of a stretch, of a part or one value of it (`day_sums`)."""

    def summed_by_value(self, part: str, days: Days, mature_before: int) -> list[Summed]:
        """The sums of each value of a part (`day_sums`), over a stretch of days."""

    def sums_begin(self) -> SumsBegin | None:
        """Since when there are sums; None while there are none."""

    def prune(self, before: int) -> bool:
        """Delete what is older than this position, some thousands of rows of it; whether more is left to delete."""

    def close(self) -> None:
        """Release what is open."""
