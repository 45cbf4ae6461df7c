"""Likeness: how much two cases have in common, as a number that can be explained.

Each case has signs: the rules that held, the features that spoke for fraud, and how large its largest payment is. Two
cases are as alike as the share of their signs that both have (Jaccard, Étude comparative de la distribution florale,
1901): 1 when all are the same, 0 when none is.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

MOST_FEATURES = 5
"""Features of a decision that are signs: those that spoke for fraud most."""

RULE, FEATURE, AMOUNT = "rule ", "feature ", "amount of "


class Alike(NamedTuple):
    """A case that is like another one: how much, and by which signs."""

    number: int
    likeness: float
    shared: Sequence[str]


def signs_of_rules(names: Iterable[str]) -> set[str]:
    """The signs of rules that held."""
    return {f"{RULE}{name}" for name in names}


def signs_of_reasons(why: Mapping[str, Any]) -> set[str]:
    """The signs of an `Explanation` as plain data.

    >>> sorted(signs_of_reasons({"reasons": [{"feature": "a", "contribution": 2.0},
    ...                                      {"feature": "b", "contribution": -1.0}]}))
    ['feature a']
    """
    spoke = [one for one in why.get("reasons", ()) if one["contribution"] > 0]
    strongest = sorted(spoke, key=lambda one: -one["contribution"])[:MOST_FEATURES]
    return {f"{FEATURE}{one['feature']}" for one in strongest}


def sign_of_amount(amount: int, decimals: int) -> str:
    """The sign of the largest payment: the number of digits before its point.

    >>> sign_of_amount(12_345, 2), sign_of_amount(99, 2)
    ('amount of 3 digits', 'amount of 1 digits')
    """
    return f"{AMOUNT}{len(str(abs(amount) // 10**decimals))} digits"


def likeness(one: Set[str], other: Set[str]) -> float:
    """The share of the signs of two cases that both have.

    >>> likeness({"a", "b"}, {"b", "c"})
    0.3333333333333333
    """
    return len(one & other) / len(one | other) if one or other else 0.0


def most_alike(signs: Set[str], others: Mapping[int, Set[str]], most: int) -> list[Alike]:
    """Those of the others that share something, the most alike first, then the newest."""
    found = [Alike(number, likeness(signs, of), sorted(signs & of)) for number, of in others.items() if signs & of]
    return sorted(found, key=lambda one: (-one.likeness, -one.number))[:most]
