"""The schema: which fields a transaction has, and how one is read from bytes."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, TypeVar, cast

import msgspec

from sentinel.errors import BadBody, InvalidDefinition, InvalidInput
from sentinel.events.times import duration_us, instant_us

MINOR_LIMIT = 10**12  # keeps n * sum(x^2) of any window inside 128 bits
PLACE_DECIMALS = 6  # a millionth of a degree is 11 cm
MAX_TEXT = 256

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]


class Transaction(msgspec.Struct, forbid_unknown_fields=True):
    """One transaction of a detector's schema; each schema makes its own subclass with its own fields.

    After `Schema.decode`, the time field holds microseconds since 1970 UTC and every id, key and category is
    text (or None where it is missing). After `Schema.assign` the id and the time are never None.
    """


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True, omit_defaults=True):
    """The fields of one kind of transaction. Field names are the names on the wire and in files.

    - `keys`: texts that windows are counted by (card, merchant, device). They serve as categories too.
    - `categories`: texts, whole numbers or booleans with few values.
    - `numbers`: plain numbers, handed to the model as they are.
    - `exact`: further numbers that windows add up, with how many decimals each has (`{"value": 0}`).
    - `place`: latitude and longitude in degrees.
    - `optional`: fields that may be absent or null, but for the amount. A missing id or time is assigned on arrival:
      a repeated request is a new transaction then.
    - `rounded`: exact numbers that are rounded to their decimals, where others are refused with more of them.
    - `ranges`: the least and greatest accepted value of a number.
    - `max_ahead`: how far an event's own time may be ahead of its arrival; windows and the like count it no later. Keep
      it shorter than the windows: an event counted ahead moves its key's clock, and the next ones count there too.
    - `max_late`: how much longer than its windows a key is remembered after its last transaction, for what comes late.
    - `label`, `outcome_time`: columns of a history file; never accepted in a live transaction.
    - `columns`: the column of a field in your files, `{"event_time": "tx_datetime"}`.
    """

    id: str = "transaction_id"
    time: str = "event_time"
    amount: str = "amount"
    amount_decimals: int = 2
    negative_amounts: bool = False
    keys: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    exact: dict[str, int] = {}
    place: tuple[str, str] | None = None
    optional: tuple[str, ...] = ()
    rounded: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = {}
    max_ahead: str = "1m"
    max_late: str = "1d"
    label: str = "is_fraud"
    outcome_time: str | None = None
    columns: dict[str, str] = {}

    def __post_init__(self) -> None:
        fields = (self.id, self.time, *self.decimals, *self.numbers, *self.texts, self.label)
        doubled = sorted({name for name in fields if fields.count(name) > 1})
        if doubled:
            raise InvalidDefinition(f"schema: {', '.join(doubled)} declared twice; give each field one role")
        for name in fields:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise InvalidDefinition(f"schema: {name!r} is no field name; use letters, digits and _")
        self._refuse_unknown("optional", self.optional, self.fields)
        self._refuse_unknown("rounded", self.rounded, tuple(self.decimals))
        self._refuse_unknown("ranges", self.ranges, (*self.decimals, *self.numbers))
        for name, (least, most) in self.ranges.items():
            if not -math.inf < least <= most < math.inf:
                raise InvalidDefinition(f"schema: the range of {name} is {least} to {most}; give two finite numbers")
        # floats, as they come back from JSON: the fingerprint of a plan must not change on the way
        floats = {name: (float(least), float(most)) for name, (least, most) in self.ranges.items()}
        msgspec.structs.force_setattr(self, "ranges", floats)
        self._refuse_unknown("columns", self.columns, (*fields, self.outcome_time or self.label))
        if self.amount in self.optional:
            raise InvalidDefinition(f"schema: the amount {self.amount!r} cannot be optional")
        for name, digits in self.decimals.items():
            if not 0 <= digits <= 6:
                raise InvalidDefinition(f"schema: {name} has {digits} decimals; 0 to 6 are possible")
        duration_us(self.max_ahead)
        duration_us(self.max_late)

    def _refuse_unknown(self, what: str, names: Any, known: tuple[str, ...]) -> None:
        strangers = [name for name in names if name not in known]
        if strangers:
            raise InvalidDefinition(f"schema: {what} names {', '.join(strangers)}, which is not declared")

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Every number kept exactly -> its decimals; the amount comes first."""
        place = dict.fromkeys(self.place or (), PLACE_DECIMALS)
        return {self.amount: self.amount_decimals} | self.exact | place

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Every field that is text inside: keys, then categories."""
        return self.keys + self.categories

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Every field of a live transaction, in the order of the wire struct."""
        return (self.id, self.time, *self.decimals, *self.numbers, *self.texts)

    @cached_property
    def assigns(self) -> bool:
        """Whether a transaction may come without id or time."""
        return self.id in self.optional or self.time in self.optional

    @cached_property
    def checked_decimals(self) -> dict[str, int]:
        """Exact numbers that are refused with more decimals. A place is rounded: no one means eleven centimetres."""
        rounded = (*self.rounded, *(self.place or ()))
        return {name: digits for name, digits in self.decimals.items() if name not in rounded}

    @cached_property
    def wire_type(self) -> type[Transaction]:
        """The msgspec struct of one transaction."""
        fields: list[Any] = [(self.id, _Id | int), (self.time, str | int | float)]
        fields += [(name, self._number_type(name)) for name in (*self.decimals, *self.numbers)]
        fields += [(name, _Text | int if name in self.keys else _Text | bool | int) for name in self.texts]
        required = [field for field in fields if field[0] not in self.optional]
        optional = [(name, kind | None, None) for name, kind in fields if name in self.optional]
        made: Any = msgspec.defstruct(
            "Transaction", required + optional, bases=(Transaction,), forbid_unknown_fields=True, gc=False
        )
        return cast("type[Transaction]", made)

    def _number_type(self, name: str) -> Any:
        limits = self.limits(name)
        return float if limits is None else Annotated[float, msgspec.Meta(ge=limits[0], le=limits[1])]

    def limits(self, name: str) -> tuple[float, float] | None:
        """Least and greatest accepted value of a number, or None where any will do."""
        if name in self.ranges:
            return self.ranges[name]
        if self.place and name in self.place:
            return (-90.0, 90.0) if name == self.place[0] else (-180.0, 180.0)
        if name in self.decimals:
            limit = float(MINOR_LIMIT // 10 ** self.decimals[name])
            signed = self.negative_amounts or name != self.amount
            return (-limit if signed else 0.0, limit)
        return None

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Transaction]:
        return msgspec.json.Decoder(self.wire_type)

    @cached_property
    def _array_decoder(self) -> msgspec.json.Decoder[list[Transaction]]:
        return msgspec.json.Decoder(list[self.wire_type])  # type: ignore[name-defined]

    def make_ready(self) -> None:
        """Make the types and the decoder now, in one thread, before several use them."""
        _ = (self._decoder, self._array_decoder, self.assigns, self.normalise)

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> Transaction:
        """One transaction from its JSON bytes. Raises InvalidInput that names the field and what it expects.

        An optional id or time that is missing stays None until `assign`.
        """
        transaction = read_json(self._decoder.decode, raw)
        self.normalise(transaction)
        return transaction

    def decode_array(self, raw: bytes) -> list[Transaction] | None:
        """All transactions of a JSON array at once, or None where something is wrong with one of them or all."""
        try:
            transactions = self._array_decoder.decode(raw)
            for transaction in transactions:
                self.normalise(transaction)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput):
            return None
        return transactions

    @cached_property
    def normalise(self) -> Callable[[Transaction], None]:
        """Brings the time to microseconds and the texts to text, in place; checks the decimals of exact numbers."""
        time, time_of, time_path = self.time, operator.attrgetter(self.time), f"$.{self.time}"
        names, decimals = (self.id, *self.texts), self.decimals
        get_texts = operator.attrgetter(*names)
        texts_of = get_texts if self.texts else lambda transaction: (get_texts(transaction),)
        scaled = tuple((name, operator.attrgetter(name), 10**n) for name, n in self.checked_decimals.items())

        def normalise(transaction: Transaction) -> None:
            value = time_of(transaction)
            if value is not None:
                setattr(transaction, time, instant_us(value, time_path))
            for text in texts_of(transaction):
                if type(text) is not str and text is not None:
                    make_texts(transaction)
                    break
            for name, number_of, scale in scaled:
                value = number_of(transaction)
                if value is not None and not (value * scale).is_integer() and not has_decimals(value, scale):
                    raise InvalidInput(f"Expected at most {decimals[name]} decimals, got {value!r}", f"$.{name}")

        def make_texts(transaction: Transaction) -> None:
            for name, value in zip(names, texts_of(transaction), strict=True):
                if type(value) is not str and value is not None:
                    setattr(transaction, name, text_of(value))

        return normalise

    def assign(self, transaction: Transaction, new_id: str, now_us: int) -> None:
        """Give a decoded transaction the id and the time (microseconds) it lacks, in place.

        Needed only where `assigns` is set, and before anything else reads the transaction.

        >>> schema = Schema(optional=("transaction_id", "event_time"))
        >>> transaction = schema.decode(b'{"amount": 1.5}')
        >>> schema.assign(transaction, "a7", 1_735_689_600_000_000)
        >>> schema.encode(transaction)
        b'{"amount":1.5,"transaction_id":"a7","event_time":1735689600000000}'
        """
        if getattr(transaction, self.id) is None:
            setattr(transaction, self.id, new_id)
        if getattr(transaction, self.time) is None:
            setattr(transaction, self.time, now_us)

    def encode(self, transaction: Transaction) -> bytes:
        """The canonical bytes of a decoded transaction: equal content gives equal bytes."""
        return _encode(transaction)

    def restore(self, content: bytes) -> Transaction:
        """The transaction that `encode` wrote; its time already counts microseconds."""
        return self._decoder.decode(content)

    def restore_all(self, contents: Sequence[bytes]) -> list[Transaction]:
        """The same for several at once, at half the price."""
        return self._array_decoder.decode(b"[%b]" % b",".join(contents))


def read_json(decode: Callable[[Any], T], raw: bytes | memoryview | msgspec.Raw) -> T:
    """What `decode` makes of JSON from outside. Raises BadBody, or InvalidInput that names the path."""
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        raise InvalidInput(message, path.rstrip("`") or "$") from None
    except msgspec.DecodeError as error:
        raise BadBody(f"No valid JSON: {error}") from None
    except UnicodeDecodeError:
        raise BadBody("Not UTF-8: send JSON encoded as UTF-8") from None
    except RecursionError:
        raise BadBody("No valid JSON: nested too deeply") from None


def has_decimals(value: float, scale: int) -> bool:
    """Whether `value` is a whole number of 1/scale, but for the rounding of binary numbers.

    >>> has_decimals(12.34, 100), has_decimals(0.1 + 0.2, 100), has_decimals(12.345, 100)
    (True, True, False)
    """
    nearest = round(value * scale) / scale
    return nearest == value or abs(nearest - value) <= 1e-12 * abs(value)


def text_of(value: bool | int) -> str:
    """How a whole number or a boolean is written as text: `7`, `true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
