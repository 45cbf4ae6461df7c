"""`sentinel history export`: a training file made of the log and its outcomes, as they were known then."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from sentinel.commands.log_history.data_file import check_name, write_frames
from sentinel.commands.log_history.labels import Labelling
from sentinel.commands.log_history.rows import EventRows, HistoryRows, field_types, label_words
from sentinel.commands.log_history.survey import Ages, Survey, ages, records_of, survey
from sentinel.commands.progress import Stage
from sentinel.commands.registry_of_home import champion_manifest, registry_of
from sentinel.config import Settings
from sentinel.errors import DataProblem
from sentinel.events.files import History, read_history
from sentinel.events.reading import Reading
from sentinel.events.replay import text_hashes
from sentinel.events.schema import Schema
from sentinel.events.stamps import WEIGHT, LogPart
from sentinel.events.times import duration_us, instant_us, iso
from sentinel.features.plan import FeaturePlan
from sentinel.record.home_reader import open_log
from sentinel.record.log import LogReader
from sentinel.review.held_out import BlockedEstimate, Span

_EARLIER_AT_ONCE = 100_000  # rows


class Asked(NamedTuple):
    """What to export: entries received in [since, until) as ISO 8601 or Unix times, to `out` and beside it.

    `earlier` is a history file whose transactions come first; `delay` how old a transaction has to be to have a label
    (`30d`), None to have it estimated, and `as_of` the moment of that, None for the newest moment in the log.
    """

    out: Path
    since: str | None = None
    until: str | None = None
    with_csv: bool = False
    events_out: Path | None = None
    earlier: Path | None = None
    delay: str | None = None
    as_of: str | None = None


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: so many `transactions`, `earlier` ones of another file among them, and their labels.

    `immature` ones are younger than `label_delay_days` at `as_of`, and `blocked_unknown` were blocked: they have no
    label. `erased` ones are left out. `unmatched` outcomes are of transactions that were not decided here, `matched`
    of them of one in the file. `blocked` is what a holdout says of what was turned away, `fraud_share` that among
    all that are old enough with it, and `fraud_share_known` that among those with a label, which most blocks have not.
    `models_gone` are those whose features have no names any more.
    """

    out: str
    transactions: int
    earlier: int
    fraud: int
    legitimate: int
    immature: int
    blocked_unknown: int
    erased: int
    context_events: int
    unmatched: int
    matched: int
    early_outcomes: int
    label_delay_days: float
    delay_is_assumed: bool
    as_of: str
    models_gone: list[str]
    blocked: BlockedEstimate
    fraud_share: Span | None
    fraud_share_known: float
    blocked_recall: Span | None
    skipped: dict[str, int]

    @property
    def said_of_blocked(self) -> list[str]:
        """What a holdout says of what was turned away, and of all, in words; nothing without one."""
        return said_of_blocked(self.blocked, self.fraud_share, self.fraud_share_known, self.blocked_recall)


def said_of_blocked(blocked: BlockedEstimate, share: Span | None, share_known: float, recall: Span | None) -> list[str]:
    """What a holdout says of what was turned away, and of all, in words; nothing without one."""
    if not blocked.eligible:
        return []
    said = f"{blocked.eligible:,} could have been held out, {blocked.held_out:,} were and are known"
    if share is None or recall is None or blocked.share is None or blocked.low is None or blocked.high is None:
        return [said]
    of_all = f"with them {share.estimate:.2%} of all are fraud ({share.low:.2%} to {share.high:.2%})"
    return [
        f"{said}: {blocked.share:.1%} of them are fraud (95 %: {blocked.low:.1%} to {blocked.high:.1%})",
        f"{of_all}, by the labels alone {share_known:.2%}",
        f"turning them away finds {recall.estimate:.1%} of all fraud ({recall.low:.1%} to {recall.high:.1%})",
    ]


def export_history(settings: Settings, asked: Asked, reading: Reading, stage: Stage) -> Exported:
    """Write the history; nothing is written where anything is wrong. Raises SentinelError."""
    paths = [asked.out, *([asked.out.with_suffix(".csv")] if asked.with_csv and asked.out.suffix != ".csv" else [])]
    for path in (*paths, *([asked.events_out] if asked.events_out else [])):
        check_name(path)
    registry, plan = registry_of(settings), champion_manifest(settings).plan
    if any(path.suffix == ".csv" for path in paths):
        _check_csv(plan.schema)
    with closing(open_log(settings.home)) as log:
        found = survey(log, part_asked(log, asked.since, asked.until), plan, registry, stage)
        if found.decisions == 0:
            raise DataProblem(
                "nothing was decided in that time; take another part of the log, or a history from a file"
            )
        known_by = ages(log, found.known, plan.schema.time, found.part.end, stage)
        labelling = labelling_asked(known_by, asked.delay, asked.as_of)
        earlier = _earlier(asked.earlier, plan, found, reading, settings) if asked.earlier else None
        return _write(log, (plan.schema, found, known_by, labelling, earlier), paths, asked, stage)


