"""The wire: how a transaction is read from JSON, and brought to the form in which it is kept."""

import difflib
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec

from sentinel.errors import BadBody, InvalidInput
from sentinel.events.card_numbers import masked_ends
from sentinel.events.times import LONG_AGO_US, USUAL, TimeForm, instant_us

HASHED_BEFORE = "hashed_before"
MAX_ID, MAX_TEXT = 128, 256
"""Characters of an id, and of a key or category, as they are kept: a number counts by its digits."""

ID = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
ID_OR_EMPTY = Annotated[str, msgspec.Meta(max_length=MAX_ID)]
TEXT = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
TEXT_OR_EMPTY = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]

_SHOWN = 40  # characters of a value, in what is said about it
MOST_SAID = 200
"""Characters of what is said about JSON from outside, and of a path in it: both may quote the caller."""

_UNKNOWN, _LACKING = "Object contains unknown field `", "Object missing required field `"  # as msgspec says it
_FEW, _NEAR = 3, 0.8

T = TypeVar("T")


class Transaction(msgspec.Struct, forbid_unknown_fields=True):
    """One transaction of a detector's schema; each schema makes its own subclass with its own fields.

    After `Schema.decode`, the time field holds microseconds since 1970 UTC and every id, key and category is
    text (or None where it is missing). After `Schema.assign` the id and the time are never None.

    `hashed_before` has, by field, what a text with something hashed was before the hash key was changed; it is made
    when a transaction is read, and kept with it. It is the one name that no field may have. All else that is asked of a
    transaction is a function beside it: a property here would be hidden by a field of its name, whose value callers
    choose.
    """

    hashed_before: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class ContextEvent(Transaction, forbid_unknown_fields=True):
    """What happened beside the transactions: a login, a password change. It is read and kept as a transaction is.

    Each kind of a schema has its own subclass with the fields that it carries; `event` on the wire names the kind.
    """


Seal: TypeAlias = Callable[[str, str, str, str | None], str]
"""Encrypts for a subject, as `card_id=c-7`, the text of a field: (subject, field, text, the subject's former name)."""


class Unsealed:
    """A personal text of a transaction that was read and may yet be refused: it is sealed when that is recorded.

    To seal it makes a key of its subject, which nothing refused may leave. Until then it is encoded as null.
    """

    __slots__ = ("_former", "_name", "_subject", "_text")

    def __init__(self, subject: str, name: str, text: str, former: str | None) -> None:
        self._subject, self._name, self._text, self._former = subject, name, text, former

    def sealed(self, seal: Seal) -> str:
        """What is kept of it."""
        return seal(self._subject, self._name, self._text, self._former)


def encoded_unsealed(value: Any) -> None:
    """How an encoder takes what is still to be sealed. Raises NotImplementedError for what is not that."""
    if not isinstance(value, Unsealed):
        raise NotImplementedError


def seal_what_waits(transaction: Transaction, names: Iterable[str], seal: Seal) -> bool:
    """Seal what waited for it in these fields, in place; whether there was anything."""
    waiting = [(name, text) for name in names if isinstance(text := getattr(transaction, name, None), Unsealed)]
    for name, text in waiting:
        setattr(transaction, name, text.sealed(seal))
    return bool(waiting)


def before_of(transaction: Transaction, field: str) -> str | None:
    """What a field was before the hash key was changed, if that is something else."""
    return None if transaction.hashed_before is msgspec.UNSET else transaction.hashed_before.get(field)


def event_of(event: ContextEvent) -> str:
    """The name of the kind of a context event."""
    return str(type(event).__struct_config__.tag)


KIND, EVENT_ID = "event", "event_id"
"""The fields of a context event with the name of its kind and with its id."""


def struct_of(kinds: Mapping[str, Any], optional: Iterable[str], event: str | None = None) -> type[Transaction]:
    """The struct with fields of these types; the optional ones may be absent or null, and come last.

    It is of a transaction, or of a context event of that name.
    """
    required: list[Any] = [(name, kind) for name, kind in kinds.items() if name not in optional]
    may_lack = [(name, kind | None, None) for name, kind in kinds.items() if name in optional]
    named: dict[str, Any] = {} if event is None else {"tag": event, "tag_field": KIND}
    made: Any = msgspec.defstruct(
        "Transaction", required + may_lack, bases=(Transaction if event is None else ContextEvent,),
        forbid_unknown_fields=True, gc=False, kw_only=True, **named,
    )  # fmt: skip
    return cast("type[Transaction]", made)


