"""A detector to begin with: the file that a person would write after a look at the data."""

import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

import msgspec

from sentinel.events.reading import Reading
from sentinel.events.schema import MINOR_LIMIT, Schema
from sentinel.inspect.columns import ColumnFound, Found
from sentinel.inspect.overview import Overview
from sentinel.inspect.roles import Left, Role, Roles, name_of
from sentinel.inspect.times import TimesFound

_WIDTH = 118
_DAY_US = 86_400_000_000
_WINDOWS = (("10m", 1 / 144), ("1h", 1 / 24), ("6h", 0.25), ("1d", 1.0), ("7d", 7.0), ("30d", 30.0), ("90d", 90.0))
_SHARES = (0.15, 0.2, 0.25, 0.3)
_ENOUGH_FRAUDS = 5
_RARE_SHARE = 0.2  # a word that is rarer may be that of frauds
_LONGEST_NAME = 60
_SEVERAL = {"keys": Role.KEY, "categories": Role.CATEGORY, "numbers": Role.NUMBER}
_NEARLY_ALL = 0.999
_NO_FALLBACK = (
    "no fallback: while the model cannot answer, every transaction is approved; write rules for that time,",
    "fallback=Fallback(...), or say on_fault (docs/detectors.md, docs/fail-policy.md)",
)
_MANY_FRAUDS = 20_000  # fewer are learned by heart by as many trees as is usual


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector file will say of a file: its schema, what is to be known of it, and what is left out, and why."""

    schema: Schema
    roles: Roles
    left: tuple[Left, ...]
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def draft_of(found: Found, roles: Roles, reading: Reading) -> Draft | None:
    """The schema of the file; None where it has no amount or no time, which every transaction has."""
    time, amount_name, an_id, label = map(roles.column, (Role.TIME, Role.AMOUNT, Role.ID, Role.LABEL))
    if amount_name is None or time is None:
        return None
    fields = _fields(roles)
    notes: list[str] = []
    amount = found.column(amount_name)
    names = {one.name for one in found.columns} | set(fields.values())
    assigned = "transaction_id" if "transaction_id" not in names else "assigned_id"
    given: dict[str, object] = {
        "id": fields[an_id] if an_id else assigned,
        "time": fields[time],
        "amount": fields[amount_name],
        "label": fields[label] if label else "is_fraud" if "is_fraud" not in names else "fraud_label",
        **{name: tuple(fields[one] for one in roles.columns(role)) for name, role in _SEVERAL.items()},
        "optional": tuple(fields[one] for one in _lacking(found, roles)),
        "columns": {field: column for column, field in fields.items() if field != column},
        "labels": dict(reading.labels),
        "timezone": reading.timezone,
        "encoding": reading.dialect.encoding,
        "decimal": reading.decimal or ("," if _has_comma_decimals(found, roles) else "."),
    }
    if an_id is None:
        given["optional"] = (assigned, *_names(given["optional"]))
        notes.append(
            "no column is an id: one is assigned, so a request that is sent twice is two transactions; if a column "
            f"names the transaction, say so: --map {_likely_id(found) or 'COLUMN'}=transaction_id"
        )
    if place := roles.columns(Role.PLACE):
        given["place"] = tuple(fields[one] for one in place)
    if outcome_time := roles.column(Role.OUTCOME_TIME):
        given["outcome_time"] = fields[outcome_time]
    given |= _amount(amount, fields[amount_name]) | _times(roles.times)
    schema = Schema(**given)  # type: ignore[arg-type]
    if roles.column(Role.LABEL) is None:
        notes.append(_no_label(found, roles))
    notes += _said(roles, amount, reading.timezone)
    return Draft(
        schema=schema, roles=roles, left=roles.left, remarks=tuple(_private(found, fields, schema)), notes=tuple(notes)
    )


def _private(found: Found, fields: Mapping[str, str], schema: Schema) -> Iterator[str]:
    """What may be hidden, with a key that only the operator can give."""
    texts = [one for one in found.columns if fields.get(one.name) in (*schema.keys, *schema.categories)]
    cards = tuple(fields[one.name] for one in texts if one.has_card_numbers)
    addresses = tuple(fields[one.name] for one in texts if one.has_addresses and not one.has_card_numbers)
    if cards:
        yield f"secret={_as_python(cards)}, keep_digits={_as_python(cards)} hides card numbers with SENTINEL_HASH_KEY"
    if addresses:
        yield (
            f"secret={_as_python(addresses)}, keep_domain={_as_python(addresses)} hides e-mail addresses with "
            "SENTINEL_HASH_KEY; personal={...} keeps them to be erased (docs/security.md)"
        )


def _no_label(found: Found, roles: Roles) -> str:
    """That no label was found, and which column of two words, one of them rare, might be one."""
    said = "no column is a label: nothing can be trained until one is (--map COLUMN=is_fraud)"
    able = [one for one in roles.columns(Role.CATEGORY) if len(found.column(one).words or ()) == 2]
    counts = {one: found.column(one).words or {} for one in able}
    likely = [one for one, words in counts.items() if min(words.values()) <= _RARE_SHARE * sum(words.values())]
    if not likely:
        return said
    words = sorted(counts[likely[0]].items(), key=lambda one: one[1])
    told = " and ".join(f"{n:,} rows say {word}" for word, n in words)
    return f"{said}; could it be {likely[0]}? {told}. Until then it is a feature, which would tell the model the truth"


def _likely_id(found: Found) -> str | None:
    """The text or whole number that is another most often, if it is so in most rows."""
    able = [one for one in found.columns if one.kind in ("text", "whole") and one.name.isprintable()]
    most = max(able, key=lambda one: one.distinct, default=None)
    return most.name if most is not None and most.distinct > 0.5 * found.rows else None


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


def with_optional(draft: Draft, lacking: Mapping[str, int], transactions: int) -> Draft:
    """The same where only those fields may be missing that usable rows lack, as `lacking` counts them by field."""
    schema = draft.schema
    kept = tuple(name for name in schema.optional if name in lacking or name == schema.id)
    remarks = tuple(
        f"the key {name} is optional, for {lacking[name]:,} of {transactions:,} usable rows lack it: a transaction "
        "without it has no history; take it out of `optional` to have such refused"
        for name in schema.keys
        if name in kept
    )
    slim = msgspec.structs.replace(schema, optional=kept)
    return msgspec.structs.replace(
        draft, schema=slim, remarks=(*draft.remarks, *remarks), notes=(*draft.notes, *remarks)
    )


def _field_of(schema: Schema, column: str) -> str:
    return next((field for field, one in schema.columns.items() if one == column), column)


def _fields(roles: Roles) -> dict[str, str]:
    """Column -> the name of its field: the same where it is one, else in small letters and `_`."""
    found: dict[str, str] = {}
    for n, column in enumerate(roles.of):
        wanted = column if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", column) else name_of(column)
        if not re.fullmatch(r"[a-zA-Z].*", wanted):
            wanted = f"column_{wanted}" if wanted else f"column_{n}"
        wanted = wanted[:_LONGEST_NAME]
        if wanted in found.values() or wanted == "hashed_before":
            wanted = f"{wanted}_{n}"
        found[column] = wanted
    return found


def _lacking(found: Found, roles: Roles) -> Iterator[str]:
    """Columns that a transaction may lack, as some do."""
    for column, role in roles.of.items():
        if role in (*_SEVERAL.values(), Role.PLACE) and found.column(column).missing > 0:
            yield column


def _has_comma_decimals(found: Found, roles: Roles) -> bool:
    numbers = (*roles.columns(Role.AMOUNT), *roles.columns(Role.NUMBER))
    return any(found.column(one).comma_decimals for one in numbers)


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


def _said(roles: Roles, amount: ColumnFound, timezone: str | None) -> Iterator[str]:
    times = roles.times
    if times is not None and times.also is not None:
        yield f"times can be {times.form} and {times.also}; the first makes the shorter history: --time-format says it"
    if times is not None and not times.has_offset and timezone is not None:
        yield f"times have no offset: they are read as of {timezone}, which the detector says"
    elif times is not None and not times.has_offset:
        yield "times have no offset: they are read as UTC unless --timezone says where they were written"
    if roles.label_problem is not None:
        yield roles.label_problem
    if amount.least is not None and amount.least < 0:
        yield f"{amount.name} is negative in some rows: the detector says negative_amounts=True, and takes them"
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
    names = ["Detector", "Schema"]
    names += [*(["Training"] if training else []), *(["XGBoost"] if "learner" in training else []), *used]
    rows += [f'"""A detector for {_plain(data)[:90]}.', ""]
    rows += ["As `sentinel inspect` suggests it: change it as you know better.", '"""', ""]
    rows += _imported(names)
    rows += ["", "detector = Detector("]
    rows += _call("schema", "Schema", _settings(schema))
    rows += [f"    # {line}" for remark in draft.remarks for line in wrap(_one_line(remark, 1_000), _WIDTH - 6)]
    rows += _left_out(draft.left)
    rows += ["    features=(", *(f"        {line}," for line in features), "    ),"]
    rows += _call("training", "Training", training) if training else []
    rows += [f"    # {line}" for line in _NO_FALLBACK]
    rows += [")", ""]
    return "\n".join(rows)


