"""How the pages write things: money, shares, times, cards and actions."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sentinel.events.card_numbers import replace_card_numbers
from sentinel.events.secrets import is_hidden
from sentinel.policy.model_call import CIRCUIT_OPEN, FAILED, FALLBACK_ONLY, OVERLOADED, TOO_SLOW
from sentinel.policy.thresholds import Action

ACTIONS = ("approve", "challenge", "review", "block")
_THIN = "\u202f"  # a narrow space that does not break: between a number and its sign
_HIDDEN_SHOWN = 8
_DECIDERS = {
    "model": "the model", "rules": "the detector's own rules", "on_fault": "what the detector answers without a model",
}  # fmt: skip
_FAULTS = {
    CIRCUIT_OPEN: "it had failed or been slow too often, and had a pause",
    TOO_SLOW: "it took longer than it may",
    FAILED: "it broke down",
    OVERLOADED: "there were more payments than it could answer in time",
    FALLBACK_ONLY: "somebody has switched it off",
}


def action_name(action: str) -> str:
    """An action as a word."""
    return {"allow": "Approve"}.get(action, action.capitalize())


def number(value: float | None, digits: int = 0) -> str:
    """A number with groups of three digits.

    >>> number(1234.5, 1), number(None), number(float("nan"))
    ('1,234.5', '\u2013', '\u2013')
    """
    if value is None or not math.isfinite(value):
        return "\u2013"
    return f"{value:,.{digits}f}"


def share(value: float | None, digits: int = 2) -> str:
    """A share between 0 and 1 in percent.

    >>> share(0.0031), share(1.0, 0)
    ('0.31\u202f%', '100\u202f%')
    """
    return "\u2013" if value is None or not math.isfinite(value) else f"{value * 100:.{digits}f}{_THIN}%"


def money(text: str | None, currency: str | None = None) -> str:
    """An exact amount, as the server writes it, with groups of three digits, and its currency where that is known.

    >>> money("1234567.80"), money("-0.05", "EUR"), money(None)
    ('1,234,567.80', '-0.05\u202fEUR', '\u2013')
    """
    return "\u2013" if text is None else f"{Decimal(text):,}{in_currency(currency)}"


def in_currency(currency: str | None) -> str:
    """What stands behind an amount; nothing where its currency is not known.

    >>> in_currency("EUR"), in_currency(None)
    ('\u202fEUR', '')
    """
    return f"{_THIN}{currency}" if currency else ""


def asked_by(why: str) -> str:
    """What has asked for a person, of a case: the decision itself, or a rule that watches.

    >>> asked_by("review"), asked_by("rule night")
    ('was to be reviewed', 'rule night')
    """
    return "was to be reviewed" if why == Action.REVIEW else why


def fault_words(reason: str) -> str:
    """Why a model did not decide, for people.

    >>> fault_words("overloaded"), fault_words("circuit open")
    ('there were more payments than it could answer in time', 'it had failed or been slow too often, and had a pause')
    """
    return _FAULTS.get(reason, reason)


def decided_by_words(decided_by: str, rules: Sequence[str] = ()) -> str:
    """Who decided, in words; `rules` are those in force that made it another action than without them.

    >>> decided_by_words("model"), decided_by_words("model", ["night"]), decided_by_words("rules", ["a", "b"])
    ('the model', 'rule night, over the model', "rules a, b, over the detector's own rules")
    """
    score = _DECIDERS.get(decided_by, decided_by)
    return f"{'rule' if len(rules) == 1 else 'rules'} {', '.join(rules)}, over {score}" if rules else score


def digits_of(value: float | None) -> str:
    """A threshold to be changed, with four digits that count; whole ones are on the receipts.

    >>> digits_of(0.012345678901234567), digits_of(0.5), digits_of(None)
    ('0.01235', '0.5', '')
    """
    return "" if value is None else f"{value:.4g}"


def basis_points(value: float | None) -> str:
    """A share in basis points, of which 100 are one percent.

    >>> basis_points(31.25), basis_points(0.0), basis_points(None)
    ('31.2\u202fbp', '0.0\u202fbp', '\u2013')
    """
    return "\u2013" if value is None else f"{value:,.1f}{_THIN}bp"


def probability(value: float | None) -> str:
    """A probability of fraud, so that no two that differ much look alike.

    >>> probability(0.97), probability(0.00042), probability(0.0)
    ('0.970', '0.0004', '0.000')
    """
    if value is None:
        return "\u2013"
    return f"{value:.4f}" if 0 < value < 0.01 else f"{value:.3f}"


def value_of(value: Any) -> str:
    """Any value of a field or a feature as a short text.

    >>> value_of(None), value_of(True), value_of(3.0), value_of(0.123456789), value_of("DE"), value_of(1e-9)
    ('missing', 'yes', '3', '0.1235', 'DE', '1e-09')
    """
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"
    return card(str(value))


def exact(value: Any) -> str:
    """A value of a transaction as it is.

    >>> exact(231.56), exact(12_345), exact(None), exact("c-17")
    ('231.56', '12,345', 'missing', 'c-17')
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,}" if is_number else value_of(value)


def card(text: str) -> str:
    """A text as people may see it: of a card number the first six and the last four digits, of a keyed hash its end.

    >>> card("4111111111111111"), card("c-17"), card("paid with 4111 1111 1111 1111")
    ('411111** **** 1111', 'c-17', 'paid with 411111** **** 1111')
    """
    if is_hidden(text):
        return f"hidden \u2026{text[-_HIDDEN_SHOWN:]}"
    return replace_card_numbers(text, lambda digits: f"{digits[:6]}** **** {digits[-4:]}")


def word_of(key: str) -> str:
    """The name of a key as a word.

    >>> word_of("card_id"), word_of("billing_zip")
    ('card', 'billing zip')
    """
    return key.removesuffix("_id").replace("_", " ")


def lasting(us: int) -> str:
    """A time that passed, in the largest unit of which there are two.

    >>> lasting(840_000_000), lasting(90_000_000), lasting(400_000_000_000)
    ('14 min', '90 s', '5 d')
    """
    for unit, of in (("d", 86_400e6), ("h", 3_600e6), ("min", 60e6)):
        if us >= 2 * of:
            return f"{us / of:.0f} {unit}"
    return f"{us / 1e6:.0f} s"


def instant(us: int) -> str:
    """Microseconds since 1970 as a browser reads them.

    >>> instant(0)
    '1970-01-01T00:00:00.000Z'
    """
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def size(n: float) -> str:
    """Bytes for people.

    >>> size(2_100_000_000), size(900)
    ('2.1 GB', '900 B')
    """
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= of:
            return f"{n / of:.1f} {unit}"
    return f"{n:.0f} B"
