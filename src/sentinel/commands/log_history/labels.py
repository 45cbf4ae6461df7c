"""How truth becomes a label, and what became of the transactions of an export."""

import dataclasses

import numpy as np

from sentinel.record.entries import Drawn
from sentinel.record.known_outcomes import Truth
from sentinel.review.held_out import BlockedEstimate, Span, estimate_blocked


@dataclasses.dataclass(slots=True)
class Counts:
    """What became of the transactions: how many have which label or none, and how many are left out."""

    fraud: int = 0
    legitimate: int = 0
    immature: int = 0
    blocked_unknown: int = 0
    erased: int = 0
    early_outcomes: int = 0
    matched: int = 0
    eligible: int = 0
    fraud_eligible: int = 0
    labelled_eligible: int = 0
    held_out: list[tuple[float, bool]] = dataclasses.field(default_factory=list)

    def draw(self, drawn: Drawn, label: int | None) -> None:
        """One that could have been held out, and is old enough to be known."""
        self.eligible += 1
        self.fraud_eligible += label == 1
        self.labelled_eligible += label is not None
        if drawn.is_approved and label is not None:
            self.held_out.append((drawn.propensity, label == 1))

    @property
    def blocked(self) -> BlockedEstimate:
        """What is known of all that could have been held out, by those that were."""
        propensities, labels = zip(*self.held_out, strict=True) if self.held_out else ((), ())
        return estimate_blocked(np.array(propensities, np.float64), np.array(labels, np.bool_), self.eligible)

    @property
    def fraud_share(self) -> Span | None:
        """The share of fraud among all that are old enough, the blocked included."""
        others = self.fraud + self.legitimate - self.labelled_eligible
        return self.blocked.fraud_share(self.fraud - self.fraud_eligible, others)

    @property
    def fraud_share_known(self) -> float:
        """That among those with a label, which most of the blocked have not."""
        labelled = self.fraud + self.legitimate
        return self.fraud / labelled if labelled else 0.0

    @property
    def blocked_recall(self) -> Span | None:
        """The share of all fraud that turning away finds."""
        return self.blocked.recall(self.fraud - self.fraud_eligible)

    def count(self, label: int | None, *, is_mature: bool) -> None:
        """One more transaction with this label, or none."""
        if label is None:
            self.immature += not is_mature
        else:
            self.fraud += label == 1
            self.legitimate += label == 0


@dataclasses.dataclass(frozen=True, slots=True)
class Labelling:
    """How truth becomes a label: what is younger than `mature_us` at `as_of_us` has none.

    Silence about what is older means legitimate, but of what was blocked nobody could tell.
    """

    as_of_us: int
    mature_us: int

    def is_mature(self, time_us: int) -> bool:
        """Whether a transaction of this moment is old enough for its silence to say something."""
        return time_us + self.mature_us <= self.as_of_us

    def label(self, truth: Truth | None, time_us: int, *, was_blocked: bool) -> int | None:
        """1 fraud, 0 legitimate, or None for not known."""
        if not self.is_mature(time_us):
            return None
        if truth is None:
            return None if was_blocked else 0
        return truth.is_fraud
