"""What an experiment has seen so far: both variants counted from the log, by a follower of their own."""

from typing import Any

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.columns import hash_text
from sentinel.events.schema import Schema
from sentinel.events.times import instant_us
from sentinel.policy.deployment import Experiment
from sentinel.policy.experiment import Tally, estimate_design_effect
from sentinel.policy.model_call import MODEL_FAULTS
from sentinel.policy.thresholds import Action
from sentinel.record.entries import DecisionRow, decided_in, decision_row, decision_rows, outcome_rows
from sentinel.record.log import Follower, Kind, LogReader, Record

GROUPS = 32
"""Number of card groups, for estimating how correlated payments of one card are."""

_ENOUGH = 30


class ExperimentTallies:
    """The tallies of one experiment. A transaction counts with the first outcome that is recorded of it.

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
        self._judged: set[int] = set()  # positions of the decisions whose outcome is counted

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
        return bool(records)

    def _count_decisions(self, record: Record) -> None:
        decided = decided_in(record)
        if all(decider.experiment != self.experiment for decider in decided.deciders):
            return
        for row in decision_rows(record, decided):
            if row.decider.experiment == self.experiment:
                failed = row.decider.degraded in MODEL_FAULTS
                tally = self._tally(row, msgspec.json.decode(row.content))
                tally.note_decision(Action(row.decision), row.latency_us, self._deadline_us, failed)

    def _count_outcomes(self, record: Record) -> None:
        for outcome in outcome_rows(record):
            if outcome.about < self._begin or outcome.about in self._judged:
                continue  # what was decided before is not of the experiment, and may be pruned
            about = self._log.at(outcome.about)
            row = decision_row(about, decided_in(about), outcome.about - about.position)
            if row.decider.experiment != self.experiment:
                continue
            self._judged.add(outcome.about)
            transaction = msgspec.json.decode(row.content)
            amount = abs(float(transaction[self._amount]))
            try:
                self._tally(row, transaction).note_outcome(
                    Action(row.decision), outcome.is_fraud, amount, self._false_alarm_cost
                )
            except InvalidInput:
                continue

    def _tally(self, row: DecisionRow, transaction: dict[str, Any]) -> Tally:
        variant = "b" if row.decider.variant == "b" else "a"
        return self._groups[variant][hash_text(str(transaction.get(self._key))) % GROUPS]
