"""Figures of business from the sums of days: what fraud costs, what is saved, and who is disturbed for nothing.

Silence about what is mature and was not blocked counts as legitimate; of what was blocked only what was told is known.
"""

from collections.abc import Iterable, Sequence

import msgspec

from sentinel.policy.thresholds import Action
from sentinel.record.views import Summed

_APPROVE, _BLOCK = str(Action.APPROVE), str(Action.BLOCK)
_ORDER = (Action.APPROVE, Action.CHALLENGE, Action.REVIEW, Action.BLOCK)
BASIS_POINTS = 10_000


class MoneyFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Money in one currency, in whole minor units: 1234 with two `digits` is 12.34.

    - `volume`: of all decisions.  `approved`: of those that were approved.
    - `fraud`: of known frauds: `saved` were blocked, `held` were challenged or reviewed, `lost` were approved.
    - `fraud_bps`: fraud by volume, in basis points.  `lost_bps`: lost by approved.  None where there is no volume.
    """

    currency: str | None
    digits: int
    volume: int
    approved: int
    fraud: int
    saved: int
    held: int
    lost: int
    fraud_bps: float | None
    lost_bps: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, and what of it is known.

    - `actions`: how many got each.  `approval_rate`: the share that was approved.
    - `frauds`, `legitimate`: known by outcomes.  `silent`: mature, not blocked, nothing is known: taken as legitimate.
    - `fraud_bps`: known frauds by decisions, in basis points.
    - `false_alarms`: legitimate, told or silent, and not approved; `false_alarm_rate` is their share of all decisions.
    - `precision`: the share of frauds in what was not approved and is known.
    """

    decisions: int
    actions: dict[str, int]
    approval_rate: float | None
    frauds: int
    legitimate: int
    silent: int
    fraud_bps: float | None
    false_alarms: int
    false_alarm_rate: float | None
    precision: float | None
    money: list[MoneyFigures]


class ActionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How many got one action, and how many of those that are known were frauds."""

    action: str
    decisions: int
    frauds: int
    legitimate: int
    silent: int
    precision: float | None


class RuleFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How often a rule held, and how many of those that are known were frauds; a shadow decides nothing."""

    rule: str
    is_shadow: bool
    hits: int
    frauds: int
    legitimate: int
    silent: int
    precision: float | None


def figures_of(sums: Iterable[Summed]) -> Figures:
    """The figures of some sums together.

    >>> row = Summed(0, None, "2", "block", 3, 900, 2, 600, 1, 300, 0)
    >>> found = figures_of([row, row._replace(action="approve", frauds=0, fraud_money=0, silent=2)])
    >>> found.decisions, found.approval_rate, found.money[0].saved, found.false_alarms, round(found.precision, 3)
    (6, 0.5, 600, 1, 0.667)
    """
    rows = list(sums)
    decisions = sum(row.decisions for row in rows)
    actions = {str(one): sum(row.decisions for row in rows if row.action == one) for one in _ORDER}
    frauds, alarms = sum(row.frauds for row in rows), [row for row in rows if row.action != _APPROVE]
    false_alarms = sum(row.legitimate + row.silent for row in alarms)
    return Figures(
        decisions=decisions,
        actions=actions,
        approval_rate=share(actions[_APPROVE], decisions),
        frauds=frauds,
        legitimate=sum(row.legitimate for row in rows),
        silent=sum(row.silent for row in rows),
        fraud_bps=basis_points(frauds, decisions),
        false_alarms=false_alarms,
        false_alarm_rate=share(false_alarms, decisions),
        precision=precision_of(alarms),
        money=money_of(rows),
    )


def money_of(rows: Sequence[Summed]) -> list[MoneyFigures]:
    """The money of some sums, by currency; amounts that are not known are in none."""
    return [
        _money(unit, [row for row in rows if row.unit == unit]) for unit in sorted({row.unit for row in rows} - {""})
    ]


def _money(unit: str, rows: Sequence[Summed]) -> MoneyFigures:
    digits, currency = read_unit(unit)
    volume, approved = sum(row.money for row in rows), sum(row.money for row in rows if row.action == _APPROVE)
    fraud = sum(row.fraud_money for row in rows)
    saved, lost = (sum(row.fraud_money for row in rows if row.action == one) for one in (_BLOCK, _APPROVE))
    return MoneyFigures(
        currency=currency, digits=digits, volume=volume, approved=approved, fraud=fraud, saved=saved,
        held=fraud - saved - lost, lost=lost, fraud_bps=basis_points(fraud, volume),
        lost_bps=basis_points(lost, approved),
    )  # fmt: skip


def action_figures(rows: Sequence[Summed]) -> list[ActionFigures]:
    """By action."""
    by_action = [(str(one), [row for row in rows if row.action == one]) for one in _ORDER]
    return [
        ActionFigures(
            action=action, decisions=sum(row.decisions for row in some), frauds=sum(row.frauds for row in some),
            legitimate=sum(row.legitimate for row in some), silent=sum(row.silent for row in some),
            precision=precision_of(some),
        )
        for action, some in by_action
    ]  # fmt: skip


def rule_figures(rows: Sequence[Summed], *, is_shadow: bool) -> list[RuleFigures]:
    """By rule, what held most often first."""
    names = {row.value for row in rows if row.value is not None}
    found = []
    for name in names:
        some = [row for row in rows if row.value == name]
        found.append(
            RuleFigures(
                rule=name.removeprefix("="), is_shadow=is_shadow, hits=sum(row.decisions for row in some),
                frauds=sum(row.frauds for row in some), legitimate=sum(row.legitimate for row in some),
                silent=sum(row.silent for row in some), precision=precision_of(some),
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (-one.hits, one.rule))


def precision_of(rows: Iterable[Summed]) -> float | None:
    """The share of frauds in what is known; None where nothing is."""
    some = list(rows)
    frauds = sum(row.frauds for row in some)
    return share(frauds, frauds + sum(row.legitimate + row.silent for row in some))


def read_unit(unit: str) -> tuple[int, str | None]:
    """Decimals and currency of a unit of money.

    >>> read_unit("2 EUR"), read_unit("0")
    ((2, 'EUR'), (0, None))
    """
    digits, _, currency = unit.partition(" ")
    return int(digits), currency or None


def money_text(minor: int, digits: int, currency: str | None) -> str:
    """Money for people, by whole numbers alone.

    >>> money_text(123456, 2, "EUR"), money_text(-5, 2, None), money_text(1200, 0, "JPY")
    ('1,234.56 EUR', '-0.05', '1,200 JPY')
    """
    whole, rest = divmod(abs(minor), 10**digits)
    text = f"{'-' if minor < 0 else ''}{whole:,}" + (f".{rest:0{digits}}" if digits else "")
    return text if currency is None else f"{text} {currency}"


def share(part: int, whole: int) -> float | None:
    """A share; None of nothing."""
    return part / whole if whole else None


def basis_points(part: int, whole: int) -> float | None:
    """A share in basis points, of which 100 are one percent; None of nothing, and of what is below it (refunds)."""
    return part / whole * BASIS_POINTS if whole > 0 else None
