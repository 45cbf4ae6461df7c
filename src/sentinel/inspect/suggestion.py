"""A detector to begin with: the file that a person would write after a look at the data."""

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from sentinel.events.reading import Reading
from sentinel.events.schema import MINOR_LIMIT, Schema
from sentinel.inspect.columns import ColumnFound, Found
from sentinel.inspect.overview import Overview
from sentinel.inspect.roles import Left, Roles, name_of
from sentinel.inspect.times import TimesFound

_WIDTH = 118
_DAY_US = 86_400_000_000
_WINDOWS = (("10m", 1 / 144), ("1h", 1 / 24), ("6h", 0.25), ("1d", 1.0), ("7d", 7.0), ("30d", 30.0), ("90d", 90.0))
_SHARES = (0.15, 0.2, 0.25, 0.3)
_ENOUGH_FRAUDS = 5
_LONGEST_NAME = 60
_NEARLY_ALL = 0.999
_MANY_FRAUDS = 20_000  # fewer are learned by heart by as many trees as is usual


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector file will say of a file: its schema, the columns that are left out, and why."""

    schema: Schema
    roles: Roles
    left: tuple[Left, ...]
    notes: tuple[str, ...] = ()


def draft_of(found: Found, roles: Roles, reading: Reading) -> Draft | None:
    """The schema of the file; None where it has no amount or no time, which every transaction has."""
    if roles.amount is None or roles.time is None:
        return None
    fields = _fields(roles)
    notes: list[str] = []
    amount = found.column(roles.amount)
    names = {one.name for one in found.columns} | set(fields.values())
    assigned = "transaction_id" if "transaction_id" not in names else "assigned_id"
    given: dict[str, object] = {
        "id": fields[roles.id] if roles.id else assigned,
        "time": fields[roles.time],
        "amount": fields[roles.amount],
        "label": fields[roles.label] if roles.label else "is_fraud" if "is_fraud" not in names else "fraud_label",
        **{role: tuple(fields[one] for one in getattr(roles, role)) for role in ("keys", "categories", "numbers")},
        "optional": tuple(fields[one] for one in _lacking(found, roles)),
        "columns": {field: column for column, field in fields.items() if field != column},
        "labels": dict(reading.labels),
        "timezone": reading.timezone,
        "encoding": reading.dialect.encoding,
        "decimal": reading.decimal or ("," if _has_comma_decimals(found, roles) else "."),
    }
    if roles.id is None:
        given["optional"] = (assigned, *_names(given["optional"]))
        notes.append("no column is an id: one is assigned, so a request that is sent twice is two transactions")
    if roles.place:
        given["place"] = tuple(fields[one] for one in roles.place)
    if roles.outcome_time:
        given["outcome_time"] = fields[roles.outcome_time]
    given |= _amount(amount, fields[roles.amount]) | _times(roles.times)
    return Draft(schema=Schema(**given), roles=roles, left=roles.left, notes=(*notes, *_said(roles, amount)))  # type: ignore[arg-type]


def without(draft: Draft, suspects: Sequence[Left]) -> Draft:
    """The same without columns that tell the label; the amount stays, which every transaction has."""
    schema = draft.schema
    dropped = {_field_of(schema, one.column) for one in suspects} - {schema.amount}
    kept = {
        name: tuple(one for one in getattr(schema, name) if one not in dropped)
        for name in ("keys", "categories", "numbers", "optional")
    }
    place = None if schema.place and dropped & set(schema.place) else schema.place
    if schema.place and place is None:
        kept["optional"] = tuple(one for one in kept["optional"] if one not in schema.place)
    columns = {field: column for field, column in schema.columns.items() if field not in dropped}
    slim = msgspec.structs.replace(schema, **kept, place=place, columns=columns)
    left = (*draft.left, *(one for one in suspects if _field_of(schema, one.column) in dropped))
    return msgspec.structs.replace(draft, schema=slim, left=left)


def _field_of(schema: Schema, column: str) -> str:
    return next((field for field, one in schema.columns.items() if one == column), column)


def _fields(roles: Roles) -> dict[str, str]:
    """Column -> the name of its field: the same where it is one, else in small letters and `_`."""
    single = (roles.id, roles.time, roles.amount, roles.label, roles.outcome_time)
    columns = [one for one in single if one is not None]
    columns += [*roles.keys, *roles.categories, *roles.numbers, *(roles.place or ())]
    found: dict[str, str] = {}
    for n, column in enumerate(columns):
        wanted = column if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", column) else name_of(column)
        if not re.fullmatch(r"[a-zA-Z].*", wanted):
            wanted = f"column_{wanted}" if wanted else f"column_{n}"
        wanted = wanted[:_LONGEST_NAME]
        if wanted in found.values() or wanted == "hashed_before":
            wanted = f"{wanted}_{n}"
        found[column] = wanted
    return found


def _lacking(found: Found, roles: Roles) -> Iterator[str]:
    for column in (*roles.keys, *roles.categories, *roles.numbers, *(roles.place or ())):
        if found.column(column).missing > 0:
            yield column


def _has_comma_decimals(found: Found, roles: Roles) -> bool:
    return any(found.column(one).comma_decimals for one in (roles.amount or "", *roles.numbers) if one)


def _amount(amount: ColumnFound, field: str) -> dict[str, object]:
    """As many decimals as most of its numbers have and the largest leaves room for; and whether some are negative."""
    numbers = max(sum(amount.decimals), 1)
    needed = next((n for n in range(2, 7) if sum(amount.decimals[: n + 1]) >= _NEARLY_ALL * numbers), None)
    largest = max(abs(amount.least or 0), abs(amount.greatest or 0))
    digits = next((n for n in range(needed or 2, 0, -1) if largest < MINOR_LIMIT / 10**n), 0)
    found: dict[str, object] = {}
    if digits != needed:
        found["rounded"] = (field,)
    if digits != Schema().amount_decimals:
        found["amount_decimals"] = digits
    if amount.least is not None and amount.least < 0:
        found["negative_amounts"] = True
    return found


def _times(times: TimesFound | None) -> dict[str, object]:
    return {} if times is None or times.form is None else {"time_format": times.form}


def _said(roles: Roles, amount: ColumnFound) -> Iterator[str]:
    times = roles.times
    if times is not None and times.also is not None:
        yield f"times can be {times.form} and {times.also}; the first makes the shorter history: --time-format says it"
    if times is not None and not times.has_offset:
        yield "times have no offset: they are read as UTC unless --timezone says where they were written"
    if roles.label is None:
        yield "no column is a label: nothing can be trained until one is (--map COLUMN=is_fraud)"
    if roles.label_problem is not None:
        yield roles.label_problem
    if amount.strays:
        yield f"{amount.strays:,} amounts are no numbers"


def _names(value: object) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def detector_file(draft: Draft, overview: Overview, data: str) -> str:
    """The text of a Python file with `detector = Detector(...)`, which trains as it stands."""
    schema = draft.schema
    features = list(_features(draft, overview))
    used = sorted({name for line in features for name in re.findall(r"([a-z_]+)\(", line)})
    training, rows = _training(overview), []
    names = ["Detector", "Schema", *(["Training"] if training else []), *used]
    rows += [f'"""A detector for {_plain(data)[:90]}.', ""]
    rows += ["As `sentinel inspect` suggests it: change it as you know better.", '"""', ""]
    rows += _imported(names)
    rows += ["", "detector = Detector("]
    rows += _call("schema", "Schema", _settings(schema))
    rows += _left_out(draft.left)
    rows += ["    features=(", *(f"        {line}," for line in features), "    ),"]
    rows += _call("training", "Training", training) if training else []
    rows += [")", ""]
    return "\n".join(rows)


