"""A file of disputes, row by row: which transaction each names, what its stage means, and since when."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.events import cells
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.files import columns_for
from sentinel.events.labels import meanings, word_of
from sentinel.events.reading import Reading
from sentinel.events.schema import Schema
from sentinel.events.tables import Column, Table

OUTCOME_TIME, STAGE, IS_FRAUD, REASON = "outcome_time", "stage", "is_fraud", "reason"
"""What a file may say of an outcome, beside which transaction it is about."""

STAGES: Mapping[str, int | None] = {
    "inquiry": None, "retrieval": None, "retrieval request": None, "notification": None, "representment": None,
    "pre-arbitration": None, "arbitration": None,
    "fraud": 1, "chargeback": 1, "second chargeback": 1, "representment lost": 1, "arbitration lost": 1, "lost": 1,
    "representment won": 0, "arbitration won": 0, "won": 0, "reversed": 0, "withdrawn": 0,
}  # fmt: skip
"""What stages mean, by their words with spaces for `_`: 1 fraud, 0 not, None for one that settles nothing."""


class Dispute(NamedTuple):
    """A row of the file: `named` has the texts and numbers of the transaction by field, None for what is missing.

    `is_fraud` is None for a stage that settles nothing, `time_us` where the file has no time of it. `wrong` says what
    cannot be read.
    """

    number: int
    named: dict[str, str | float | int | None]
    is_fraud: int | None
    stage: str
    time_us: int | None
    reason: str
    wrong: str = ""


def stages_of(text: str | None) -> dict[str, int | None]:
    """What `--stages` says, on top of the usual: `chargeback=1,inquiry=none,refunded=0`. Raises InvalidDefinition.

    >>> stages_of("Refunded=0, alert=none")["refunded"], stages_of(None)["chargeback"]
    (0, 1)
    """
    found = dict(STAGES)
    for part in (text or "").split(",") if text else ():
        word, _, meaning = part.rpartition("=")
        known = {"1": 1, "0": 0, "none": None}
        if not word.strip() or meaning.strip() not in known:
            raise InvalidDefinition(
                f"--stages: {quoted(part.strip())} is no STAGE=1 (fraud), STAGE=0 (not) or STAGE=none (says nothing)"
            )
        found[_stage_word(word)] = known[meaning.strip()]
    return found


def disputes_in(
    path: Path,
    schema: Schema,
    fields: list[str],
    stages: Mapping[str, int | None],
    reading: Reading,
    latest_us: int,
) -> Iterator[Dispute]:
    """The rows of a file of disputes that names transactions by these fields of the schema.

    Its columns are named as the fields, or by `reading.renames`; a file without `stage` and `is_fraud` holds frauds
    only. What is said as of a moment after `latest_us` is wrong. Raises DataProblem for a file that lacks one of the
    fields, or with a stage that is not known.
    """
    table = Table(path, reading.dialect_of(schema))
    present = table.columns()
    known = [*fields, OUTCOME_TIME, STAGE, IS_FRAUD, REASON]
    strangers = [
        f"{column}={field}" for column, field in reading.renames.items() if field not in known or column not in present
    ]
    if strangers:
        column, _, field = strangers[0].partition("=")
        if column not in present:
            raise DataProblem(f"--map: {path} has no column {column!r}; it has {', '.join(present)}")
        raise DataProblem(f"--map: {column!r} cannot be {field!r}; a column can be {', '.join(known)}")
    column_of = columns_for(known, schema, reading.renames, present)
    missing = [field for field in fields if field not in column_of]
    if missing:
        raise DataProblem(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(present)}. Say which column is which with --map "
            f"COLUMN={missing[0]}"
        )
    rows = _Rows(schema, fields, stages, reading, latest_us)
    for batch in table.batches(list(dict.fromkeys(column_of.values()))):
        yield from rows.of({name: batch[column] for name, column in column_of.items()})
    if rows.read == 0:
        raise DataProblem(f"{path} has no rows")


class _Rows:
    """Reads batches one after the other."""

    def __init__(
        self,
        schema: Schema,
        fields: list[str],
        stages: Mapping[str, int | None],
        reading: Reading,
        latest_us: int,
    ) -> None:
        self._latest_us = latest_us
        self._schema, self._fields, self._stages, self._reading = schema, fields, stages, reading
        self._form = reading.time_form(schema)
        self.read = 0

    def of(self, columns: Mapping[str, Column]) -> Iterator[Dispute]:
        """The rows of a batch."""
        found = {name: self._cells(name, column) for name, column in columns.items()}
        n = len(next(iter(found.values())).values)
        stages = found[STAGE].values.to_list() if STAGE in found else [None] * n
        labels = self._labels(found[IS_FRAUD].values) if IS_FRAUD in found else [None] * n
        for row in range(n):
            self.read += 1
            wrong = [name for name, one in found.items() if one.wrong[row]]
            lacks = [name for name in self._fields if found[name].values[row] is None and name not in wrong]
            said = f"{wrong[0]} cannot be read" if wrong else f"{lacks[0]} is missing" if lacks else ""
            time_us = found[OUTCOME_TIME].values[row] if OUTCOME_TIME in found else None
            if not said and time_us is not None and time_us > self._latest_us:
                said = f"{OUTCOME_TIME} is more than a day ahead of now"
            yield Dispute(
                number=self.read,
                named={name: found[name].values[row] for name in self._fields},
                is_fraud=self._meaning(stages[row], labels[row], is_said=STAGE in found or IS_FRAUD in found),
                stage=masked(stages[row] or ""),
                time_us=time_us,
                reason=masked((found[REASON].values[row] or "")[:256]) if REASON in found else "",
                wrong=said,
            )

    def _cells(self, name: str, column: Column) -> cells.Cells:
        if name in (self._schema.time, OUTCOME_TIME):
            return cells.times(column, name, self._form)
        if name == self._schema.amount:
            return cells.numbers(column, name, decimal=self._reading.decimal or self._schema.decimal)
        if name == IS_FRAUD:
            words = cells.label_words(column, name)
            return cells.Cells(words, words.is_null() & False)
        return cells.texts(column, name, takes_booleans=False)

    def _labels(self, words: pl.Series) -> list[int | None]:
        rows = dict(words.drop_nulls().alias("word").value_counts().iter_rows())
        known = meanings(rows, IS_FRAUD, {**self._schema.labels, **self._reading.labels})
        return [None if word is None else known[word] for word in words]

    def _meaning(self, stage: str | None, label: int | None, *, is_said: bool) -> int | None:
        if stage is None or not stage.strip():
            return label if is_said else 1
        word = _stage_word(stage)
        if word not in self._stages:
            raise DataProblem(
                f"what the stage {quoted(stage, 60)} means is not known; say it with --stages: 1 for fraud, 0 for not "
                f'fraud, none for one that settles nothing, as --stages "{quoted(word, 60)[1:-1]}=none"'
            )
        return self._stages[word] if label is None else label


def _stage_word(text: str) -> str:
    return word_of(text).replace("_", " ")
