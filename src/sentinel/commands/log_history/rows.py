"""Decisions and context events of a log as rows of a history: fields as sent, label, features, and stamps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from sentinel.commands.log_history.labels import Counts, Labelling
from sentinel.commands.log_history.survey import Erasures, Survey
from sentinel.events.schema import Schema
from sentinel.events.stamps import PART, POSITION, RECEIVED, TOLD, WEIGHT, told_text
from sentinel.events.wire import EVENT_ID, KIND
from sentinel.policy.thresholds import ACTIONS
from sentinel.record.entries import Decided, Drawn, batches_of, context_rows, with_exact
from sentinel.record.known_outcomes import Truth
from sentinel.record.log import Kind, Record

_TIME = pl.Datetime("us", "UTC")
FEATURE = "feature."
"""In front of the names of features: no field can be called so."""

DECISION, SCORE, VERSION = "log.decision", "log.fraud_probability", "log.model_version"
DEGRADED, VARIANT, LATE, BLOCKED = "log.degraded", "log.variant", "log.late", "log.blocked"
HOLDOUT, PROPENSITY = "log.holdout", "log.propensity"
OUTCOME_TIME = "log.outcome_time"
"""The column of the outcome's time where the schema names none."""

_WORDS = tuple(map(str, ACTIONS))
_FRAME_ROWS = 2_048
_decode_fields = msgspec.json.Decoder(list[dict[str, Any]]).decode
_decode_one = msgspec.json.Decoder(dict[str, Any]).decode


