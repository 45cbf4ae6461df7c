"""The schema: which fields a transaction has, and how one is read from bytes."""

import math
import re
from collections.abc import Callable, Sequence, Set
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import quoted
from sentinel.events.encodings import is_encoding
from sentinel.events.reference_tables.declaration import (
    COLUMN_FORM,
    COLUMN_TYPES,
    FIRST,
    LAST,
    MOST_TABLES,
    TABLE_FORM,
    VALID_FROM,
    LookupTable,
)
from sentinel.events.secrets import differ_in_keys_only
from sentinel.events.times import USUAL, TimeForm, duration_us
from sentinel.events.wire import (
    EVENT_ID,
    HASHED_BEFORE,
    ID,
    ID_OR_EMPTY,
    KIND,
    TEXT,
    TEXT_OR_EMPTY,
    Transaction,
    encoded_unsealed,
    normaliser,
    read_json,
    struct_of,
)

MINOR_LIMIT = 10**12  # keeps n * sum(x^2) of any window inside 128 bits
LARGEST_NUMBER = 3.4028234663852886e38  # of float32, which models take
MOST_KINDS = 64
KIND_FORM = r"[A-Za-z][A-Za-z0-9_]{0,63}"
"""How many kinds of context events there may be, and how one is named."""
PLACE_DECIMALS = 6  # a millionth of a degree is 11 cm

_NOT_OF_THE_WIRE = (
    "keys",
    "categories",
    "label",
    "outcome_time",
    "outcome_source",
    "labels",
    "columns",
    "encoding",
    "decimal",
)
"""What two schemas that read the same transactions may have otherwise; keys and categories together are the same."""

_encode = msgspec.json.Encoder(enc_hook=encoded_unsealed).encode


def _written(value: object) -> str:
    """A value as one writes it in Python; of a long one, its begin."""
    return f'"{value}"' if isinstance(value, str) else quoted(repr(value))[1:-1]


_NEGATIVE = "Expected an amount from 0 on; a detector takes those below 0 with Schema(negative_amounts=True)"


class Misfit(NamedTuple):
    """A stored transaction that is not as the schema would accept it now: its place among others, and what is wrong."""

    place: int
    why: str


