"""What of a transaction is counted by day: its money in whole minor units, and its fields that have few values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from sentinel.events.schema import Schema

CURRENCY = "currency"
"""The category that says in which currency an amount is; without one all amounts are in the same."""

MOST_FIELDS, MOST_VALUES, MOST_CHARACTERS = 8, 100, 120
"""So many categories are counted, the first of the schema; so many values of each, the first that came; cut so long."""

LONGEST_NAME = 72
"""Characters of the name of a category that is counted; the tables have room for no more."""

MISSING, OTHER = "missing", "other"
"""Stored in the place of a value: there is none, or there were too many before it. Values begin with `=`."""

Combination = tuple[int, str, str, str, str, tuple[str, ...]]
"""Day (of Unix), action, model version, variant, unit of money, and the stored values of the fields."""


class Counted(msgspec.Struct, frozen=True):
    """What is counted of the transactions of a schema; no field that is secret or personal.

    `digits` is how many decimals an amount has. The unit of money that it makes is those, and the currency if there is
    one: `2 EUR`.
    """

    digits: int
    fields: tuple[str, ...]
    currency: str | None

    @classmethod
    def of(cls, schema: Schema) -> "Counted":
        """Of a schema."""
        hidden = {*schema.secret, *schema.personal}
        shown = [name for name in schema.categories if name not in hidden and len(name) <= LONGEST_NAME]
        return cls(schema.amount_decimals, tuple(shown[:MOST_FIELDS]), CURRENCY if CURRENCY in shown else None)

    @property
    def read(self) -> tuple[str, ...]:
        """All fields that are looked at."""
        more = () if self.currency is None or self.currency in self.fields else (self.currency,)
        return (*self.fields, *more)

    def unit(self, currency: Any) -> str:
        """The unit of an amount, from the value of the currency's field.

        >>> Counted(2, (), None).unit(None), Counted(0, (), "currency").unit("JPY")
        ('2', '0 JPY')
        """
        return str(self.digits) if self.currency is None or not currency else f"{self.digits} {stored(currency)[1:9]}"

    def minor(self, amount: float | None) -> int:
        """An amount in whole minor units; 0 of one that is not known.

        >>> Counted(2, (), None).minor(12.34), Counted(0, (), None).minor(-1_200.0)
        (1234, -1200)
        """
        return 0 if amount is None else round(amount * 10**self.digits)

    def combine(
        self, day: int, actions: Iterable[str], versions: Iterable[str], variants: Iterable[str | None],
        amounts: Sequence[float | None], columns: Mapping[str, Sequence[Any]],
        into: dict[Combination, list[int]],
    ) -> None:  # fmt: skip
        """Add how many there are of each combination, and how much money; `columns` has the values of `read`."""
        fields = [list(map(stored, columns[name])) for name in self.fields]
        values: Iterable[tuple[str, ...]] = zip(*fields, strict=True) if fields else [()] * len(amounts)
        money = [None] * len(amounts) if self.currency is None else columns[self.currency]
        units = {one: self.unit(one) for one in set(money)}
        for action, version, variant, amount, currency, seen in zip(
            actions, versions, variants, amounts, money, values, strict=True
        ):
            unit = "" if amount is None else units[currency]
            sums = into.setdefault((day, action, version, stored(variant), unit, seen), [0, 0])
            sums[0] += 1
            sums[1] += self.minor(amount)

    def combination(
        self, day: int, action: str, version: str, variant: str | None, amount: float | None, fields: Mapping[str, Any]
    ) -> Combination:
        """That of one transaction, from its fields as they are stored."""
        unit = "" if amount is None else self.unit(fields.get(self.currency) if self.currency else None)
        return day, action, version, stored(variant), unit, tuple(stored(fields.get(name)) for name in self.fields)


def stored(value: Any) -> str:
    """A value as it is stored.

    >>> stored("DE"), stored(True), stored(7), stored(None), stored("")
    ('=DE', '=true', '=7', 'missing', 'missing')
    """
    if isinstance(value, str):
        return "=" + value[:MOST_CHARACTERS].replace("\x00", "\ufffd") if value else MISSING
    if value is None:
        return MISSING
    return f"={str(value).lower() if isinstance(value, bool) else value}"