def _plain(text: str) -> str:
    return re.sub(r"[^\w./ -]", "_", text)


def _imported(names: Sequence[str]) -> list[str]:
    line = f"from sentinel import {', '.join(names)}"
    return [line] if len(line) <= _WIDTH else ["from sentinel import (", *(f"    {name}," for name in names), ")"]


def _call(name: str, made: str, settings: Mapping[str, object]) -> list[str]:
    whole = f"    {name}={made}({', '.join(f'{one}={_as_python(value)}' for one, value in settings.items())}),"
    if len(whole) <= _WIDTH:
        return [whole]
    return [
        f"    {name}={made}(",
        *(line for one, value in settings.items() for line in _setting(one, value)),
        "    ),",
    ]


def _setting(name: str, value: object) -> Iterator[str]:
    """A setting on a line, or over several, of which each has some whole elements."""
    line = f"        {name}={_as_python(value)},"
    if len(line) <= _WIDTH or not isinstance(value, (tuple, dict)):
        yield line
        return
    opened, closed = ("{", "}") if isinstance(value, dict) else ("(", ")")
    yield f"        {name}={opened}"
    row = ""
    for element in _elements(value):
        if row and len(row) + len(element) > _WIDTH - 16:
            yield f"            {row.rstrip()}"
            row = ""
        row += f"{element}, "
    yield f"            {row.rstrip()}"
    yield f"        {closed},"