class HistoryRows:
    """Makes frames of records, all with the same `columns`; `counts` says what became of them."""

    def __init__(self, schema: Schema, survey: Survey, labelling: Labelling) -> None:
        self.counts = Counts()
        self._schema = schema
        self._survey = survey
        self._labelling = labelling
        self._types = field_types(schema)
        self.outcome_time = schema.outcome_time or OUTCOME_TIME
        self._names = list(dict.fromkeys(name for names in survey.names.values() for name in names or ()))
        self._words = label_words(schema)
        self.columns = pl.Schema(
            self._types
            | {schema.label: pl.String, self.outcome_time: _TIME}
            | ({schema.outcome_source: pl.String} if schema.outcome_source else {})
            | {POSITION: pl.Int64, RECEIVED: pl.Int64, TOLD: pl.String, PART: pl.String}
            | {DECISION: pl.String, SCORE: pl.Float64, VERSION: pl.String, DEGRADED: pl.String, VARIANT: pl.String}
            | {LATE: pl.Boolean, BLOCKED: pl.Boolean}
            | {HOLDOUT: pl.Boolean, PROPENSITY: pl.Float64, WEIGHT: pl.Float64}
            | {f"{FEATURE}{name}": pl.Float64 for name in self._names}
        )

    def of_log(self, pages: Iterator[Sequence[Record]]) -> Iterator[pl.DataFrame]:
        """The decisions of these records, in their order; nothing of erased subjects.

        Batches of one row are as many as requests that came alone: a frame is made of many of them.
        """
        for page in pages:
            batches: list[tuple[Record, Decided]] = []
            rows = 0
            for record, decided in batches_of(page):
                batches.append((record, decided))
                rows += record.rows
                if rows >= _FRAME_ROWS:
                    yield self._of_batches(batches)
                    batches, rows = [], 0
            if batches:
                yield self._of_batches(batches)

    def _of_batches(self, batches: Sequence[tuple[Record, Decided]]) -> pl.DataFrame:
        fields = _decode_fields(b"[%b]" % b",".join(content for _, one in batches for content in one.contents))
        positions = [record.position + n for record, _ in batches for n in range(record.rows)]
        erased = self._survey.erased
        kept = [not erased.cover(one, position) for one, position in zip(fields, positions, strict=True)]
        deciders = [one.deciders[which] for _, one in batches for which in one.by]
        levels = [level for _, one in batches for level in one.levels]
        blocked = [_WORDS[level] == "block" for level in levels]
        columns = {
            name: pl.Series(name, [_as_told(one.get(name), kind) for one in fields], kind, strict=False)
            for name, kind in self._types.items()
        }
        columns |= {
            POSITION: pl.Series(positions, dtype=pl.Int64),
            RECEIVED: pl.Series([record.received_us for record, _ in batches for _ in range(record.rows)]),
            PART: pl.repeat(str(self._survey.part), len(fields), dtype=pl.String, eager=True),
            DECISION: pl.Series([_WORDS[level] for level in levels], dtype=pl.String),
            SCORE: pl.Series(np.concatenate([np.frombuffer(one.scores, "<f8") for _, one in batches])),
            VERSION: pl.Series([one.model_version for one in deciders], dtype=pl.String),
            DEGRADED: pl.Series([one.degraded for one in deciders], dtype=pl.String),
            VARIANT: pl.Series([one.variant for one in deciders], dtype=pl.String),
            LATE: pl.Series([bool(late) for _, one in batches for late in one.late], dtype=pl.Boolean),
            BLOCKED: pl.Series(blocked, dtype=pl.Boolean),
        }
        columns |= self._truths(positions, fields, blocked, kept)
        columns |= self._draws(_drawn(batches), columns[self._schema.label].to_list(), fields, kept)
        columns |= self._features([with_exact(one) for _, one in batches], len(fields))
        return pl.DataFrame([columns[name].alias(name) for name in self.columns]).filter(pl.Series(kept))

    def _truths(
        self, positions: Sequence[int], fields: Sequence[dict[str, Any]], blocked: Sequence[bool], kept: Sequence[bool]
    ) -> dict[str, pl.Series]:
        schema, known = self._schema, self._survey.known
        labels: list[str | None] = []
        truths: list[Truth | None] = []
        told = []
        for n, (position, one) in enumerate(zip(positions, fields, strict=True)):
            truth = known.truth(position)
            if truth is None and (truth := known.truth_of_id(one[schema.id])) is not None:
                self.counts.matched += 1
            time_us = int(one[schema.time])
            label = self._labelling.label(truth, time_us, was_blocked=blocked[n])
            told.append(told_text(known.told(position)))
            truths.append(truth if label is not None else None)
            labels.append(None if label is None else self._words[label])
            if kept[n]:
                self._count(label, truth, time_us, was_blocked=blocked[n])
            else:
                self.counts.erased += 1
        found = {
            schema.label: pl.Series(labels, dtype=pl.String),
            TOLD: pl.Series(told, dtype=pl.String),
            self.outcome_time: pl.Series([one and one.time_us for one in truths], dtype=pl.Int64).cast(_TIME),
        }
        if schema.outcome_source:
            found[schema.outcome_source] = pl.Series([one and one.source for one in truths], dtype=pl.String)
        return found

    def _draws(
        self, by_place: Mapping[int, Drawn], labels: Sequence[str | None], fields: Sequence[dict[str, Any]],
        kept: Sequence[bool],
    ) -> dict[str, pl.Series]:  # fmt: skip
        """Who was held out, and for how many transactions each stands: one that could have been, for none beside."""
        weights: list[float | None] = [None if label is None else 1.0 for label in labels]
        for place, drawn in by_place.items():
            label = None if labels[place] is None else int(labels[place] == self._words[1])
            if label is not None:
                weights[place] = 1 / drawn.propensity if drawn.is_approved else 0.0
            if kept[place] and self._labelling.is_mature(int(fields[place][self._schema.time])):
                self.counts.draw(drawn, label)
        found = [by_place.get(place) for place in range(len(labels))]
        return {
            HOLDOUT: pl.Series([one is not None and one.is_approved for one in found], dtype=pl.Boolean),
            PROPENSITY: pl.Series([one and one.propensity for one in found], dtype=pl.Float64),
            WEIGHT: pl.Series(weights, dtype=pl.Float64),
        }

    def _count(self, label: int | None, truth: Truth | None, time_us: int, *, was_blocked: bool) -> None:
        counts, is_mature = self.counts, self._labelling.is_mature(time_us)
        counts.early_outcomes += truth is not None and truth.time_us < time_us
        counts.count(label, is_mature=is_mature)
        counts.blocked_unknown += label is None and is_mature and was_blocked

    def _features(self, batches: Sequence[Decided], n: int) -> dict[str, pl.Series]:
        """By column, what was known then; null where the model had no such feature."""
        column_of = {name: column for column, name in enumerate(self._names)}
        values = np.full((n, len(self._names)), np.nan)
        present = np.zeros((n, len(self._names)), bool)
        begin = 0
        for decided in batches:
            by = np.frombuffer(decided.by, np.uint8)
            for which, decider in enumerate(decided.deciders):
                names = self._survey.names[decider.model_version]
                if names is None or len(names) != decider.features:
                    continue
                columns = np.array([column_of[name] for name in names])
                where = np.ix_(begin + np.flatnonzero(by == which), columns)
                values[where] = np.frombuffer(decided.features[which], "<f8").reshape(-1, decider.features)
                present[where] = True
            begin += len(by)
        return {
            f"{FEATURE}{name}": pl.Series(values[:, column]).set(~pl.Series(present[:, column]), None)
            for name, column in column_of.items()
        }