def _plain(text: str) -> str:
    return re.sub(r"[^\w./ -]", "_", text)


def _imported(names: Sequence[str]) -> list[str]:
    line = f"from sentinel import {', '.join(names)}"
    return [line] if len(line) <= _WIDTH else ["from sentinel import (", *(f"    {name}," for name in names), ")"]


def _call(name: str, made: str, settings: Mapping[str, str]) -> list[str]:
    whole = f"    {name}={made}({', '.join(f'{one}={value}' for one, value in settings.items())}),"
    if len(whole) <= _WIDTH:
        return [whole]
    return [
        f"    {name}={made}(",
        *(line for one, value in settings.items() for line in _setting(one, value)),
        "    ),",
    ]


def _setting(name: str, value: str) -> Iterator[str]:
    line = f"        {name}={value},"
    if len(line) <= _WIDTH or value[0] not in "({":
        yield line
        return
    yield f"        {name}={value[0]}"
    row = ""
    for part in value[1:-1].rstrip(",").split(", "):
        if len(row) + len(part) > _WIDTH - 16:
            yield f"            {row.rstrip()}"
            row = ""
        row += f"{part}, "
    yield f"            {row.rstrip()}"
    yield f"        {value[-1]},"


def _settings(schema: Schema) -> dict[str, str]:
    """What of the schema is not as usual, as Python."""
    usual = Schema()
    order = (
        "id", "time", "amount", "label", "amount_decimals", "negative_amounts", "rounded", "keys", "categories",
        "numbers", "place", "optional", "outcome_time", "labels", "timezone", "time_format", "encoding", "decimal",
        "columns",
    )  # fmt: skip
    return {name: _as_python(getattr(schema, name)) for name in order if getattr(schema, name) != getattr(usual, name)}


