"""What an experiment has seen so far: both variants counted from the journal, and on from there."""

from collections.abc import Mapping, Sequence

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.schema import Schema
from sentinel.policy.deployment import Experiment
from sentinel.policy.experiment import Tally
from sentinel.policy.judge import MODEL_FAULTS
from sentinel.policy.thresholds import Action
from sentinel.review.journal_reader import DecisionRow, JournalReader, OutcomeRow


class ExperimentCount:
    """The tallies of the experiment that runs. A transaction counts with the first outcome that is told of it."""

    def __init__(self, deadline_s: float, false_alarm_cost: float) -> None:
        self.experiment_id: str | None = None
        self.a, self.b = Tally(), Tally()
        self._deadline_us = round(deadline_s * 1e6)
        self._false_alarm_cost = false_alarm_cost
        self._amount = ""

    def follow(self, experiment: Experiment | None, journal: JournalReader, schema: Schema) -> None:
        """Count what the journal holds of this experiment, unless that is what is being counted already."""
        self._amount = schema.amount
        found = experiment.id if experiment else None
        if found == self.experiment_id:
            return
        self.experiment_id, self.a, self.b = found, Tally(), Tally()
        if found is not None:
            for rows, outcomes in journal.of_experiment(found):
                self.note(rows, outcomes, {row.transaction_id: row for row in rows})

    def note(
        self, rows: Sequence[DecisionRow], outcomes: Sequence[OutcomeRow], decided: Mapping[str, DecisionRow]
    ) -> None:
        """Count new decisions, and first outcomes of transactions in `decided`."""
        for row in rows:
            tally = self._tally(row)
            if tally is not None:
                failed = row.degraded in MODEL_FAULTS
                tally.note_decision(Action(row.decision), row.latency_us, self._deadline_us, failed)
        for outcome in outcomes:
            about = decided.get(outcome.transaction_id)
            tally = self._tally(about) if about else None
            if about is not None and tally is not None:
                amount = float(msgspec.json.decode(about.content)[self._amount])
                try:
                    tally.note_outcome(Action(about.decision), outcome.is_fraud, abs(amount), self._false_alarm_cost)
                except InvalidInput:
                    continue

    def _tally(self, row: DecisionRow) -> Tally | None:
        if row.experiment is None or row.experiment != self.experiment_id:
            return None
        return self.b if row.variant == "b" else self.a
