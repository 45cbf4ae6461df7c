"""From a file of disputes to outcomes in the log: the server that owns it is asked, or it is done here without one."""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import msgspec

from sentinel.commands.chargebacks.dispute_files import Dispute, disputes_in, stages_of
from sentinel.commands.chargebacks.matching import Decision, Matcher, ToTell, Verdict, schema_fields, to_tell, verdicts
from sentinel.commands.log_history.survey import records_of
from sentinel.commands.owner import ask_owner
from sentinel.commands.progress import Stage
from sentinel.commands.registry_of_home import champion_manifest
from sentinel.config import Settings
from sentinel.durable import write_durably
from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.events.card_numbers import masked
from sentinel.events.columns import SOURCE_FORM, is_source
from sentinel.events.reader import TransactionReader
from sentinel.events.reading import Reading
from sentinel.events.schema import Schema
from sentinel.events.times import FARTHEST_AHEAD_US, clock_us
from sentinel.record.applied import by_this_user, log_folder
from sentinel.record.home_log import HomeLog
from sentinel.record.home_reader import open_log
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.lock import owner_of
from sentinel.serve.batch import Answered, Arrivals
from sentinel.serve.learn import new_outcomes_in, record
from sentinel.transport.http.imports import BATCH_FORM, MOST_AT_ONCE, ImportBody, Imported, Learn, import_here

_PATIENCE_S = 60.0


