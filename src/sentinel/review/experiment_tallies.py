"""What an experiment has seen so far: both variants counted from the log, by a follower of their own."""

import contextlib
from typing import Any

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.columns import hash_text
from sentinel.events.schema import Schema
from sentinel.events.times import instant_us
from sentinel.policy.deployment import Experiment
from sentinel.policy.experiment import Tally, compare, estimate_design_effect
from sentinel.policy.model_call import MODEL_FAULTS
from sentinel.policy.thresholds import Action
from sentinel.record.entries import DecisionRow, decided_in, decision_row, decision_rows, outcome_rows, revoked_rows
from sentinel.record.log import Follower, Kind, LogReader, Record
from sentinel.review.experiment_trail import Trail, TrailKeeper

GROUPS = 32
"""Number of card groups, for estimating how correlated payments of one card are."""

_ENOUGH = 30


class ExperimentTallies:
    """The tallies of one experiment. A transaction counts with the newest of its outcomes that was not taken back.

    Without one it is not known, or not known any more.

    `schema` is that of its transactions; outcomes cost `false_alarm_cost` where a legitimate one was flagged.
    """

    def __init__(
        self, log: LogReader, experiment: Experiment, schema: Schema, deadline_s: float, false_alarm_cost: float
    ) -> None:
        self.experiment = experiment.id
        self._log = log
        self._began_us = instant_us(experiment.began_at)
        self._follower: Follower | None = None
        self._begin = 0
        self._groups = {variant: [Tally() for _ in range(GROUPS)] for variant in "ab"}
        self._deadline_us = round(deadline_s * 1e6)
        self._false_alarm_cost = false_alarm_cost
        self._amount, self._key = schema.amount, schema.keys[0] if schema.keys else schema.id
        self._judged: dict[int, bool] = {}  # the outcome that is counted, by the position of the decision
        self._trail = TrailKeeper()

    @property
    def a(self) -> Tally:
        """What the champion has decided so far."""
        return sum(self._groups["a"], Tally())

    @property
    def b(self) -> Tally:
        """What the challenger has decided so far."""
        return sum(self._groups["b"], Tally())

    @property
    def design_effect(self) -> float:
        """How much wider intervals must be because payments of one card are alike; 1 while too little is known."""
        known = [groups for groups in self._groups.values() if min(one.decisions for one in groups) >= _ENOUGH]
        return max([1.0, *(estimate_design_effect(groups) for groups in known)])

    def follow(self) -> bool:
        """Count the next page of the log; whether there was one. The first time it looks where the experiment began."""
        if self._follower is None:
            self._follower = Follower(self._log, self._log.first_after(self._began_us - 1))
            self._begin = self._follower.position
        records = self._follower.next()
        for record in records:
            if record.kind == Kind.DECIDED:
                self._count_decisions(record)
            elif record.kind == Kind.OUTCOMES:
                self._count_outcomes(record)
            elif record.kind == Kind.REVOKED:
                self._take_back(record)
        if records:
            self._mark(records[-1].received_us)
        return bool(records)

    @property
    def trail(self) -> Trail:
        """How the comparison came to be what it is."""
        return self._trail.trail()

    def _mark(self, at_us: int) -> None:
        """Have the trail go on, where it is time for that."""
        a, b = self.a, self.b
        if self._trail.is_due(a, b):
            self._trail.note(at_us, a, b, compare(a, b, design_effect=self.design_effect))

    def _count_decisions(self, record: Record) -> None:
        decided = decided_in(record)
        if all(decider.experiment != self.experiment for decider in decided.deciders):
            return
        for row in decision_rows(record, decided):
            if row.decider.experiment == self.experiment:
                failed = row.decider.degraded in MODEL_FAULTS
                tally = self._tally(row, _fields_of(row))
                tally.note_decision(Action(row.decision), row.latency_us, self._deadline_us, failed)

    def _count_outcomes(self, record: Record) -> None:
        for outcome in outcome_rows(record):
            if self._judged.get(outcome.about) is not outcome.is_fraud:
                self._judge(outcome.about, outcome.is_fraud)

    def _take_back(self, record: Record) -> None:
        for row in revoked_rows(record):
            if row.about in self._judged:
                self._judge(row.about, row.standing[-1].is_fraud if row.standing else None)

    def _judge(self, position: int, is_fraud: bool | None) -> None:
        """Count this as the outcome of a decision, in the place of the one that is counted; None for no outcome."""
        if position < self._begin:
            return  # what was decided before is not of the experiment, and may be pruned
        about = self._log.at(position)
        if about.kind != Kind.DECIDED:
            return  # the decision is lost
        row = decision_row(about, decided_in(about), position - about.position)
        if row.decider.experiment != self.experiment:
            return
        transaction = _fields_of(row)
        amount = transaction.get(self._amount)
        if not isinstance(amount, int | float):
            return  # it does not fit the schema
        tally, action, amount = self._tally(row, transaction), Action(row.decision), abs(float(amount))
        before = self._judged.pop(position, None)
        with contextlib.suppress(InvalidInput):
            if before is not None:
                tally.forget_outcome(action, before, amount, self._false_alarm_cost)
            if is_fraud is not None:
                self._judged[position] = is_fraud
                tally.note_outcome(action, is_fraud, amount, self._false_alarm_cost)

    def _tally(self, row: DecisionRow, transaction: dict[str, Any]) -> Tally:
        variant = "b" if row.decider.variant == "b" else "a"
        return self._groups[variant][hash_text(str(transaction.get(self._key))) % GROUPS]


def _fields_of(row: DecisionRow) -> dict[str, Any]:
    """The transaction as it was kept; nothing of one that cannot be read."""
    try:
        return msgspec.json.decode(row.content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
