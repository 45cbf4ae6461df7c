"""The survey of a history whose rows are dealt out: each share counts its own, and what they found is added up."""

from collections.abc import Iterable

import msgspec
import polars as pl

from sentinel.commands.backfill.pieces import ArrowBatch
from sentinel.commands.backfill.survey import Counts, added, counted, no_values
from sentinel.detector import Detector
from sentinel.errors import DataProblem, SentinelError
from sentinel.events.files import Example, RowReader, said
from sentinel.train.rows.vocabulary import COUNT, VALUE


class Share(msgspec.Struct, forbid_unknown_fields=True):
    """What was found in some rows: how many there are, how many are usable, and why the others are not.

    `words` are counts of the label's words, `values` those of each categorical field, `examples` the first row and its
    cell for each reason; `problem` is why they could not be read at all.
    """

    rows: int = 0
    usable: int = 0
    words: dict[str, int] = {}
    values: dict[str, dict[str, int]] = {}
    skipped: dict[str, int] = {}
    examples: dict[str, tuple[int, str | None]] = {}
    problem: str | None = None

    def counts(self) -> Counts:
        """The counts, as a survey of all rows in one process has them."""
        return Counts(self.words, {field: _frame(values) for field, values in self.values.items()})

    @property
    def first_examples(self) -> dict[str, Example]:
        """The first row that was left out, for each reason."""
        return {reason: Example(*one) for reason, one in self.examples.items()}

    @property
    def said(self) -> str:
        """What was left out, in words."""
        return said(self.skipped, self.first_examples)


def survey_share(batches: Iterable[ArrowBatch], detector: Detector, reader: RowReader) -> str:
    """What a share found in its rows, as JSON."""
    try:
        found = counted(batches, detector, reader)
    except SentinelError as error:
        return msgspec.json.encode(Share(problem=str(error))).decode()
    share = Share(
        rows=reader.rows,
        usable=reader.rows - sum(reader.skipped.values()),
        words=found.words,
        values={field: dict(counts.select(VALUE, COUNT).iter_rows()) for field, counts in found.values.items()},
        skipped=reader.skipped,
        examples={reason: (one.row, one.cell) for reason, one in reader.examples.items()},
    )
    return msgspec.json.encode(share).decode()


def add_shares(found: Iterable[str]) -> Share:
    """What all shares found together. Raises DataProblem for what one of them could not read."""
    whole = Share()
    for share in (msgspec.json.decode(one, type=Share) for one in found):
        if share.problem is not None:
            raise DataProblem(share.problem)
        whole.rows += share.rows
        whole.usable += share.usable
        _add(whole.words, share.words)
        _add(whole.skipped, share.skipped)
        for field, values in share.values.items():
            _add(whole.values.setdefault(field, {}), values)
        for reason, example in share.examples.items():
            whole.examples[reason] = min(whole.examples.get(reason, example), example, key=lambda one: one[0])
    return whole


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, n in more.items():
        total[name] = total.get(name, 0) + n


def _frame(values: dict[str, int]) -> pl.DataFrame:
    made = pl.DataFrame({VALUE: list(values), COUNT: list(values.values())}, schema=no_values().schema)
    return added([made])
