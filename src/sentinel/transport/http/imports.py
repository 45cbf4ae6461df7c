"""The admin call that takes outcomes of a file, some at a time, under a name by which they can be taken back."""

import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from sentinel.errors import BadBody, Conflict, InvalidInput
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.columns import SOURCE_FORM, Outcome, is_source
from sentinel.events.reader import TransactionReader
from sentinel.events.times import FARTHEST_AHEAD_US, instant_us
from sentinel.events.wire import ID
from sentinel.record.audit import By, Change, append_change
from sentinel.record.journal import Journal
from sentinel.record.log import Record
from sentinel.serve.batch import Answered, Arrivals, Noted
from sentinel.serve.learn import not_told

BATCH_FORM = "[A-Za-z0-9._-]{1,64}"
MOST_AT_ONCE = 100
"""Outcomes of one call: they are recorded within a turn of the event loop."""


Learn = Callable[[Arrivals, int], Answered]
"""Records outcomes that have arrived, at a moment in microseconds since 1970."""


class ImportedOutcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An outcome of a file; without a time it became known now."""

    transaction_id: ID
    is_fraud: bool
    time: str | int | float | None = None
    reason: Annotated[str, msgspec.Meta(max_length=256)] = ""


class ImportBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Outcomes of the file that is called so, with the source that they all have; they are told by `import:<batch>`.

    With `dry_run` nothing is recorded. `begins` is true for the first call, which is in the audit.
    """

    batch: Annotated[str, msgspec.Meta(pattern=f"^{BATCH_FORM}$")]
    source: str
    outcomes: Annotated[list[ImportedOutcome], msgspec.Meta(min_length=1, max_length=MOST_AT_ONCE)]
    dry_run: bool = False
    begins: bool = False


class Imported(msgspec.Struct, frozen=True):
    """What became of them: so many recorded, known before, kept without a decision, and refused, with the reason."""

    recorded: int
    known: int
    unmatched: int
    refused: dict[str, str]


def outcomes_of(asked: ImportBody, reader: TransactionReader, now_us: int) -> list[Outcome]:
    """The outcomes as they are told. Raises BadBody."""
    if not is_source(asked.source) or masked(asked.source) != asked.source:
        raise BadBody(f"Expected {SOURCE_FORM} as source, got {quoted(asked.source, 70)}")
    told_by = f"import:{asked.batch}"
    found = []
    for one in asked.outcomes:
        try:
            time_us = now_us if one.time is None else instant_us(one.time, "$.time")
            names = reader.texts(reader.schema.id, one.transaction_id)
        except InvalidInput as error:
            raise BadBody(str(error)) from None
        if time_us > now_us + FARTHEST_AHEAD_US:
            raise BadBody(f"The outcome of {quoted(names[0], 80)} is more than a day ahead of now")
        before = names[1] if len(names) > 1 else None
        found.append(Outcome(names[0], one.is_fraud, time_us, asked.source, told_by, masked(one.reason), before))
    return found


def import_here(
    journal: Journal, learn: Learn, reader: TransactionReader, asked: ImportBody, by: By, now_us: int
) -> tuple[Imported, Record | None]:
    """Record what is new of these, in the thread of the log's writer; the last record, None where nothing is.

    Raises BadBody, StorageProblem.
    """
    outcomes = outcomes_of(asked, reader, now_us)
    new = not_told(outcomes, journal, is_dated=all(one.time is not None for one in asked.outcomes))
    if asked.dry_run or not new:
        return Imported(len(new), len(outcomes) - len(new), 0, {}), None
    if asked.begins:
        note = Change.of(by, {}, {"outcomes_of": new[0].told_by, "source": asked.source}, now_us)
        append_change(journal.log, note, journal.log.clock(now_us))
    moment_ns = time.monotonic_ns()
    answered = learn(Arrivals(new, [moment_ns] * len(new), [moment_ns] * len(new)), now_us)
    written = journal.log.at(answered.durable_from - 1) if answered.durable_from else None
    return _counted(outcomes, new, answered.answers), written


def _counted(outcomes: Sequence[Outcome], new: Sequence[Outcome], answers: Sequence[object]) -> Imported:
    noted = [one for one in answers if isinstance(one, Noted)]
    recorded = [one for one in noted if not one.replayed]
    refused = {
        one.transaction_id: str(answer)
        for one, answer in zip(new, answers, strict=True)
        if isinstance(answer, Conflict)
    }
    return Imported(
        recorded=len(recorded),
        known=len(outcomes) - len(recorded) - len(refused),
        unmatched=sum(not one.known for one in recorded),
        refused=refused,
    )
