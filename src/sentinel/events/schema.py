"""The schema: which fields a transaction has, and how one is read from bytes."""

import math
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import quoted
from sentinel.events.secrets import differ_in_keys_only
from sentinel.events.times import duration_us
from sentinel.events.wire import HASHED_BEFORE, ID, TEXT, Transaction, normaliser, read_json, struct_of

MINOR_LIMIT = 10**12  # keeps n * sum(x^2) of any window inside 128 bits
PLACE_DECIMALS = 6  # a millionth of a degree is 11 cm

_encode = msgspec.json.Encoder().encode


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
    - `secret`: keys and categories that are a keyed hash from the moment they are read (see `events.secrets`).
    - `keep_digits`: secret fields of which the first six and the last four digits are kept, as the further texts
      `<field>_first6` and `<field>_last4`.
    - `personal`: keys and categories that are secret too, each with the key that names whom it belongs to, as in
      `{"email": "card_id"}`: what they were is stored encrypted, and can be erased.
    - `not_card_numbers`: fields whose numbers of your own may look like card numbers, and stay.
    - `label`, `outcome_time`, `outcome_source`: columns of a history file; never accepted in a live transaction. In a
      file with the column `outcome_source`, labels of sources that the detector does not trust, or of none, do not
      count in fraud rates.
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
    secret: tuple[str, ...] = ()
    keep_digits: tuple[str, ...] = ()
    personal: dict[str, str] = {}
    not_card_numbers: tuple[str, ...] = ()
    label: str = "is_fraud"
    outcome_time: str | None = None
    outcome_source: str | None = None
    columns: dict[str, str] = {}

    def __post_init__(self) -> None:
        fields = (self.id, self.time, *self.decimals, *self.numbers, *self.texts, *self.sealed.values(), self.label)
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
        open_ones = [name for name in self.keep_digits if name not in self.secret]
        if open_ones:
            raise InvalidDefinition(
                f"schema: keep_digits names {', '.join(open_ones)}, which is not secret; declare it secret as well"
            )
        self._refuse_unknown("columns", self.columns, (*fields, *self.outcome_columns))
        if self.amount in self.optional:
            raise InvalidDefinition(f"schema: the amount {quoted(str(self.amount))} cannot be optional")
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
        """Every field that is text inside: keys, then categories, then the digits that are kept of secrets."""
        return self.keys + self.categories + tuple(chain.from_iterable(self.kept_digits.values()))

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
        """Secret field -> the fields of its first six and its last four digits."""
        return {name: (f"{name}_first6", f"{name}_last4") for name in self.keep_digits}

    @cached_property
    def may_lack(self) -> tuple[str, ...]:
        """Fields that may be absent or null: the optional ones, and what is kept of secrets."""
        return self.optional + tuple(chain.from_iterable(self.kept_digits.values())) + tuple(self.sealed.values())

    @cached_property
    def searched(self) -> tuple[str, ...]:
        """The texts that card numbers are looked for in."""
        kept = chain.from_iterable(self.kept_digits.values())
        return tuple(
            name for name in (self.id, *self.texts) if name not in (*self.hidden, *self.not_card_numbers, *kept)
        )

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Every field of a live transaction, in the order of the wire struct."""
        return (self.id, self.time, *self.decimals, *self.numbers, *self.texts)

    @property
    def outcome_columns(self) -> tuple[str, ...]:
        """The columns of a history that say more about its labels."""
        return tuple(name for name in (self.outcome_time, self.outcome_source) if name is not None)

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
        texts = {name: TEXT | int if name in self.keys else TEXT | bool | int for name in self.texts}
        return self._struct({self.id: ID | int, self.time: str | int | float}, texts)

    @cached_property
    def _stored_type(self) -> type[Transaction]:
        """The same as it was kept, with texts of any length: every version accepted the same numbers."""
        return self._struct({self.id: str, self.time: int}, dict.fromkeys(self.texts, str))

    def _struct(self, first: dict[str, Any], texts: dict[str, Any]) -> type[Transaction]:
        sealed = dict.fromkeys(self.sealed.values(), str)
        return struct_of(first | self._number_types | texts | sealed, self.may_lack)

    @cached_property
    def _number_types(self) -> dict[str, Any]:
        return {name: self._number_type(name) for name in (*self.decimals, *self.numbers)}

    def _number_type(self, name: str) -> Any:
        limits = self.limits(name)
        return float if limits is None else Annotated[float, msgspec.Meta(ge=limits[0], le=limits[1])]

    def limits(self, name: str) -> tuple[float, float] | None:
        """Least and greatest accepted value of a number, or None where any will do."""
        if name not in self.decimals:
            return self.ranges.get(name)
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

    def make_ready(self) -> None:
        """Make the types and the decoder now, in one thread, before several use them."""
        _ = (self._decoder, self._array_decoder, self.assigns, self.normalise)

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> Transaction:
        """One transaction from its JSON bytes. Raises InvalidInput that names the field and what it expects.

        An optional id or time that is missing stays None until `assign`, and secrets are still to be hidden: what is
        read from outside is read by a `TransactionReader`.
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
        """Brings the time to microseconds and the texts to text, in place; checks lengths and decimals."""
        return normaliser(self.id, self.time, self.texts, self.checked_decimals)

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

    def is_same(self, stored: bytes, content: bytes) -> bool:
        """Whether two contents are of the same transaction: it may be sealed, or hashed, with another key.

        What was hashed with keys that have nothing in common cannot be told apart, and counts as the same.
        """
        if stored == content:
            return True
        one, other = (msgspec.json.decode(text, type=dict[str, Any]) for text in (stored, content))
        before, other_before = (fields.pop(HASHED_BEFORE, {}) for fields in (one, other))
        return one.keys() == other.keys() and all(
            value == other[name]
            or name in self.sealed.values()
            or _are_of_one_text({value, before.get(name, value)}, {other[name], other_before.get(name, other[name])})
            for name, value in one.items()
        )

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


def _are_of_one_text(names: set[Any], others: set[Any]) -> bool:
    """Whether two values may be of the same text, each as it is and, if it is known, as the former key hashed it."""
    if names & others:
        return True
    pairs = [(one, other) for one in names for other in others]
    return all(isinstance(a, str) and isinstance(b, str) and differ_in_keys_only(a, b) for a, b in pairs)
