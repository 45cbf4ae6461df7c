"""How a column writes times: ISO 8601, Unix numbers, or a form that has to be said."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
import polars as pl

from sentinel.errors import InvalidInput
from sentinel.events.cells import MISSING_WORDS
from sentinel.events.times import USUAL, TimeForm, instant_us

_DAYS = (
    "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d", "%m/%d/%y", "%d/%m/%y",
    "%d.%m.%y", "%d-%b-%Y", "%d %b %Y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%d-%b-%y", "%d%b%Y",
    "%Y%m%d",
)  # fmt: skip
_CLOCKS = (
    "", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S.%f", "T%H:%M:%S", ", %H:%M", ", %H:%M:%S",
    ":%H:%M:%S", "%H%M%S", " %H.%M", " %H.%M.%S",
)  # fmt: skip
_ENOUGH = 0.98
_TRIED = 2_000
_FIRST_YEAR_US = 946_684_800_000_000  # 2000: smaller numbers are rather amounts or counts


class TimesFound(msgspec.Struct, frozen=True, kw_only=True):
    """How times are written. `form` is None for ISO 8601 and Unix numbers, and `also` another that reads them as well.

    `has_offset`: whether they say their own distance from UTC, or are Unix numbers.
    """

    form: str | None
    has_offset: bool
    is_unix: bool = False
    also: str | None = None


def find_times(column: pl.Series) -> TimesFound | None:
    """How the times of a sample of a column are written; None where they are none."""
    if column.dtype == pl.Date:
        return TimesFound(form=None, has_offset=False)
    if isinstance(column.dtype, pl.Datetime):
        return TimesFound(form=None, has_offset=column.dtype.time_zone is not None)
    if column.dtype.is_numeric():
        return _unix(column.drop_nulls().head(_TRIED).to_list())
    if column.dtype != pl.String:
        return None
    cells = column.str.strip_chars()
    cells = cells.filter(~cells.str.to_lowercase().is_in(list(MISSING_WORDS)))
    texts = cells.drop_nulls().unique(maintain_order=True).head(_TRIED).to_list()
    if not texts:
        return None
    return _iso(texts) or _unix(texts) or _of_a_form(texts)


def _unix(values: Sequence[str | float]) -> TimesFound | None:
    found = [one for one in _instants(values, USUAL) if one is not None and one >= _FIRST_YEAR_US]
    enough = len(found) >= _ENOUGH * len(values) > 0
    return TimesFound(form=None, has_offset=True, is_unix=True) if enough else None


def _iso(texts: Sequence[str]) -> TimesFound | None:
    moments = [moment for moment in map(_moment, texts) if moment is not None]
    if len(moments) < _ENOUGH * len(texts):
        return None
    return TimesFound(form=None, has_offset=sum(one.tzinfo is not None for one in moments) > len(moments) / 2)


def _moment(text: str) -> datetime | None:
    if len(text) < 8 or (len(text) > 8 and not any(mark in text for mark in "-:T")):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _of_a_form(texts: Sequence[str]) -> TimesFound | None:
    """The form that reads them all; of two that do so, the one by which they are closer together."""
    spans = []
    for form in _forms(texts):
        found = [one for one in _parsed(texts, form) if one is not None]
        if len(found) >= _ENOUGH * len(texts):
            spans.append((max(found) - min(found), form))
    if not spans:
        return None
    spans.sort(key=lambda one: one[0])
    return TimesFound(form=spans[0][1], has_offset=False, also=spans[1][1] if len(spans) > 1 else None)


def _forms(texts: Sequence[str]) -> Iterator[str]:
    """Those that read the first text."""
    for day in _DAYS:
        for clock in _CLOCKS:
            if _read(texts[0], day + clock) is not None or (len(texts) > 1 and _read(texts[-1], day + clock)):
                yield day + clock


def _parsed(texts: Sequence[str], form: str) -> Iterator[datetime | None]:
    wrong = 0
    for text in texts:
        moment = _read(text, form)
        wrong += moment is None
        if wrong > len(texts) * (1 - _ENOUGH) + 1:
            return
        yield moment


def _read(text: str, form: str) -> datetime | None:
    try:
        moment = datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if 1970 <= moment.year < 2100 else None


def _instants(values: Sequence[str | float], form: TimeForm) -> Iterator[int | None]:
    for value in values:
        try:
            yield instant_us(value, form=form)
        except InvalidInput:
            yield None