def normaliser(
    id_name: str,
    time: str,
    times: tuple[str, ...],
    texts: tuple[str, ...],
    decimals: Mapping[str, int],
    form: TimeForm = USUAL,
) -> Callable[[Transaction], None]:
    """What brings the times to microseconds and ids, keys and categories to text, in place.

    It raises InvalidInput for what is too long as it would be kept, and for numbers with more than these `decimals`.
    """
    time_of, time_path = operator.attrgetter(time), f"$.{time}"
    names = (id_name, *texts)
    get_texts = operator.attrgetter(*names)
    texts_of = get_texts if texts else lambda transaction: (get_texts(transaction),)
    scaled = tuple((name, operator.attrgetter(name), 10**n) for name, n in decimals.items())

    def normalise(transaction: Transaction) -> None:
        value = time_of(transaction)
        if value is not None:
            setattr(transaction, time, instant_us(value, time_path, form))
        for name in times:
            value = getattr(transaction, name)
            if value is not None:
                setattr(transaction, name, instant_us(value, f"$.{name}", form, LONG_AGO_US))
        for text in texts_of(transaction):
            if text == "" or (type(text) is not str and text is not None):
                make_texts(transaction)
                break
        for name, number_of, scale in scaled:
            value = number_of(transaction)
            if value is not None and not (value * scale).is_integer() and not has_decimals(value, scale):
                raise InvalidInput(f"Expected at most {decimals[name]} decimals, got {value!r}", f"$.{name}")

    def make_texts(transaction: Transaction) -> None:
        for name, value in zip(names, texts_of(transaction), strict=True):
            if value == "":  # which only an optional one may be
                setattr(transaction, name, None)
            elif type(value) is not str and value is not None:
                setattr(transaction, name, text_within(value, MAX_ID if name == id_name else MAX_TEXT, f"$.{name}"))

    return normalise


def read_json(decode: Callable[[Any], T], raw: bytes | memoryview | msgspec.Raw, known: Iterable[str] = ()) -> T:
    """What `decode` makes of JSON from outside. Raises BadBody, or InvalidInput that names the path.

    An unknown field that is written nearly as one of the `known` is told that name.
    """
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        where, begin, name = path.rstrip("`") or "$", *_named(message)
        said = masked_ends(message, MOST_SAID)
        if begin == _UNKNOWN and (meant := _nearest(name, known)) is not None:
            said += f"; is {meant} meant?"
        raise InvalidInput(said, masked_ends(f"{where}.{name}" if name else where, MOST_SAID)) from None
    except msgspec.DecodeError as error:
        raise BadBody(f"No valid JSON: {error}") from None
    except UnicodeDecodeError:
        raise BadBody("Not UTF-8: send JSON encoded as UTF-8") from None
    except RecursionError:
        raise BadBody("No valid JSON: nested too deeply") from None


def _named(message: str) -> tuple[str, str]:
    """Which fault with a field msgspec tells, and the name of the field; two empty texts where it is another fault."""
    begin = next((one for one in (_UNKNOWN, _LACKING) if message.startswith(one)), "")
    return begin, message.removeprefix(begin).removesuffix("`") if begin else ""


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is the same but for signs and capitals, or is nearly so. Quick: anyone may have it done."""
    begin, length = name[:1].lower(), len(name)
    near = {_plain(one): one for one in known if one[:1].lower() == begin and abs(len(one) - length) <= _FEW}
    found = difflib.get_close_matches(_plain(name[:_SHOWN]), near, 1, _NEAR)
    return near[found[0]] if found else None


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def has_decimals(value: float, scale: int) -> bool:
    """Whether `value` is a whole number of 1/scale, but for the rounding of binary numbers.

    >>> has_decimals(12.34, 100), has_decimals(0.1 + 0.2, 100), has_decimals(12.345, 100)
    (True, True, False)
    """
    nearest = round(value * scale) / scale
    return nearest == value or abs(nearest - value) <= 1e-12 * abs(value)


def text_within(value: bool | int, most: int, path: str) -> str:
    """`text_of` a value. Raises InvalidInput, naming `path`, where that has more than `most` characters."""
    text = text_of(value)
    if len(text) > most:
        raise InvalidInput(f"Expected at most {most} digits, got {text[:_SHOWN]}...", path)
    return text


def text_of(value: bool | int) -> str:
    """How a whole number or a boolean is written as text: `7`, `true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
