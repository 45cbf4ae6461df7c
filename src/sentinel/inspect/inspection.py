"""What `sentinel inspect` finds in a file, from its first byte to a detector that can be trained."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from sentinel.errors import DataProblem, NotUtf8
from sentinel.events.card_numbers import masked
from sentinel.events.labels import word_of
from sentinel.events.reading import Dialect, Reading
from sentinel.events.secrets import Secrets
from sentinel.events.tables import Table
from sentinel.inspect.columns import ColumnFound, Found, find_columns
from sentinel.inspect.leakage import Separation, separations
from sentinel.inspect.overview import Overview, look_over
from sentinel.inspect.roles import Left, Role, Roles, find_roles
from sentinel.inspect.suggestion import Draft, detector_file, draft_of, with_optional, without
from sentinel.inspect.times import TimesFound

Stage = Callable[[str, int, int], None]
"""Told the name of what is going on, and how much of how much of it is done."""

_MEANINGS = {1: "fraud", 0: "legitimate", None: "unlabelled"}
_ROLE_FIELDS = {
    "transaction_id": Role.ID, "event_time": Role.TIME, "amount": Role.AMOUNT, "is_fraud": Role.LABEL,
}  # fmt: skip

_NOT_JUDGED = (Role.ID, Role.TIME, Role.LABEL, Role.OUTCOME_TIME)
"""What is no leak, whatever it tells."""


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found.

    `overview` and `detector` are None where no column can be the time or the amount; `problem` says what is missing.
    """

    path: str
    encoding: str | None
    rows: int
    columns: tuple[ColumnFound, ...]
    roles: dict[str, Role]
    left: tuple[Left, ...]
    label_words: dict[str, int | None] = {}
    label_counts: dict[str, int] = {}
    times: TimesFound | None = None
    overview: Overview | None = None
    separations: tuple[Separation, ...] = ()
    notes: tuple[str, ...] = ()
    detector: str | None = None
    problem: str | None = None

    @property
    def suspects(self) -> list[Separation]:
        """Columns that nearly separate the classes."""
        return [one for one in self.separations if one.is_suspect]

    def meaning(self, word: str) -> str:
        """What a label word is read as."""
        return _MEANINGS[self.label_words[word_of(word)]] if word_of(word) in self.label_words else "?"

    def column_of(self, role: Role) -> str | None:
        """The column of a role that only one has."""
        return next((column for column, one in self.roles.items() if one == role), None)


def inspect_file(path: Path, reading: Reading, *, secrets: Secrets, now_us: int, stage: Stage) -> Inspection:
    """Read the file, or all files of a folder or pattern, twice. Raises DataProblem for what cannot be read at all.

    `reading.renames` says which columns are `transaction_id`, `event_time`, `amount` and `is_fraud`, where that is not
    to be found out.
    """
    if reading.events is not None:
        raise DataProblem("inspect reads transactions; leave out --events-file")
    given = _given(reading.renames)
    reading, table, found = _read(path, reading, stage)
    for column in given.values():
        if column not in {one.name for one in found.columns}:
            raise DataProblem(
                f"--map: no column {column} in {path}; it has {', '.join(one.name for one in found.columns)}"
            )
    roles = find_roles(found, given, reading.labels, time_format=reading.time_format)
    facts, draft = _facts(path, reading, found, roles), draft_of(found, roles, reading)
    if draft is None:
        notes = () if roles.label_problem is None else (roles.label_problem,)
        return msgspec.structs.replace(facts, notes=notes, problem=_lacking(roles))
    by_schema = msgspec.structs.replace(reading, renames={}, strict=False)
    looked = look_over(
        table, draft.schema, by_schema, roles.label_words or {}, secrets=secrets, now_us=now_us,
        progress=lambda rows: stage("checking", rows, found.rows),
    )  # fmt: skip
    draft = with_optional(draft, looked.lacking, looked.overview.transactions)
    stage("leaks", 0, 1)
    judged = [one for one in found.columns if roles.of.get(one.name) not in _NOT_JUDGED]
    leaks = separations(looked.sample, looked.labels, judged, roles.columns(Role.KEY))
    stage("leaks", 1, 1)
    draft = without(draft, [Left(one.column, one.tells) for one in leaks if one.is_suspect])
    return msgspec.structs.replace(
        facts,
        left=draft.left,
        overview=looked.overview,
        separations=tuple(leaks),
        notes=(*draft.notes, *_noted(found, draft)),
        detector=detector_file(draft, looked.overview, path.name),
    )


