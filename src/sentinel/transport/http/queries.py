"""Queries: what comes after the `?` of an address."""

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import quoted

_MOST_DIGITS = 18  # fit into 63 bits
_SHOWN = 40


def whole_number(text: str, name: str) -> int:
    """The number that is given as `name`. Raises InvalidInput for what is none, or is above any that there could be."""
    if not text.isascii() or not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise InvalidInput(
            f"Expected a whole number of at most {_MOST_DIGITS} digits, got {quoted(text, _SHOWN)}", f"$.{name}"
        )
    return int(text)