def _write(
    log: LogReader,
    what: tuple[Schema, Survey, Ages, Labelling, "_Earlier | None"],
    paths: list[Path],
    asked: Asked,
    stage: Stage,
) -> Exported:
    schema, found, known_by, labelling, earlier = what
    begin, end = found.part.begin, found.part.end
    rows = HistoryRows(schema, found, labelling)
    pages = records_of(log, begin, end, lambda done: stage("transactions", done, end - begin))
    before = earlier.frames(rows, labelling) if earlier else iter(())
    written = write_frames(paths, rows.columns, chain(before, rows.of_log(pages)))
    heard = 0
    if asked.events_out is not None:
        events = EventRows(schema, found.erased)
        pages = records_of(log, begin, end, lambda done: stage("events", done, end - begin))
        heard = write_frames([asked.events_out], events.columns, events.of_log(pages))
    counts, known = rows.counts, found.known
    return Exported(
        out=str(asked.out),
        transactions=written,
        earlier=len(earlier.history) if earlier else 0,
        fraud=counts.fraud,
        legitimate=counts.legitimate,
        immature=counts.immature,
        blocked_unknown=counts.blocked_unknown,
        erased=counts.erased,
        context_events=heard,
        unmatched=len(known.unmatched),
        matched=counts.matched,
        early_outcomes=counts.early_outcomes,
        label_delay_days=round(labelling.mature_us / 86_400_000_000, 3),
        delay_is_assumed=asked.delay is None and known_by.delay.is_assumed,
        as_of=iso(labelling.as_of_us),
        models_gone=sorted(version for version, names in found.names.items() if names is None),
        skipped=earlier.history.skipped if earlier else {},
        blocked=counts.blocked,
        fraud_share=counts.fraud_share,
        fraud_share_known=counts.fraud_share_known,
        blocked_recall=counts.blocked_recall,
    )


def part_asked(log: LogReader, since: str | None, until: str | None) -> LogPart:
    """The part of a log that was received in [since, until), as ISO 8601 or Unix times."""
    begin = log.first if since is None else log.first_after(instant_us(_moment(since)) - 1)
    end = log.durable if until is None else log.first_after(instant_us(_moment(until)) - 1)
    return LogPart(log.log_id, begin, max(begin, end))


def _moment(text: str) -> str | float:
    return float(text) if text.replace(".", "", 1).isdecimal() else text


def labelling_asked(known_by: Ages, delay: str | None, as_of: str | None) -> Labelling:
    """How truth becomes a label: after the estimated delay, at the newest moment of the log, or as is asked."""
    as_of_us = known_by.as_of_us if as_of is None else instant_us(_moment(as_of))
    mature_us = known_by.delay.mature_us if delay is None else duration_us(delay)
    return Labelling(as_of_us, mature_us)


def _check_csv(schema: Schema) -> None:
    """Raise DataProblem where the schema says that CSV files are written in another way than this one would be."""
    own = ("encoding", "timezone", "time_format", "time_from")
    said = [name for name in own if getattr(schema, name) is not None] + ["decimal"] * (schema.decimal != ".")
    if said:
        raise DataProblem(f"the schema says how your CSV files are written ({', '.join(said)}); export as .parquet")


@dataclasses.dataclass(frozen=True, slots=True)
class _Earlier:
    """The transactions of a history file that were not decided here."""

    history: History
    schema: Schema
    survey: Survey

    def frames(self, rows: HistoryRows, labelling: Labelling) -> Iterator[pl.DataFrame]:
        """In the columns of `rows`; what the log was told of them counts, and what is too young has no label."""
        for begin in range(0, len(self.history), _EARLIER_AT_ONCE):
            yield self._frame(self.history.frame[begin : begin + _EARLIER_AT_ONCE], rows, labelling)

    def _frame(self, frame: pl.DataFrame, rows: HistoryRows, labelling: Labelling) -> pl.DataFrame:
        schema, known = self.schema, self.survey.known
        when, source = rows.outcome_time, schema.outcome_source
        blank: list[Any] = [None] * len(frame)
        stored = {
            name: frame[name].to_list() if name and name in frame.columns else list(blank)
            for name in (schema.label, when, source)
        }
        labels, times, sources = stored[schema.label], stored[when], stored[source]
        for n, (name, time_us) in enumerate(zip(frame[schema.id], frame[schema.time], strict=True)):
            truth = known.truth_of_id(name)
            if truth is not None:
                rows.counts.matched += 1
                labels[n], times[n], sources[n] = truth
            if not labelling.is_mature(time_us):
                labels[n] = times[n] = sources[n] = None
            rows.counts.count(labels[n], is_mature=labelling.is_mature(time_us))
        words = label_words(schema)
        columns = {name: frame[name].cast(kind).alias(name) for name, kind in field_types(schema).items()}
        columns[schema.label] = pl.Series([None if one is None else words[int(one)] for one in labels], dtype=pl.String)
        columns[WEIGHT] = pl.Series([None if one is None else 1.0 for one in labels], dtype=pl.Float64)
        columns[when] = pl.Series(times, dtype=pl.Int64).cast(rows.columns[when])
        if source:
            columns[source] = pl.Series(sources, dtype=pl.String)
        return pl.DataFrame(
            [
                columns[name].alias(name) if name in columns else pl.Series(name, blank, kind)
                for name, kind in rows.columns.items()
            ]
        )


def _earlier(path: Path, plan: FeaturePlan, found: Survey, reading: Reading, settings: Settings) -> _Earlier:
    alone = msgspec.structs.replace(reading, events=None)
    history = read_history(path, plan.schema, alone, secrets=settings.secrets())
    decided = np.isin(text_hashes(history.frame[plan.schema.id]), found.hashes)
    skipped = dict(history.skipped)
    if decided.any():
        skipped["decided here: the log has it"] = int(decided.sum())
    frame = history.frame.filter(pl.Series(~decided))
    return _Earlier(dataclasses.replace(history, frame=frame, skipped=skipped), plan.schema, found)