def _given(renames: Mapping[str, str]) -> dict[Role, str]:
    strangers = [field for field in renames.values() if field not in _ROLE_FIELDS]
    if strangers:
        raise DataProblem(
            f"--map: inspect takes the columns of {', '.join(_ROLE_FIELDS)}, not of {', '.join(strangers)}"
        )
    return {_ROLE_FIELDS[field]: column for column, field in renames.items()}


def _read(path: Path, reading: Reading, stage: Stage) -> tuple[Reading, Table, Found]:
    """The columns of the file; a text that is not UTF-8 is read in the encoding that it may be."""
    try:
        return reading, *_found(path, reading.dialect, stage)
    except NotUtf8 as error:
        if reading.dialect.encoding is not None:
            raise
        dialect = Dialect(separator=reading.dialect.separator, encoding=error.perhaps)
        return msgspec.structs.replace(reading, dialect=dialect), *_found(path, dialect, stage)


def _found(path: Path, dialect: Dialect, stage: Stage) -> tuple[Table, Found]:
    table = Table(path, dialect)
    _check_header(path, table.columns())
    expected = table.rows_about()
    found = find_columns(table, lambda rows: stage("reading", rows, max(rows, expected)))
    stage("reading", found.rows, found.rows)
    return table, found


def _check_header(path: Path, names: list[str]) -> None:
    """Where there is no line of names the first transaction takes its place; nothing of it is to be shown."""
    if any(masked(name) != name for name in names):
        raise DataProblem(f"the first line of {path} has a card number: it is no line of names; put one before it")


def _facts(path: Path, reading: Reading, found: Found, roles: Roles) -> Inspection:
    """What is known after the first reading."""
    label = roles.column(Role.LABEL)
    times = (Role.TIME, Role.OUTCOME_TIME)
    return Inspection(
        path=str(path),
        encoding=reading.dialect.encoding,
        rows=found.rows,
        columns=tuple(one.as_time() if roles.of.get(one.name) in times else one for one in found.columns),
        roles={one.name: roles.of[one.name] for one in found.columns if one.name in roles.of},
        left=roles.left,
        label_words=roles.label_words or {},
        label_counts={} if label is None else found.column(label).words or {},
        times=roles.times,
    )


def _lacking(roles: Roles) -> str:
    """Why there is no detector."""
    lacking = [
        f"{what} (--map COLUMN={field})"
        for what, field in (("the time", "event_time"), ("the amount", "amount"))
        if roles.column(_ROLE_FIELDS[field]) is None
    ]
    return f"no column could be taken for {' and '.join(lacking)}; a detector needs it: say which it is"


def _noted(found: Found, draft: Draft) -> list[str]:
    schema, said = draft.schema, []
    if schema.encoding is not None:
        said.append(f"the text is not UTF-8: read as {schema.encoding}, which the detector says")
    if schema.decimal == ",":
        said.append("numbers have a decimal comma, which the detector says")
    outcome_time = draft.roles.column(Role.OUTCOME_TIME)
    if outcome_time is not None:
        said.append(f"{outcome_time}: taken for the time at which an outcome was known; no feature sees it before")
    cards = [one.name for one in found.columns if one.has_card_numbers]
    if cards:
        said.append(f"{', '.join(cards)}: card numbers; they are hashed as they are read (docs/security.md)")
    return said
