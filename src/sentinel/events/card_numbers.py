"""Card numbers: how they are recognised in texts, whoever put them there."""

import bisect
import itertools
import operator
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

SHORTEST, LONGEST = 12, 19
"""Digits of a card number."""

_BLANK = r"[^\w!-,./:-@\[-`{-~]"  # spaces, dashes, controls, marks: no letter, digit or point, seen or not
_OF_DECIMAL = "|".join(rf"(?<=(?<![\d.])\d{{{n}}}\.)" for n in (1, 2, 3))  # the first point, after few digits
_POINT = (  # between groups of up to six digits, as cards are printed: not in a decimal number, nor in `_1735689600_`
    rf"(?:[/_](?<!\d{{7}}.)(?!\d{{7}})|\.(?<!\d{{7}}\.)(?!\d{{7}})(?!(?:{_OF_DECIMAL})\d{{3,}}(?![\d.])))"
)
_BETWEEN = rf"(?:{_BLANK}|{_POINT})"
_RUN = re.compile(rf"\d(?:{_BETWEEN}{{0,3}}\d){{{SHORTEST - 1},}}")
_SEPARATOR = re.compile(r"[^\w!-,:-@\[-`{-~]|_")
_GROUP = re.compile(r"\d+")
_CUT_AFTER, _CUT_BEFORE = re.compile(rf"(?:\d|{_BETWEEN})+\Z"), re.compile(rf"(?:\d|{_BETWEEN})+")
_MACHINE_MADE = re.compile(  # UUIDs, hexadecimal ids and hashes: one in some thousands has such digits by chance
    r"(?<![0-9A-Za-z])(?:[0-9a-f]{24,}|[0-9A-F]{24,}"
    r"|(?=[0-9-]{0,35}[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:/[0-9]{1,2})?(?!\.))(?![0-9A-Za-z])"  # addresses of the internet, and their nets
)
_VALUES = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(bytes(range(10)), bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_NO_SUM, _ODD = b"\xff", 10
_TELLING = 4  # digits by which a network, and so the length, is known
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
_ASCII_BETWEEN = bytes(range(33)) + b"-./_\x7f"
_ENOUGH = b"0" * SHORTEST


def may_hold_card_number(raw: bytes) -> bool:
    """Whether JSON, or a text in UTF-8, may hold one; quick, and never wrong when it says no.

    >>> may_hold_card_number(b'{"card_id": "4111 1111-11111111"}'), may_hold_card_number(b'{"amount": 12.5}')
    (True, False)
    """
    seen = raw.translate(_DIGITS, _ASCII_BETWEEN)
    return _ENOUGH in seen or not seen.isascii()


def is_card_number(digits: str) -> bool:
    """Whether ASCII digits are a number of a card network: prefix, length and check digit (Luhn).

    >>> is_card_number("4111111111111111"), is_card_number("4111111111111112"), is_card_number("1111111111111117")
    (True, False, False)
    """
    if not SHORTEST <= len(digits) <= LONGEST or _NETWORKS.fullmatch(digits) is None:
        return False
    sums = _sums(digits.encode().translate(_VALUES), len(digits) % 2)
    return sums[0] == sums[-1]


def digits_of(text: str) -> str | None:
    """The digits of a text that has nothing but digits and what may stand between them; None for any other text.

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


def masked_ends(text: str, first: int, last: int = 0) -> str:
    """The same of a text that may be long: its `first` and `last` characters, without a part of a card number.

    >>> masked_ends("unknown field 4111111111111111, send none", 20, 20), masked_ends("unknown field", 20)
    ('unknown field..., send none', 'unknown field')
    """
    if len(text) <= first + last:
        return masked(text)
    begin = len(text) - last
    cut = _CUT_BEFORE.match(text, begin)
    return f"{masked(_CUT_AFTER.sub('', text[:first]))}...{masked(text[cut.end() if cut else begin :])}"


def quoted(text: str, most: int = 40) -> str:
    r"""At most `most` characters of a text in quotes, as `repr` writes it, and no card number: for messages.

    `repr` comes last: a line end or a space that it has written as letters would hide the number around it.

    >>> quoted("4111\n1111\n1111\n1111"), quoted("no\nnumber"), quoted("abcdefgh", 4)
    ("'[card number]'", "'no\\nnumber'", "'abcd'")
    """
    seen = text if len(text) <= 2 * most else _CUT_AFTER.sub("", text[: 2 * most])
    return repr(masked(seen)[:most])


def _numbers_in(text: str) -> Iterator[tuple[int, int, str]]:
    """The card numbers in a text, in order: where they begin and end, and their digits."""
    machine_made: Iterator[re.Match[str]] | None = None
    first = last = 0  # of the machine-made word that the next number may be in
    runs = [run.span() for run in _RUN.finditer(text)]
    for begin, end, digits in _numbers_among(text, runs) if runs else ():
        if machine_made is None:
            machine_made = _MACHINE_MADE.finditer(text)
        while last < end and (word := next(machine_made, None)) is not None:
            first, last = word.span()
        if not first <= begin < end <= last:
            yield begin, end, digits


def _numbers_among(text: str, runs: list[tuple[int, int]]) -> Iterator[tuple[int, int, str]]:
    """The same among the groups of digits in these parts of a text: the longest that begins with a group, and so on.

    All parts are looked at as one row of digits, and each digit a few times, whatever they are.
    """
    groups = [_GROUP.findall(text, begin, end) for begin, end in runs]
    digits = digits_of("".join(itertools.chain.from_iterable(groups))) or ""
    ends = list(itertools.accumulate(map(len, itertools.chain.from_iterable(groups)), initial=0))
    sums, at_ends = _luhn_sums(digits, ends)
    end_of_run = 0
    for (begin, end), own in zip(runs, groups, strict=True):
        spans: list[tuple[int, int]] = []
        first_of_run, end_of_run = end_of_run, end_of_run + len(own)
        first, last = first_of_run, ends[end_of_run]
        while first < end_of_run:
            at = ends[first]
            lengths = _lengths(digits[at : at + _TELLING])
            found = _longest(lengths, at, last, sums, at_ends) if lengths else 0
            if not found:
                first += 1
                continue
            spans = spans or [one.span() for one in _GROUP.finditer(text, begin, end)]
            after = bisect.bisect_left(ends, found)
            yield spans[first - first_of_run][0], spans[after - first_of_run - 1][1], digits[at:found]
            first = after


def _luhn_sums(digits: str, ends: list[int]) -> tuple[tuple[bytes, bytes], bytes]:
    """What the check digit is found by without adding a number's digits up: sums of all digits before each place.

    Every other digit counts double, but for the last: so there are sums for numbers that end at even places, and for
    those at odd ones. A number is right when its sum is the same, modulo 10, where it begins and where it ends. The
    second has the sums at the ends of groups only, of odd ones with 10 more.
    """
    values = digits.encode().translate(_VALUES)
    even, odd = (_sums(values, first) for first in (0, 1))
    at_ends = bytearray(_NO_SUM * len(even))
    for end in ends:
        at_ends[end] = odd[end] + _ODD if end & 1 else even[end]
    return (even, odd), bytes(at_ends)


def _sums(values: bytes, first_doubled: int) -> bytes:
    weighed = bytearray(values)
    weighed[first_doubled::2] = weighed[first_doubled::2].translate(_DOUBLED)
    return bytes(map(operator.mod, itertools.accumulate(weighed, initial=0), itertools.repeat(10)))


def _longest(lengths: int, begin: int, last: int, sums: tuple[bytes, bytes], at_ends: bytes) -> int:
    """Where the longest card number ends that begins at this digit and has one of these lengths; 0 if there is none."""
    shortest, beyond, longest = begin + SHORTEST, min(begin + LONGEST, last) + 1, 0
    for wanted in (sums[0][begin], sums[1][begin] + _ODD):
        end = at_ends.rfind(wanted, shortest, beyond)
        while end > longest:
            if lengths >> (end - begin) & 1:
                longest = end
                break
            end = at_ends.rfind(wanted, shortest, end)
    return longest


@lru_cache(maxsize=10_000)
def _lengths(prefix: str) -> int:
    """How long the card numbers are that begin with these digits: bit n is set for n digits."""
    lengths = range(SHORTEST, LONGEST + 1) if len(prefix) == _TELLING else ()
    return sum(1 << one for one in lengths if _NETWORKS.fullmatch(prefix.ljust(one, "0")))
