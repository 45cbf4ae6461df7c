"""Queries: what comes after the `?` of an address."""

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import quoted
from sentinel.events.wire import read_json

_MOST_DIGITS = 18  # fit into 63 bits
_SHOWN = 40
_read_fields = msgspec.json.Decoder(dict[str, str | int | float | bool]).decode


def asked_in(body: bytes) -> dict[str, str]:
    """A body with the fields of a query, as the query would have them. Raises InvalidInput.

    >>> asked_in(b'{"card_id": "c-1", "limit": 5, "degraded": true}')
    {'card_id': 'c-1', 'limit': '5', 'degraded': 'true'}
    """
    found: dict[str, str | int | float | bool] = read_json(_read_fields, body or b"{}")
    return {name: str(one).lower() if isinstance(one, bool) else str(one) for name, one in found.items()}


def whole_number(text: str, name: str) -> int:
    """The number that is given as `name`. Raises InvalidInput for what is none, or is above any that there could be."""
    if not text.isascii() or not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise InvalidInput(
            f"Expected a whole number of at most {_MOST_DIGITS} digits, got {quoted(text, _SHOWN)}", f"$.{name}"
        )
    return int(text)
