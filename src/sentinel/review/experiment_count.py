"""What an experiment has seen so far: both variants counted from the journal, and on from there."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.log import hash_text
from sentinel.events.schema import Schema
from sentinel.policy.deployment import Experiment
from sentinel.policy.experiment import Tally, estimate_design_effect
from sentinel.policy.judge import MODEL_FAULTS
from sentinel.policy.thresholds import Action
from sentinel.record.journal_reader import DecisionRow, JournalReader, OutcomeRow

GROUPS = 32
"""Cards are counted in so many groups, to see how much payments of one card are alike."""

_ENOUGH = 30


class ExperimentCount:
    """The tallies of the experiment that runs. A transaction counts with the first outcome that is told of it."""

    def __init__(self, deadline_s: float, false_alarm_cost: float) -> None:
        self.experiment_id: str | None = None
        self._groups = _no_groups()
        self._deadline_us = round(deadline_s * 1e6)
        self._false_alarm_cost = false_alarm_cost
        self._amount = self._key = ""

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

    def follow(self, experiment: Experiment | None, journal: JournalReader, schema: Schema) -> None:
        """Count what the journal holds of this experiment, unless that is what is being counted already."""
        self._amount, self._key = schema.amount, schema.keys[0] if schema.keys else schema.id
        found = experiment.id if experiment else None
        if found == self.experiment_id:
            return
        self.experiment_id, self._groups = found, _no_groups()
        if found is not None:
            for rows, outcomes in journal.of_experiment(found):
                self.note(rows, outcomes, {row.transaction_id: row for row in rows})

    def note(
        self, rows: Sequence[DecisionRow], outcomes: Sequence[OutcomeRow], decided: Mapping[str, DecisionRow]
    ) -> None:
        """Count new decisions, and first outcomes of transactions in `decided`."""
        for row in rows:
            tally = self._tally(row, msgspec.json.decode(row.content)) if row.experiment else None
            if tally is not None:
                failed = row.degraded in MODEL_FAULTS
                tally.note_decision(Action(row.decision), row.latency_us, self._deadline_us, failed)
        for outcome in outcomes:
            about = decided.get(outcome.transaction_id)
            transaction = msgspec.json.decode(about.content) if about and about.experiment else {}
            tally = self._tally(about, transaction) if about else None
            if about is not None and tally is not None:
                amount = float(transaction[self._amount])
                try:
                    tally.note_outcome(Action(about.decision), outcome.is_fraud, abs(amount), self._false_alarm_cost)
                except InvalidInput:
                    continue

    def _tally(self, row: DecisionRow, transaction: dict[str, Any]) -> Tally | None:
        if row.experiment is None or row.experiment != self.experiment_id:
            return None
        return self._groups["b" if row.variant == "b" else "a"][hash_text(str(transaction.get(self._key))) % GROUPS]


def _no_groups() -> dict[str, list[Tally]]:
    return {variant: [Tally() for _ in range(GROUPS)] for variant in "ab"}
