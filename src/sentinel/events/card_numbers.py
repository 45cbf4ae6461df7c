"""Card numbers: how they are recognised in texts, whoever put them there."""

import re
import unicodedata
from collections.abc import Callable, Iterator

SHORTEST, LONGEST = 12, 19
"""Digits of a card number."""

_BETWEEN = r"[\s\-\u00ad\u2010-\u2015\u2212\u200b-\u200d\u2060\ufeff]"  # spaces and dashes, also such as are not seen
_RUN = re.compile(rf"\d(?:{_BETWEEN}{{0,3}}\d){{{SHORTEST - 1},}}")
_SEPARATOR = re.compile(_BETWEEN)
_GROUP = re.compile(r"\d+")
_MACHINE_MADE = re.compile(  # UUIDs and hexadecimal ids and hashes: one in some thousands has such digits by chance
    r"(?<![0-9A-Za-z])(?:[0-9a-f]{24,}|[0-9A-F]{24,}"
    r"|(?=[0-9-]{0,35}[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})(?![0-9A-Za-z])"
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12,15}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|3(?:0[0-5]|[689]\d)\d{11,16}|3095\d{10,15}"  # Diners Club
    r"|(?:62|81)\d{14,17}"  # UnionPay
    r"|(?:50|5[6-9]|6\d)\d{10,17}"  # Maestro
)

_DIGITS = bytes.maketrans(b"123456789\\", b"000000000\xff")  # an escape may be a digit, as any other script may
_ENOUGH = b"0" * SHORTEST


def may_hold_card_number(raw: bytes) -> bool:
    """Whether JSON may hold one; quick, and never wrong when it says no.

    >>> may_hold_card_number(b'{"card_id": "4111 1111-11111111"}'), may_hold_card_number(b'{"amount": 12.5}')
    (True, False)
    """
    seen = raw.translate(_DIGITS, b" -\t")
    return _ENOUGH in seen or not seen.isascii()


def is_card_number(digits: str) -> bool:
    """Whether ASCII digits are a number of a card network: prefix, length and check digit (Luhn).

    >>> is_card_number("4111111111111111"), is_card_number("4111111111111112"), is_card_number("1111111111111117")
    (True, False, False)
    """
    if not SHORTEST <= len(digits) <= LONGEST or _NETWORKS.fullmatch(digits) is None:
        return False
    values = list(map(int, digits))
    return (sum(values[-1::-2]) + sum(_DOUBLED[one] for one in values[-2::-2])) % 10 == 0


def digits_of(text: str) -> str | None:
    """The digits of a text that has nothing but digits, spaces and dashes; None for any other text.

    >>> digits_of("4111-1111 1111 1111"), digits_of("card 7")
    ('4111111111111111', None)
    """
    found = text if text.isdecimal() else _SEPARATOR.sub("", text)
    if not found.isdecimal():
        return None
    return found if found.isascii() else "".join(str(unicodedata.decimal(one)) for one in found)


def replace_card_numbers(text: str, replace: Callable[[str], str]) -> str:
    """The text with `replace(digits)` in the place of every card number.

    Digits within a UUID, or a word of 24 or more hexadecimal digits and letters, are none.

    >>> replace_card_numbers("paid with 4111-1111 1111 1111, order 17", lambda digits: digits[-4:])
    'paid with 1111, order 17'
    """
    if len(text) < SHORTEST:
        return text
    parts, done = [], 0
    for begin, end, digits in _numbers_in(text):
        parts += [text[done:begin], replace(digits)]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def masked(text: str) -> str:
    """The text without the card numbers in it: for messages, and whatever else leaves the process.

    >>> masked("unknown field 4111111111111111")
    'unknown field [card number]'
    """
    return replace_card_numbers(text, lambda _: "[card number]")


def _numbers_in(text: str) -> Iterator[tuple[int, int, str]]:
    """The card numbers in a text, in order: where they begin and end, and their digits."""
    machine_made: list[tuple[int, int]] | None = None
    for run in _RUN.finditer(text):
        for begin, end, digits in _numbers_among(text, *run.span()):
            if machine_made is None:
                machine_made = [one.span() for one in _MACHINE_MADE.finditer(text)]
            if not any(first <= begin and end <= last for first, last in machine_made):
                yield begin, end, digits


def _numbers_among(text: str, begin: int, end: int) -> Iterator[tuple[int, int, str]]:
    """The same among the groups of digits in a part of a text."""
    groups = [(one.start(), one.end(), digits_of(one[0]) or "") for one in _GROUP.finditer(text, begin, end)]
    first = 0
    while first < len(groups):
        found = _longest_at(groups, first)
        if found is None:
            first += 1
            continue
        last, digits = found
        yield groups[first][0], groups[last][1], digits
        first = last + 1


def _longest_at(groups: list[tuple[int, int, str]], first: int) -> tuple[int, str] | None:
    """The longest card number that begins with a group, and the last group of it."""
    found, digits = None, ""
    for place in range(first, len(groups)):
        digits += groups[place][2]
        if len(digits) > LONGEST:
            break
        if is_card_number(digits):
            found = place, digits
    return found