def _settings(schema: Schema) -> dict[str, object]:
    """What of the schema is not as usual."""
    usual = Schema()
    order = (
        "id", "time", "amount", "label", "amount_decimals", "negative_amounts", "rounded", "keys", "categories",
        "numbers", "place", "optional", "outcome_time", "labels", "timezone", "time_format", "encoding", "decimal",
        "columns",
    )  # fmt: skip
    return {name: getattr(schema, name) for name in order if getattr(schema, name) != getattr(usual, name)}


class _Expression(str):
    """Python that stands in the file as it is."""

    __slots__ = ()


def _as_python(value: object) -> str:
    if isinstance(value, _Expression):
        return value
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if value.isprintable() else repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(_elements(value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return f"{{{', '.join(_elements(value))}}}"
    return repr(value)


def _elements(value: tuple[object, ...] | dict[object, object]) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{_as_python(key)}: {_as_python(one)}" for key, one in value.items())
    else:
        yield from map(_as_python, value)


def _left_out(left: Sequence[Left]) -> Iterator[str]:
    if left:
        yield "    # not used:"
    for one in left[:30]:
        yield f"    #   {_one_line(one.column)}: {_one_line(one.why)}"
    if len(left) > 30:
        yield f"    #   and {len(left) - 30} more"


def _one_line(text: str, most: int = 90) -> str:
    return text.encode("unicode_escape").decode("ascii")[:most] if not text.isprintable() else text[:most]


def _features(draft: Draft, overview: Overview) -> Iterator[str]:
    schema, days = draft.schema, overview.span_us / _DAY_US
    amount = schema.amount
    yield f'field("{amount}")'
    yield from (f'field("{name}")' for name in schema.numbers)
    yield from (f'category("{name}")' for name in schema.categories)
    yield from _of_the_clock(overview, days, schema.timezone)
    windows = _windows(days)
    for key in schema.keys:
        yield from _of_key(key, schema, windows, overview, days)


def _of_the_clock(overview: Overview, days: float, timezone: str | None) -> Iterator[str]:
    zone = "" if timezone is None else f'"{timezone}"'
    if overview.period_us and days >= 2:
        yield f"hour_of_day({zone})"
    if days >= 14:
        yield f"day_of_week({zone})"


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


def _training(overview: Overview) -> dict[str, object]:
    """What is not as usual: shares that leave frauds in each part, and fewer trees for few frauds."""
    found: dict[str, object] = {}
    share = next((one for one in _SHARES if min(_frauds_in_parts(overview, one)) >= _ENOUGH_FRAUDS), _SHARES[-1])
    if share != _SHARES[0]:
        found |= {"validation_share": share, "test_share": share}
    if overview.frauds < _MANY_FRAUDS:
        found["learner"] = _Expression("XGBoost(trees=150)")
    return found


def _frauds_in_parts(overview: Overview, share: float) -> tuple[int, int, int]:
    """Frauds in the training, validation and test part, as far as the periods tell."""
    ends = (overview.transactions * (1 - 2 * share), overview.transactions * (1 - share))
    parts, done = [0, 0, 0], 0
    for period in overview.periods:
        parts[0 if done < ends[0] else 1 if done < ends[1] else 2] += period.frauds
        done += period.transactions
    return parts[0], parts[1], parts[2]