class EventRows:
    """Makes frames of the context events among records, all with the same `columns`."""

    def __init__(self, schema: Schema, erased: Erasures) -> None:
        self._types = {
            name: kind for name, kind in field_types(schema).items() if name in _carried(schema) or name == schema.time
        }
        self._erased = erased
        self.columns = pl.Schema(
            {KIND: pl.String, EVENT_ID: pl.String} | self._types | {POSITION: pl.Int64, RECEIVED: pl.Int64}
        )

    def of_log(self, pages: Iterator[Sequence[Record]]) -> Iterator[pl.DataFrame]:
        """The context events of these records, in their order; nothing of erased subjects."""
        for page in pages:
            rows = [row for record in page if record.kind == Kind.CONTEXT for row in context_rows(record)]
            found = [(row, _decode_one(row.content)) for row in rows]
            found = [(row, one) for row, one in found if not self._erased.cover(one, row.position)]
            if found:
                told = [{**one, POSITION: row.position, RECEIVED: row.received_us} for row, one in found]
                yield pl.DataFrame(
                    {
                        name: pl.Series(name, [_as_told(one.get(name), kind) for one in told], kind, strict=False)
                        for name, kind in self.columns.items()
                    }
                )


def _drawn(batches: Sequence[tuple[Record, Decided]]) -> dict[int, Drawn]:
    """By its place among the rows of these batches, each that could have been held out."""
    found: dict[int, Drawn] = {}
    begin = 0
    for record, decided in batches:
        found |= {begin + one.place: one for one in decided.drawn}
        begin += record.rows
    return found


def field_types(schema: Schema) -> dict[str, Any]:
    """The fields of a transaction as they are exported, with what tables said of it: name -> type of the column."""
    times = (schema.time, *schema.instants)
    numbers = (*schema.exact_numbers, *schema.plain_numbers)
    kinds: dict[str, Any] = {schema.id: pl.String}
    kinds |= dict.fromkeys(times, _TIME) | dict.fromkeys(numbers, pl.Float64) | dict.fromkeys(schema.texts, pl.String)
    return kinds


def label_words(schema: Schema) -> tuple[str, str]:
    """The words for legitimate and fraud that the schema reads as such."""
    own = {meaning: word for word, meaning in schema.labels.items()}
    return own.get(0, "0"), own.get(1, "1")


def _carried(schema: Schema) -> set[str]:
    return {name for kind in schema.events for name in schema.fields_of(kind)}


def _as_told(value: Any, kind: Any) -> Any:
    """A value of the canonical JSON for a column: texts stay as they are, booleans are `true` and `false`."""
    if kind == pl.String and isinstance(value, bool):
        return "true" if value else "false"
    if kind == pl.Float64 and isinstance(value, int):
        return float(value)
    return value
