"""Roles: what each column of a file is to a detector, by its name and by what is in it."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec
import polars as pl

from sentinel.errors import DataProblem
from sentinel.events.labels import meanings, word_of
from sentinel.events.schema import LARGEST_NUMBER
from sentinel.events.wire import MAX_ID
from sentinel.inspect.columns import ColumnFound, Found
from sentinel.inspect.times import TimesFound, find_times

_ID = re.compile(
    r"^(?:transaction|txn|trx|trans|tx|payment|order|event|trade|operation)_?(?:id|num|no|number|key|ref|uuid)$"
    r"|^(?:id|uuid|reference|(?:transaction|payment|order)_reference)$"
)
_TIME = re.compile(r"time|date|timestamp|(?:^|_)(?:at|ts|when|fecha|datum|datetime|dt)(?:_|$)")
_NO_EVENT_TIME = re.compile(
    r"birth|dob|created|opened|expir|updated|report|outcome|chargeback|dispute|label|settle|open|valid"
)
_OUTCOME_TIME = re.compile(r"outcome|chargeback|dispute|report|label")
_LABEL = re.compile(
    r"^(?:is_?)?(?:tx_?|transaction_?)?(?:fraud|fraudulent|chargeback|label|class|target)"
    r"(?:_?(?:label|result|flag|ind|indicator))?$|betrug|fraude"
)
_AMOUNT = re.compile(r"(?:^|_)(?:amount|amt|betrag|importe|montant|total|value|price|sum)(?:_|$)")
_KEY = re.compile(
    r"(?:^|_)(?:card|pan|customer|client|user|account|acct|acc|cc|device|merchant|terminal|shop|store|seller|payee|payer|"
    r"ip|email|mail|phone|iban|sender|receiver|recipient|beneficiary|orig|dest|cust|karte|tarjeta|kunde|cliente|member|"
    r"wallet)(?:_|$)"
)
_ID_LIKE = re.compile(r"(?:^|_)(?:id|num|no|number|nr|code|hash)$")
_COUNTED = re.compile(
    r"(?:^|_)(?:count|amount|amt|score|balance|limit|age|days|hours|minutes|lat|long?|risk|rate|pop)(?:_|$)"
)
_CATEGORY = re.compile(
    r"(?:^|_)(?:mcc|code|type|category|status|channel|country|state|method|currency|brand|network|strategy|zip|bin|"
    r"gender|segment)(?:_|$)"
)
_PLACE = ((r"^(?:lat|latitude)$", 90.0), (r"^(?:lon|lng|long|longitude)$", 180.0))
_FEW_VALUES = 200
_MANY_VALUES = 5_000
_MOST_KEYS = 5
_ENOUGH_TO_TELL = 200
"""Rows from which on whole numbers that are all different name rows, and measure nothing."""

_COMES_BACK = 5
"""A text that is as often there as that, whatever its name, may be somebody: it can be counted by."""


class Left(msgspec.Struct, frozen=True):
    """A column that a detector has no use for, and why."""

    column: str
    why: str


class Role(StrEnum):
    """What a column can be; the first five are that of one column at most, PLACE of two or none."""

    ID = "id"
    TIME = "time"
    AMOUNT = "amount"
    LABEL = "label"
    OUTCOME_TIME = "outcome time"
    KEY = "key"
    CATEGORY = "category"
    NUMBER = "number"
    PLACE = "place"


class Roles(msgspec.Struct, frozen=True, kw_only=True):
    """What the columns are: `of` has those with a role, in the order of Role, `left` the others.

    `times` is how those of TIME are written. `label_words` are the words of the label and what they mean: 1 fraud, 0
    legitimate, None unlabelled; None where nobody can know, and `label_problem` says so.
    """

    of: dict[str, Role]
    times: TimesFound | None
    label_words: dict[str, int | None] | None = None
    label_problem: str | None = None
    left: tuple[Left, ...] = ()

    def columns(self, role: Role) -> tuple[str, ...]:
        """Those of a role; a place has its latitude first."""
        return tuple(column for column, one in self.of.items() if one is role)

    def column(self, role: Role) -> str | None:
        """The one of a role, where there is one."""
        return next(iter(self.columns(role)), None)


def name_of(column: str) -> str:
    """A column's name as it is compared: words in small letters, with `_` between them.

    >>> name_of("CardID"), name_of("Card No."), name_of("Händler")
    ('card_id', 'card_no', 'handler')
    """
    plain = unicodedata.normalize("NFKD", column.replace("ß", "ss")).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", plain)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def find_roles(found: Found, given: Mapping[Role, str], labels: Mapping[str, int], *, time_format: str | None) -> Roles:
    """The roles of the columns. `given` has the columns of ID, TIME, AMOUNT and LABEL as far as they are known."""
    free = {one.name: one for one in found.columns if one.name not in given.values()}
    label = given.get(Role.LABEL) or _label(free.values(), labels)
    free.pop(label or "", None)
    times = {name: form for name in free if (form := _times_of(found, free[name])) is not None}
    time = given.get(Role.TIME) or _time(free, times)
    free.pop(time or "", None)
    an_id = given.get(Role.ID) or _id(found, free.values())
    free.pop(an_id or "", None)
    amount = given.get(Role.AMOUNT) or _amount(free.values())
    free.pop(amount or "", None)
    words, problem = (None, None) if label is None else _words(found.column(label), labels)
    place = _place(free.values())
    for name in place or ():
        del free[name]
    outcome_time = next((name for name in free if name in times and _OUTCOME_TIME.search(name_of(name))), None)
    free.pop(outcome_time or "", None)
    sorted_out = _Sorted(found.rows, times)
    for one in free.values():
        sorted_out.take(one)
    sorted_out.limit_keys()
    form = None if time is None else times.get(time) or find_times(found.sample[time])
    if time_format is not None:
        form = TimesFound(form=time_format, has_offset=False)
    of: dict[str, Role] = {}
    for role, columns in (
        (Role.ID, [an_id]), (Role.TIME, [time]), (Role.AMOUNT, [amount]), (Role.LABEL, [label]),
        (Role.OUTCOME_TIME, [outcome_time]), (Role.KEY, sorted_out.keys), (Role.CATEGORY, sorted_out.categories),
        (Role.NUMBER, sorted_out.numbers), (Role.PLACE, place or ()),
    ):  # fmt: skip
        of |= {column: role for column in columns if column is not None}
    return Roles(of=of, times=form, label_words=words, label_problem=problem, left=tuple(sorted_out.left))


def _times_of(found: Found, one: ColumnFound) -> TimesFound | None:
    if one.kind in ("other", "empty", "boolean") or (one.is_number and not _TIME.search(name_of(one.name))):
        return None
    return find_times(found.sample[one.name])


def _label(columns: Iterable[ColumnFound], labels: Mapping[str, int]) -> str | None:
    """The column of few words whose name says it; one whose words are known comes first."""
    named = [one for one in columns if one.words is not None and _LABEL.search(name_of(one.name))]
    named = [one for one in named if one.present > 0]
    known = [one for one in named if _words(one, labels)[0] is not None]
    # of `fraud`, `is_fraud`, `class` and `target`, those that say fraud come first
    ranked = sorted(known or named, key=lambda one: ("fraud" not in one.name.lower(), len(one.name)))
    return ranked[0].name if ranked else None


def _words(one: ColumnFound, labels: Mapping[str, int]) -> tuple[dict[str, int | None] | None, str | None]:
    if one.words is None:
        return None, f"{one.name} has {one.distinct:,} different values: it is no label"
    rows: Counter[str] = Counter()
    for word, n in one.words.items():
        rows[word_of(word)] += n
    try:
        return meanings(rows, one.name, labels), None
    except DataProblem as error:
        return None, str(error)


def _time(free: Mapping[str, ColumnFound], times: Mapping[str, TimesFound]) -> str | None:
    def rank(name: str) -> tuple[bool, bool, float]:
        said = name_of(name)
        return bool(_NO_EVENT_TIME.search(said)), not _TIME.search(said), -free[name].distinct

    whole = [name for name in times if free[name].as_time().missing < free[name].rows / 2]
    return min(whole, key=rank, default=None)


def _id(found: Found, columns: Iterable[ColumnFound]) -> str | None:
    """The column of texts or whole numbers that is another in nearly each row."""
    rows = found.rows
    able = [one for one in columns if one.kind in ("text", "whole") and not one.comma_decimals]
    # repeated rows of an id are updates; a key of few rows each is none
    named = [one for one in able if _ID.search(name_of(one.name)) and one.distinct > 0.6 * rows]
    if named:
        return max(named, key=lambda one: one.distinct).name
    loose = [one for one in able if one.missing == 0 and _is_another_each(one) and rows > 20]
    loose = [one for one in loose if not _KEY.search(name_of(one.name))]
    # by its name, as tx_no; else by what is in it: a counter, a reference, and no text that people write
    by_name = [one for one in loose if _ID_LIKE.search(name_of(one.name))]
    by_value = [one for one in loose if not any(" " in text or "@" in text for text in one.examples)]
    by_value = [one for one in by_value if _longest(found, one) <= MAX_ID]
    return next((one.name for one in (*by_name, *by_value)), None)


def _is_another_each(one: ColumnFound) -> bool:
    """Whether a text or whole number is another in nearly each row, and measures nothing."""
    said = name_of(one.name)
    if one.kind not in ("text", "whole") or _COUNTED.search(said) or _AMOUNT.search(said) or _is_place(said):
        return False
    return one.distinct > 0.97 * one.present and (one.kind == "text" or one.present >= _ENOUGH_TO_TELL)


def _longest(found: Found, one: ColumnFound) -> int:
    """Characters of the longest cell of the sample."""
    length = found.sample[one.name].cast(pl.String).str.len_chars().max()
    return length if isinstance(length, int) else 0


def _is_place(said: str) -> bool:
    return any(re.search(pattern, said) for pattern, _ in _PLACE)


def _amount(columns: Iterable[ColumnFound]) -> str | None:
    numbers = [one for one in columns if one.is_number]
    named = [one for one in numbers if _AMOUNT.search(name_of(one.name))]
    order = ("amount", "amt", "betrag", "importe", "montant", "value", "price", "total", "sum")

    def rank(one: ColumnFound) -> tuple[int, int]:
        said = name_of(one.name)
        return next(n for n, word in enumerate(order) if word in said), len(said)

    if named:
        return min(named, key=rank).name
    rest = [one for one in numbers if one.kind == "decimal" and not _COUNTED.search(name_of(one.name))]
    return rest[0].name if len(rest) == 1 else None


def _place(columns: Iterable[ColumnFound]) -> tuple[str, str] | None:
    columns, found = list(columns), []
    for pattern, most in _PLACE:
        fit = [one for one in columns if one.is_number and re.search(pattern, name_of(one.name))]
        fit = [one for one in fit if -most <= (one.least or 0) and (one.greatest or 0) <= most]
        found += [one.name for one in fit[:1]]
    return (found[0], found[1]) if len(found) == 2 else None


class _Sorted:
    """Columns that are no id, time, amount or label, by what they are good for."""

    def __init__(self, rows: int, times: Mapping[str, TimesFound]) -> None:
        self._rows, self._times = rows, times
        self._of: dict[str, ColumnFound] = {}
        self.keys: list[str] = []
        self.loose_keys: list[str] = []
        self.categories: list[str] = []
        self.numbers: list[str] = []
        self.left: list[Left] = []

    def take(self, one: ColumnFound) -> None:
        """Find the place of a column."""
        self._of[one.name] = one
        why = self._useless(one)
        if why is not None:
            self.left.append(Left(one.name, why))
        elif self._is_key(one):
            self.keys.append(one.name)
        elif self._is_category(one):
            self.categories.append(one.name)
        elif one.kind == "text" and one.present >= _COMES_BACK * one.distinct:
            self.loose_keys.append(one.name)
        elif one.is_number:
            self.numbers.append(one.name)
        else:
            self.left.append(Left(one.name, f"a text of {one.distinct:,} different values"))

    def _useless(self, one: ColumnFound) -> str | None:
        if one.kind == "empty":
            return "it is empty"
        if one.kind == "other":
            return "its values are no texts, numbers or times"
        if one.distinct <= 1 and one.missing == 0 and self._rows > 1:
            return f"it is {one.examples[0] if one.examples else 'one value'} in every row"
        if one.name in self._times:
            return "a further time"
        if not name_of(one.name) or name_of(one.name).startswith("unnamed"):
            return "it has no name"
        if _ID_LIKE.search(name_of(one.name)) and one.distinct > 0.5 * one.present > 9 and not self._is_key(one):
            return "nearly another in each row"
        if one.kind == "whole" and not self._is_key(one) and _is_another_each(one):
            return "another whole number in each row"
        if one.is_number and max(abs(one.least or 0), abs(one.greatest or 0)) > LARGEST_NUMBER:
            return "its numbers are too large for a model"
        return None

    def _is_key(self, one: ColumnFound) -> bool:
        """Texts or whole numbers, named as somebody or something, that come back."""
        said = name_of(one.name)
        if one.kind not in ("text", "whole") or one.distinct > 0.9 * one.present > 9 or _COUNTED.search(said):
            return False
        if _KEY.search(said) and (_ID_LIKE.search(said) or not _CATEGORY.search(said)):
            return (
                one.kind == "text" or bool(_ID_LIKE.search(said)) or one.distinct > _FEW_VALUES or one.has_card_numbers
            )
        return bool(_ID_LIKE.search(said)) and one.distinct > _FEW_VALUES and not _CATEGORY.search(said)

    def _is_category(self, one: ColumnFound) -> bool:
        said = name_of(one.name)
        if one.kind == "boolean":
            return True
        if one.kind == "text":
            return one.distinct <= (_MANY_VALUES if _CATEGORY.search(said) else _FEW_VALUES)
        if _COUNTED.search(said):
            return False
        named = _CATEGORY.search(said) or _ID_LIKE.search(said)
        return one.kind == "whole" and bool(named) and one.distinct <= _FEW_VALUES

    def limit_keys(self) -> None:
        """Keep so few that state stays small: those whose name says it first, and of the most different values."""
        by_size = sorted(self.keys, key=lambda name: -self._of[name].distinct)
        ranked = by_size + sorted(self.loose_keys, key=lambda name: -self._of[name].distinct)
        kept = ranked[:_MOST_KEYS]
        self.keys = [name for name in self._of if name in kept]
        self.left += [
            Left(name, f"a further key of {self._of[name].distinct:,} values") for name in ranked[_MOST_KEYS:]
        ]