def _as_python(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if value.isprintable() else repr(value)
    if isinstance(value, tuple):
        inner = ", ".join(map(_as_python, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_as_python(key)}: {_as_python(one)}" for key, one in value.items()) + "}"
    return repr(value)


def _left_out(left: Sequence[Left]) -> Iterator[str]:
    if left:
        yield "    # not used:"
    for one in left[:30]:
        yield f"    #   {_one_line(one.column)}: {_one_line(one.why)}"
    if len(left) > 30:
        yield f"    #   and {len(left) - 30} more"


def _one_line(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")[:90] if not text.isprintable() else text[:90]


def _features(draft: Draft, overview: Overview) -> Iterator[str]:
    schema, days = draft.schema, overview.span_us / _DAY_US
    amount = schema.amount
    yield f'field("{amount}")'
    yield from (f'field("{name}")' for name in schema.numbers)
    yield from (f'category("{name}")' for name in schema.categories)
    yield from _of_the_clock(overview, days)
    windows = _windows(days)
    for key in schema.keys:
        yield from _of_key(key, schema, windows, overview, days)


def _of_the_clock(overview: Overview, days: float) -> Iterator[str]:
    if overview.period_us and days >= 2:
        yield "hour_of_day()"
    if days >= 14:
        yield "day_of_week()"


def _windows(days: float) -> list[str]:
    """Short, middle and long windows that the history has room for."""
    able = [name for name, length in _WINDOWS if length <= days / 4]
    return able[-5:] if able else ["10m"]


def _of_key(key: str, schema: Schema, windows: Sequence[str], overview: Overview, days: float) -> Iterator[str]:
    """How often, how much, and against what is usual; frauds as far as they were known."""
    amount = schema.amount
    yield f'seconds_since_last(by="{key}")'
    yield from (f'count(by="{key}", over="{over}")' for over in windows)
    for over in windows[-3:]:
        yield f'ratio("{amount}", to=mean("{amount}", by="{key}", over="{over}", include_current=False))'
    yield f'ratio("{amount}", to=maximum("{amount}", by="{key}", over="{windows[-1]}", include_current=False))'
    yield from (f'mean("{amount}", by="{key}", over="{over}")' for over in windows[-3:])
    if schema.place:
        yield f'speed_since_last(by="{key}")'
    yield from (
        f'distinct("{other}", by="{key}", over="{windows[-2 if len(windows) > 1 else -1]}")'
        for other in schema.keys[:4]
        if other != key
    )
    if overview.frauds:
        yield from _of_frauds(key, days)


def _of_frauds(key: str, days: float) -> Iterator[str]:
    """Labels take days to come; in a short history they have to come within hours."""
    delay, spans = (
        ("7d", ("1d", "7d", "30d")) if days >= 28 else ("1d", ("1d", "7d")) if days >= 4 else ("1h", ("1h", "6h"))
    )
    yield from (f'fraud_rate(by="{key}", over="{over}", delay="{delay}")' for over in spans)


def _training(overview: Overview) -> dict[str, str]:
    """What is not as usual: shares that leave frauds in each part, and fewer trees for few frauds."""
    found: dict[str, str] = {}
    share = next((one for one in _SHARES if min(_frauds_in_parts(overview, one)) >= _ENOUGH_FRAUDS), _SHARES[-1])
    if share != _SHARES[0]:
        found |= {"validation_share": str(share), "test_share": str(share)}
    if overview.frauds < _MANY_FRAUDS:
        found["trees"] = "150"
    return found


def _frauds_in_parts(overview: Overview, share: float) -> tuple[int, int, int]:
    """Frauds in the training, validation and test part, as far as the periods tell."""
    ends = (overview.transactions * (1 - 2 * share), overview.transactions * (1 - share))
    parts, done = [0, 0, 0], 0
    for period in overview.periods:
        parts[0 if done < ends[0] else 1 if done < ends[1] else 2] += period.frauds
        done += period.transactions
    return parts[0], parts[1], parts[2]
