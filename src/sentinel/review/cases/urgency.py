"""Urgency: in which order cases are worked on. The formula is here, and nowhere else.

    urgency = (expected loss + 1) x (1 + time it has waited / time it may take)

in the smallest unit of the amount. Expected loss is the sum over the payments of a case that nobody knows the outcome
of yet: fraud probability x amount. So a case that has used up its time counts twice, and at an equal loss the older one
comes first; the 1 has cases with nothing to lose wait in the order of their age, behind all others.
"""

from collections.abc import Iterable


def expected_loss(payments: Iterable[tuple[float, int]]) -> int:
    """The sum of (fraud probability, amount) of what is open, each rounded to a whole unit; refunds lose nothing.

    >>> expected_loss([(0.5, 10_000), (0.9, 999), (1.0, -500)])
    5899
    """
    return sum(max(round(probability * amount), 0) for probability, amount in payments)


def urgency(loss: int, opened_us: int, due_us: int, now_us: int) -> float:
    """The urgency of a case now; `due_us` is later than `opened_us`.

    >>> urgency(99, 0, 60, now_us=0), urgency(99, 0, 60, now_us=60)
    (100.0, 200.0)
    """
    return (loss + 1) * (1.0 + (now_us - opened_us) * 1.0 / (due_us - opened_us))