class Restored(NamedTuple):
    """Stored transactions that could be read again, with their `places` among all of them, and the misfits.

    A misfit whose texts are only longer than what is accepted is among the transactions all the same.
    """

    transactions: list[Transaction]
    places: Sequence[int]
    misfits: list[Misfit]


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True, omit_defaults=True):
    """The fields of one kind of transaction. Field names are the names on the wire and in files.

    - `negative_amounts`: whether the amount may be below 0, as that of a refund; it is refused else.
    - `keys`: texts that windows are counted by (card, merchant, device). They serve as categories too.
    - `categories`: texts, whole numbers or booleans with few values.
    - `numbers`: plain numbers, handed to the model as they are.
    - `exact`: further numbers that windows add up, with how many decimals each has (`{"value": 0}`).
    - `times`: further instants, such as when the account was opened, for `seconds_between`. They may lie before 1970.
    - `place`: latitude and longitude in degrees.
    - `optional`: fields that may be absent, null or an empty text, but for the amount. A missing id is assigned on
      arrival: a repeated request is a new transaction then. A missing time is that of its decision.
    - `rounded`: exact numbers that are rounded to their decimals, where others are refused with more of them.
    - `ranges`: the least and greatest accepted value of a number.
    - `max_ahead`: how far an event's own time may be ahead of its arrival; windows and the like count it no later. Keep
      it shorter than the windows: an event counted ahead moves its key's clock, and the next ones count there too.
    - `max_late`: how much longer than its windows a key is remembered after its last transaction, for what comes late.
    - `secret`: keys and categories that are a keyed hash from the moment they are read (see `events.secrets`).
    - `keep_digits`: card numbers of which the first six and the last four digits become further texts,
      `<field>_first6` and `<field>_last4`.  `keep_domain`: addresses whose domain becomes the text `<field>_domain`.
      They are taken before anything is hidden, and may be keys and categories of features.
    - `personal`: keys and categories that are secret too, each with the key that names whom it belongs to, as in
      `{"email": "card_id"}`: what they were is stored encrypted, and can be erased.
    - `events`: the kinds of context events, which are not decided and which features can count, each with the fields of
      a transaction that it carries, a key among them: `{"login": ("card_id", "device_id")}` (see `events.context`).
    - `tables`: reference tables, which a transaction is looked up in as it is taken in:
      `{"cards": LookupTable(by="card_id", columns={"limit": "amount"})}` makes the field `cards_limit`.
    - `not_card_numbers`: fields whose numbers of your own may look like card numbers, and stay.
    - `label`, `outcome_time`, `outcome_source`: columns of a history file; never accepted in a live transaction. In a
      file with the column `outcome_source`, labels of sources that the detector does not trust, or of none, do not
      count in fraud rates.
    - `labels`: what words of your own mean in a label, `{"chargeback": 1, "ok": 0}`; the usual ones are known.
    - `timezone`: where texts without an offset were written (`Europe/Madrid`), UTC else.  `time_format`: their form,
      where it is not ISO 8601 (`%m/%d/%Y %H:%M`).  `time_from`: when the numbers count seconds from, where they are no
      Unix numbers (`2017-12-01`). They hold for files and for what comes live.
    - `columns`: the column of a field in your files, `{"event_time": "tx_datetime"}`.  `encoding`: theirs, where it is
      not UTF-8 (`latin-1`).  `decimal`: `,` where numbers in them are written as `1.234,50`.
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
    times: tuple[str, ...] = ()
    place: tuple[str, str] | None = None
    optional: tuple[str, ...] = ()
    rounded: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = {}
    max_ahead: str = "1m"
    max_late: str = "1d"
    secret: tuple[str, ...] = ()
    keep_digits: tuple[str, ...] = ()
    keep_domain: tuple[str, ...] = ()
    personal: dict[str, str] = {}
    events: dict[str, tuple[str, ...]] = {}
    tables: dict[str, LookupTable] = {}
    not_card_numbers: tuple[str, ...] = ()
    label: str = "is_fraud"
    outcome_time: str | None = None
    outcome_source: str | None = None
    labels: dict[str, int] = {}
    timezone: str | None = None
    time_format: str | None = None
    time_from: str | None = None
    columns: dict[str, str] = {}
    encoding: str | None = None
    decimal: str = "."

    def __post_init__(self) -> None:
        self._check_types()
        looked_up = [f"{name}_{column}" for name, table in self.tables.items() for column in table.columns]
        fields = (*self.fields, *self.sealed.values(), *looked_up, self.label)
        doubled = sorted({name for name in fields if fields.count(name) > 1})
        if doubled:
            raise InvalidDefinition(f"schema: {', '.join(doubled)} declared twice; give each field one role")
        if HASHED_BEFORE in fields:
            raise InvalidDefinition(f"schema: {HASHED_BEFORE} is kept for what the former hash key made; rename it")
        for name in fields:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise InvalidDefinition(f"schema: {quoted(name)} is no field name; use letters, digits and _")
        self._refuse_unknown("optional", self.optional, self.fields)
        self._refuse_unknown("rounded", self.rounded, tuple(self.decimals))
        self._refuse_unknown("ranges", self.ranges, (*self.decimals, *self.numbers))
        for name, (least, most) in self.ranges.items():
            if not -math.inf < least <= most < math.inf:
                raise InvalidDefinition(f"schema: the range of {name} is {least} to {most}; give two finite numbers")
        # floats, as they come back from JSON: the fingerprint of a plan must not change on the way
        floats = {name: (float(least), float(most)) for name, (least, most) in self.ranges.items()}
        msgspec.structs.force_setattr(self, "ranges", floats)
        self._refuse_unknown("secret", self.secret, self.keys + self.categories)
        self._refuse_unknown("not_card_numbers", self.not_card_numbers, (self.id, *self.keys, *self.categories))
        self._refuse_unknown("personal", self.personal, self.keys + self.categories)
        self._refuse_unknown("personal", self.personal.values(), self.keys)
        nested = [subject for subject in self.personal.values() if subject in self.personal]
        if nested:
            raise InvalidDefinition(f"schema: {nested[0]} is personal and names a subject; name it by another key")
        self._refuse_unknown("keep_digits", self.keep_digits, self.keys + self.categories)
        self._refuse_unknown("keep_domain", self.keep_domain, self.keys + self.categories)
        self._check_events()
        self._check_tables()
        self._refuse_unknown("columns", self.columns, (*fields, *self.outcome_columns))
        if self.amount in self.optional:
            raise InvalidDefinition(f"schema: the amount {quoted(str(self.amount))} cannot be optional")
        for name, digits in self.decimals.items():
            if not 0 <= digits <= 6:
                raise InvalidDefinition(f"schema: {name} has {digits} decimals; 0 to 6 are possible")
        for word, meaning in self.labels.items():
            if meaning not in (0, 1):
                raise InvalidDefinition(
                    f"schema: the label {quoted(word)} is {meaning}; write 1 for fraud, 0 for legitimate"
                )
        if self.decimal not in (".", ","):
            raise InvalidDefinition(f"schema: decimal is {quoted(self.decimal)}; write . or ,")
        if self.encoding is not None and not is_encoding(self.encoding):
            raise InvalidDefinition(
                f"schema: encoding {quoted(self.encoding)} is no encoding of texts in files; write utf-8 or latin-1"
            )
        duration_us(self.max_ahead)
        duration_us(self.max_late)
        _ = self.time_form

    def _check_types(self) -> None:
        """Refuse a text where several are meant: `("card")` is no tuple, and its letters would be the fields."""
        for one in msgspec.structs.fields(self):
            value = getattr(self, one.name)
            if one.default == ():
                self._check_names(one.name, value)
            elif one.default_factory is dict and not isinstance(value, dict):
                raise InvalidDefinition(f"schema: {one.name} is {_written(value)}; write a dictionary, {{...}}")
        for kind, carried in self.events.items():
            self._check_names(f"events[{quoted(str(kind))}]", carried)
        if self.place is not None:
            self._check_names("place", self.place)

    def _check_names(self, what: str, names: object) -> None:
        if isinstance(names, str):
            raise InvalidDefinition(
                f"schema: {what} is the text {quoted(names)}, where a tuple is meant; "
                f"write ({_written(names)},) - a tuple of one has a comma"
            )
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise InvalidDefinition(f'schema: {what} is {_written(names)}; write a tuple of names, as in ("card",)')

    def _check_events(self) -> None:
        reserved = {KIND, EVENT_ID} & {self.time, *self.decimals, *self.numbers, *self.texts, self.label}
        if self.events and reserved:
            raise InvalidDefinition(f"schema: {min(reserved)} is a field of every context event; rename that field")
        if len(self.events) > MOST_KINDS:
            raise InvalidDefinition(f"schema: {len(self.events)} kinds of context events; {MOST_KINDS} are possible")
        for kind, carried in self.events.items():
            if not re.fullmatch(KIND_FORM, kind):
                raise InvalidDefinition(
                    f"schema: {quoted(kind)} cannot name a kind of events; use letters, digits and _"
                )
            self._refuse_unknown(f"events[{quoted(kind)}]", carried, self.carriable)
            if len(set(carried)) < len(carried):
                raise InvalidDefinition(f"schema: the event {kind} names a field twice")
            if not set(carried) & set(self.keys):
                raise InvalidDefinition(
                    f"schema: the event {kind} carries no key; name one of {', '.join(self.keys) or 'the keys'}"
                )
            for name, whose in self.personal.items():
                if name in carried and whose not in carried:
                    raise InvalidDefinition(
                        f"schema: the event {kind} carries {name}, which is personal, without {whose}, whose it is"
                    )
        # in one order, as their kinds are numbered: a schema that was written down may come back in another one
        msgspec.structs.force_setattr(self, "events", dict(sorted(self.events.items())))

    def _check_tables(self) -> None:
        if len(self.tables) > MOST_TABLES:
            raise InvalidDefinition(f"schema: {len(self.tables)} tables; {MOST_TABLES} are possible")
        for name, table in self.tables.items():
            if not re.fullmatch(TABLE_FORM, name):
                raise InvalidDefinition(f"schema: {quoted(name)} cannot name a table; use a-z, digits and _")
            self._refuse_unknown(f"tables[{quoted(name)}]", [table.by], self.keys + self.categories + self.taken)
            if table.ranges and table.by in self.hidden:
                raise InvalidDefinition(
                    f"schema: the table {name} has ranges of {table.by}, which is secret: its hash lies in none; look "
                    "up another field, such as the first digits that `keep_digits` keeps"
                )
            for column in table.columns:
                if column in (table.by, VALID_FROM, FIRST, LAST, self.label) or not re.fullmatch(COLUMN_FORM, column):
                    raise InvalidDefinition(
                        f"schema: {quoted(column)} cannot name a column of the table {name}; rows have fields of "
                        "their own, and names are letters, digits and _"
                    )
        msgspec.structs.force_setattr(self, "tables", dict(sorted(self.tables.items())))

    def _refuse_unknown(self, what: str, names: Any, known: tuple[str, ...]) -> None:
        strangers = [name for name in names if name not in known]
        if strangers:
            raise InvalidDefinition(f"schema: {what} names {', '.join(strangers)}, which is not declared")

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Every number kept exactly -> its decimals; the amount comes first."""
        place = dict.fromkeys(self.place or (), PLACE_DECIMALS)
        return {self.amount: self.amount_decimals} | self.exact | place

    @property
    def carriable(self) -> tuple[str, ...]:
        """The fields that a context event may carry."""
        return (*self.keys, *self.categories, *self.decimals, *self.numbers)

    @cached_property
    def looked_up(self) -> dict[str, str]:
        """Every field that comes from a table -> the type of its column."""
        tables = sorted(self.tables.items())
        return {f"{name}_{column}": kind for name, table in tables for column, kind in table.columns.items()}

    def _looked_up_as(self, kind: str) -> tuple[str, ...]:
        return tuple(name for name, one in self.looked_up.items() if one == kind)

    @cached_property
    def exact_numbers(self) -> dict[str, int]:
        """Every number that windows can add up -> its decimals: the exact ones, and the amounts of tables."""
        return self.decimals | dict.fromkeys(self._looked_up_as("amount"), self.amount_decimals)

    @cached_property
    def instants(self) -> tuple[str, ...]:
        """Every further instant: the times, and those of tables."""
        return self.times + self._looked_up_as("time")

    @cached_property
    def whole_numbers(self) -> dict[str, int]:
        """Every field that the kernel reads as a whole number -> its decimals; instants count microseconds."""
        return self.exact_numbers | dict.fromkeys(self.instants, 0)

    @cached_property
    def plain_numbers(self) -> tuple[str, ...]:
        """Every number that the kernel reads as it is: the plain ones, and those of tables."""
        return self.numbers + self._looked_up_as("number")

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Every field that is text inside: keys, then categories, what is taken from them, and what tables say."""
        return self.keys + self.categories + self.taken + self._looked_up_as("category")

    @cached_property
    def followed(self) -> tuple[str, ...]:
        """The texts that features can follow on their own."""
        return self.keys + self.taken + self._looked_up_as("category")

    @cached_property
    def hidden(self) -> tuple[str, ...]:
        """Texts that are a keyed hash: the secret and the personal ones."""
        return self.secret + tuple(name for name in self.personal if name not in self.secret)

    @cached_property
    def sealed(self) -> dict[str, str]:
        """Personal field -> the further field that keeps it encrypted: it is stored, and no one else reads it."""
        return {name: f"{name}_sealed" for name in self.personal}

    @cached_property
    def kept_digits(self) -> dict[str, tuple[str, str]]:
        """Field -> the texts of its first six and its last four digits."""
        return {name: (f"{name}_first6", f"{name}_last4") for name in self.keep_digits}

    @cached_property
    def kept_domains(self) -> dict[str, str]:
        """Field -> the text of its domain."""
        return {name: f"{name}_domain" for name in self.keep_domain}

    def fields_of(self, event: str) -> tuple[str, ...]:
        """What a kind of context events has beside its id and time: what it carries, and what is taken from that."""
        carried = self.events[event]
        parts = [part for name in carried for part in self.kept_digits.get(name, ())]
        return (*carried, *parts, *(self.kept_domains[name] for name in carried if name in self.kept_domains))

    @cached_property
    def taken(self) -> tuple[str, ...]:
        """The texts that are taken from other fields as a transaction is read."""
        return (*chain.from_iterable(self.kept_digits.values()), *self.kept_domains.values())

    @cached_property
    def may_lack(self) -> tuple[str, ...]:
        """Fields that may be absent or null: the optional ones, and what is made from others or looked up."""
        return (*self.optional, *self.taken, *self.sealed.values(), *self.looked_up)

    @cached_property
    def searched(self) -> tuple[str, ...]:
        """The texts that card numbers are looked for in."""
        apart = (*self.hidden, *self.not_card_numbers, *chain.from_iterable(self.kept_digits.values()))
        return tuple(name for name in (self.id, *self.keys, *self.categories, *self.taken) if name not in apart)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Every field of a live transaction that comes with it or is taken from it."""
        texts = self.keys + self.categories + self.taken
        return (self.id, self.time, *self.decimals, *self.times, *self.numbers, *texts)

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """Every field that features are made of, in the order of the columns: id, time, numbers, texts."""
        return (self.id, self.time, *self.whole_numbers, *self.plain_numbers, *self.texts)

    @property
    def outcome_columns(self) -> tuple[str, ...]:
        """The columns of a history that say more about its labels."""
        return tuple(name for name in (self.outcome_time, self.outcome_source) if name is not None)

    @cached_property
    def assigns(self) -> bool:
        """Whether a transaction may come without an id."""
        return self.id in self.optional

    @cached_property
    def checked_decimals(self) -> dict[str, int]:
        """Exact numbers that are refused with more decimals. A place is rounded: no one means eleven centimetres."""
        rounded = (*self.rounded, *(self.place or ()))
        return {name: digits for name, digits in self.decimals.items() if name not in rounded}

    @cached_property
    def wire_type(self) -> type[Transaction]:
        """The msgspec struct of one transaction."""
        texts = self.keys + self.categories + self.taken
        empty = {name: TEXT_OR_EMPTY if name in self.may_lack else TEXT for name in texts}
        kinds = {name: one | int if name in self.keys else one | bool | int for name, one in empty.items()}
        an_id = ID_OR_EMPTY if self.id in self.optional else ID
        an_instant = str | int | float
        return self._struct({self.id: an_id | int, self.time: an_instant}, dict.fromkeys(self.times, an_instant), kinds)

    @cached_property
    def _stored_type(self) -> type[Transaction]:
        """The same as it was kept, with texts of any length: every version accepted the same numbers."""
        times = dict.fromkeys(self.times, int)
        texts = dict.fromkeys(self.keys + self.categories + self.taken, str)
        return self._struct({self.id: str, self.time: int}, times, texts)

    def _struct(self, first: dict[str, Any], times: dict[str, Any], texts: dict[str, Any]) -> type[Transaction]:
        sealed = dict.fromkeys(self.sealed.values(), str)
        looked_up = {name: COLUMN_TYPES[kind] for name, kind in self.looked_up.items()}
        return struct_of(first | self._number_types | times | texts | sealed | looked_up, self.may_lack)

    @cached_property
    def _number_types(self) -> dict[str, Any]:
        return {name: self._number_type(name) for name in (*self.decimals, *self.numbers)}

    def _number_type(self, name: str) -> Any:
        limits = self.limits(name)
        return float if limits is None else Annotated[float, msgspec.Meta(ge=limits[0], le=limits[1])]

    def limits(self, name: str) -> tuple[float, float] | None:
        """Least and greatest accepted value of a number, or None where any will do."""
        if name not in self.decimals:
            return self.ranges.get(name, (-LARGEST_NUMBER, LARGEST_NUMBER))
        limit = float(MINOR_LIMIT // 10 ** self.decimals[name])  # sums of windows stay exact
        if name in self.ranges:
            least, most = self.ranges[name]
            return max(least, -limit), min(most, limit)
        if self.place and name in self.place:
            return (-90.0, 90.0) if name == self.place[0] else (-180.0, 180.0)
        signed = self.negative_amounts or name != self.amount
        return (-limit if signed else 0.0, limit)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Transaction]:
        return msgspec.json.Decoder(self.wire_type)

    @cached_property
    def _array_decoder(self) -> msgspec.json.Decoder[list[Transaction]]:
        return msgspec.json.Decoder(list[self.wire_type])  # type: ignore[name-defined]

    def reads_alike(self, other: "Schema") -> bool:
        """Whether both read the same transactions, live and from the log; features and files may take them differently.

        A field that is a key for one may be a category for the other.

        >>> one, other = Schema(keys=("card",), categories=("shop",)), Schema(keys=("shop", "card"))
        >>> one.reads_alike(other), one.reads_alike(Schema(keys=("card",)))
        (True, False)
        """
        texts, others = (set(one.keys + one.categories) for one in (self, other))
        wire = (name for name in self.__struct_fields__ if name not in _NOT_OF_THE_WIRE)
        return texts == others and all(getattr(self, name) == getattr(other, name) for name in wire)

    def make_ready(self) -> None:
        """Make the types and the decoder now, in one thread, before several use them."""
        _ = (self._decoder, self._array_decoder, self.assigns, self.normalise)

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> Transaction:
        """One transaction from its JSON bytes. Raises InvalidInput that names the field and what it expects.

        An optional id that is missing stays None until `assign`, an optional time until the transaction is sifted, and
        secrets are still to be hidden: what is read from outside is read by a `TransactionReader`.
        """
        try:
            transaction = read_json(self._decoder.decode, raw, self.fields)
        except InvalidInput as error:
            of_amount = error.path == f"$.{self.amount}" and ">= 0.0" in str(error)
            if of_amount and not self.negative_amounts and self.amount not in self.ranges:
                raise InvalidInput(_NEGATIVE, error.path) from None
            raise
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
        """Brings the time to microseconds and the texts to text, in place; checks lengths and decimals."""
        return normaliser(self.id, self.time, self.times, self.texts, self.checked_decimals, self.time_form)

    @cached_property
    def time_form(self) -> TimeForm:
        """How times are written."""
        form = TimeForm.of(self.timezone, self.time_format, self.time_from)
        return USUAL if form == USUAL else form

    def assign(self, transaction: Transaction, new_id: str) -> None:
        """Give a decoded transaction an id where it has none, in place.

        Needed only where `assigns` is set, and before anything else reads the transaction.

        >>> schema = Schema(optional=("transaction_id",))
        >>> transaction = schema.decode(b'{"amount": 1.5, "event_time": 1735689600}')
        >>> schema.assign(transaction, "a7")
        >>> schema.encode(transaction)
        b'{"event_time":1735689600000000,"amount":1.5,"transaction_id":"a7"}'
        """
        if getattr(transaction, self.id) is None:
            setattr(transaction, self.id, new_id)

    def encode(self, transaction: Transaction) -> bytes:
        """The canonical bytes of a decoded transaction: equal content gives equal bytes."""
        return _encode(transaction)

    def is_same(
        self, stored: bytes, content: bytes, ignoring: str | None = None, hash_keys: Set[str] | None = None
    ) -> bool:
        """Whether two contents are of the same transaction: it may be sealed, or hashed, with another key.

        What was looked up in tables does not count: it is not what was sent.

        Exact numbers are compared as whole multiples of their last decimal, which is what features take: 0.3 and
        0.30000000000000004 are one amount. `ignoring` names a field that does not count. What was hashed with keys that
        have nothing in common cannot be told apart, and counts as the same: `hash_keys` are the numbers of the keys
        that may have, None where any may.

        >>> Schema().is_same(b'{"amount":0.3}', b'{"amount":0.30000000000000004}')
        True
        """
        if stored == content:
            return True
        one, other = (msgspec.json.decode(text, type=dict[str, Any]) for text in (stored, content))
        before, other_before = (fields.pop(HASHED_BEFORE, {}) for fields in (one, other))
        for name in self.looked_up:
            one.pop(name, None)
            other.pop(name, None)
        return one.keys() == other.keys() and all(
            value == other[name]
            or name == ignoring
            or name in self.sealed.values()
            or self._is_one_number(name, value, other[name])
            or _are_of_one_text(
                {value, before.get(name, value)}, {other[name], other_before.get(name, other[name])}, hash_keys
            )
            for name, value in one.items()
        )

    def _is_one_number(self, name: str, value: Any, other: Any) -> bool:
        if name not in self.decimals or value is None or other is None:
            return False
        scale = 10 ** self.decimals[name]
        return bool(round(value * scale) == round(other * scale))

    def restore(self, content: bytes) -> Transaction:
        """The transaction that `encode` wrote; its time already counts microseconds."""
        return self._decoder.decode(content)

    def restore_all(self, contents: Sequence[bytes]) -> list[Transaction]:
        """The same for several at once, at half the price. Raises msgspec.ValidationError when one does not fit."""
        return self._array_decoder.decode(b"[%b]" % b",".join(contents))

    def restore_fitting(self, contents: Sequence[bytes]) -> Restored:
        """The transactions among these that can be read, and which are not as the schema would accept them."""
        try:
            return Restored(self.restore_all(contents), range(len(contents)), [])
        except msgspec.MsgspecError:
            pass
        found = Restored([], places := [], [])
        for place, content in enumerate(contents):
            try:
                found.transactions.append(self._restored(content, place, found.misfits))
                places.append(place)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # it is among the misfits
        return found

    def _restored(self, content: bytes, place: int, misfits: list[Misfit]) -> Transaction:
        try:
            return self.restore(content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            misfits.append(Misfit(place, str(error)))
            return msgspec.json.decode(content, type=self._stored_type)


def _are_of_one_text(names: set[Any], others: set[Any], hash_keys: Set[str] | None) -> bool:
    """Whether two values may be of the same text, each as it is and, if it is known, as the former key hashed it."""
    if names & others:
        return True
    pairs = [(one, other) for one in names for other in others]
    return all(isinstance(a, str) and isinstance(b, str) and differ_in_keys_only(a, b, hash_keys) for a, b in pairs)