class Asked(NamedTuple):
    """What to import: a file, the fields that name a transaction, what stages mean, and whose word it is.

    `batch` is the name by which it can be taken back, None for one that is made of what the file holds. `days` is how
    far a date may be off that of its transaction. `report` gets a line for each row of the file.
    """

    file: Path
    match: str = "id"
    stages: str | None = None
    source: str = "chargebacks"
    batch: str | None = None
    days: int = 0
    report: Path | None = None
    dry_run: bool = False


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file: its rows by fate, and its outcomes: recorded, known before, kept without a decision.

    `told_by` is what `sentinel outcomes revoke --key` takes. `refused` has the first of what the log's owner refused.
    """

    rows: int
    fates: dict[str, int]
    told_by: str
    recorded: int
    known: int
    unmatched: int
    refused: dict[str, str]
    dry_run: bool


def import_outcomes(settings: Settings, asked: Asked, reading: Reading, stage: Stage) -> ImportReport:
    """Tell the outcomes of a file of disputes; the same file again adds nothing. Raises SentinelError."""
    schema = champion_manifest(settings).plan.schema
    reader, fields = TransactionReader(schema, settings.secrets()), schema_fields(asked.match, schema)
    _check(asked, fields, schema)
    batch = asked.batch or _name_of(asked.file)
    latest_us = clock_us() + FARTHEST_AHEAD_US
    disputes = list(disputes_in(asked.file, schema, fields, stages_of(asked.stages), reading, latest_us))
    matcher = Matcher(reader, fields, asked.days)
    matcher.want(one for one in disputes if not one.wrong)
    with closing(open_log(settings.home)) as log:
        begin, end = log.first, log.durable
        matcher.look(records_of(log, begin, end, lambda done: stage("decisions", done, end - begin)))
    found = verdicts(disputes, matcher.decisions, _namer(reader, schema) if fields == [schema.id] else None)
    told = [to_tell(one, _times(matcher.decisions(one.dispute))) for one in found if one.fate == "told"]
    done = _tell(settings, reader, told, (batch, asked), stage)
    if asked.report is not None:
        write_durably(asked.report, _report_of(found))
    return ImportReport(
        rows=len(disputes),
        fates=dict(Counter(one.fate for one in found)),
        told_by=f"import:{batch}",
        recorded=sum(one.recorded for one in done),
        known=sum(one.known for one in done),
        unmatched=sum(one.unmatched for one in done),
        refused=dict([item for one in done for item in one.refused.items()][:10]),
        dry_run=asked.dry_run,
    )


def _check(asked: Asked, fields: Sequence[str], schema: Schema) -> None:
    unknown = [name for name in fields if name not in (schema.id, schema.amount, schema.time, *schema.texts)]
    if unknown or fields in ([schema.time], []):
        raise InvalidDefinition(
            f"--match {asked.match}: match by id, or by some of amount, card, date and "
            f"{', '.join(schema.texts) or 'the keys'}, beside the date one at least"
        )
    if asked.batch is not None and not re.fullmatch(BATCH_FORM, asked.batch):
        raise InvalidDefinition(f"--batch {asked.batch!r}: name it by up to 64 letters, digits, and . _ -")
    if not is_source(asked.source) or masked(asked.source) != asked.source:
        raise InvalidDefinition(f"--source {asked.source!r} is no source; use {SOURCE_FORM}")
    if asked.days < 0:
        raise InvalidDefinition(f"--days is {asked.days}; give 0 or more")
    if asked.report is not None and not asked.report.parent.is_dir():
        raise DataProblem(f"{asked.report}: there is no folder {asked.report.parent}; make it first")


def _namer(reader: TransactionReader, schema: Schema) -> Callable[[Dispute], str]:
    return lambda dispute: reader.text(schema.id, str(dispute.named[schema.id]))


def _name_of(path: Path) -> str:
    """The same file has the same name."""
    if not path.is_file():
        raise DataProblem(f"{path} is no file; give a name for it with --batch")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _times(decisions: Sequence[Decision]) -> dict[str, int]:
    return {one.transaction_id: one.time_us for one in decisions}


def _tell(
    settings: Settings, reader: TransactionReader, told: Sequence[ToTell], named: tuple[str, Asked], stage: Stage
) -> list[Imported]:
    """Have these recorded, a bounded number at a time."""
    batch, asked = named
    bodies = [
        msgspec.convert(
            {
                "batch": batch,
                "source": asked.source,
                "dry_run": asked.dry_run,
                "begins": n == 0,
                "outcomes": [
                    {
                        "transaction_id": one.transaction_id,
                        "is_fraud": bool(one.is_fraud),
                        "time": one.time_us,
                        "reason": one.reason,
                    }
                    for one in some
                ],
            },
            ImportBody,
        )
        for n, some in enumerate(_pages(told))
    ]
    done: list[Imported] = []
    if owner_of(log_folder(settings.home)) is not None:
        for body in bodies:
            said = ask_owner(settings, "/admin/outcomes/import", msgspec.to_builtins(body), _PATIENCE_S)
            done.append(msgspec.convert(said, Imported))
            stage("outcomes", len(done), len(bodies))
        return done
    with _journal(settings) as journal:
        for body in bodies:
            by = by_this_user("outcomes import", f"{batch} of {asked.source}")
            done.append(import_here(journal, _learner(journal), reader, body, by, clock_us())[0])
            stage("outcomes", len(done), len(bodies))
    return done


def _learner(journal: Journal) -> Learn:
    """Records outcomes without an engine: the next server takes them from the log, as it takes everything."""

    def learn(arrivals: Arrivals, now_us: int) -> Answered:
        new = new_outcomes_in(arrivals, journal)
        if not new.matched.outcomes and not new.unmatched.outcomes:
            return Answered(new.answers, new.durable_from)
        return Answered(new.answers, record(new, journal, journal.log.clock(now_us)))

    return learn


@contextmanager
def _journal(settings: Settings) -> Iterator[Journal]:
    folder = log_folder(settings.home)
    with (
        closing(HomeLog.open(folder, clock_us())) as log,
        closing(Journal(log, IdIndex(settings.home / "ids", log))) as journal,
    ):
        yield journal


def _pages(told: Sequence[ToTell]) -> Iterator[Sequence[ToTell]]:
    for begin in range(0, len(told), MOST_AT_ONCE):
        yield told[begin : begin + MOST_AT_ONCE]


def _report_of(found: Sequence[Verdict]) -> bytes:
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(["row", "fate", "transaction_id", "stage", "why"])
    writer.writerows(
        [one.dispute.number, one.fate, _as_text(one.transaction_id), _as_text(one.dispute.stage), one.why]
        for one in found
    )
    return text.getvalue().encode()


def _as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: with an apostrophe before it where one would.

    Ids are chosen by whoever pays, and the report is opened by whoever handles disputes.
    """
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else cell
